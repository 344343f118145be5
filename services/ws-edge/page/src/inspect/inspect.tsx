// A session looked into: its events on a timeline, any of them in detail, and the game as it was at any moment.

import { useEffect, useMemo, useState } from "preact/hooks";
import { useLooked, useWatch } from "../hooks.ts";
import { OpenSession } from "../open.tsx";
import { TroubleBox } from "../trouble.tsx";
import { useTongue, useWords } from "../words.ts";
import type { Watch } from "../watch.ts";
import { Board } from "./board.tsx";
import { Detail } from "./detail.tsx";
import { parse, Search } from "./filter.ts";
import { Lanes } from "./lanes.ts";
import { List } from "./list.tsx";
import { Plots } from "./plots.tsx";
import { fitted, Timeline, type Range } from "./timeline.tsx";
import { Transport } from "./transport.tsx";
import { format } from "../route.ts";
import { Operators } from "./operators.tsx";
import { Player } from "./player.ts";
import { Summary } from "./summary.tsx";
import { advance, LIVE, moment, placeOf, seekIndex, shown, type Wind } from "./wind.ts";

interface Props {
  watch: Watch | undefined;
  token: string;
  onToken: (token: string) => void;
}

export function Inspect({ watch, wrong, token, onToken }: Props & { wrong: string | undefined }) {
  const words = useWords();
  return (
    <div class="inspect">
      <h1 class="unseen">{words.inspect}</h1>
      <OpenSession key={wrong} view="inspect" label={words.look.session} session={watch?.session ?? ""} wrong={wrong} class="open" />
      {watch ? <Session key={watch.session} watch={watch} token={token} onToken={onToken} /> : <p class="soft empty">{words.look.noSession}</p>}
      <Operators token={token} onToken={onToken} session={watch?.session} />
    </div>
  );
}

/** Events that a search looks at in one frame. */
const PIECE = 3000;

function Session({ watch, token, onToken }: Props & { watch: Watch }) {
  useWatch(watch);
  const words = useWords();
  const tongue = useTongue();
  const { log } = watch;
  const [wind, setWind] = useState<Wind>(LIVE);
  const [range, setRange] = useState<Range | null>(null);
  const [picked, pick] = useState<number | null>(null);
  const [text, setText] = useState("");
  const [searched, setSearched] = useState(0);

  // Playing: the door does, and the page looks with each frame of the screen how far it is. It stops with a page that nobody looks at.
  const playing = wind.mode === "playing";
  const looked = useLooked();
  const player = useMemo(() => new Player(watch.place), [watch]);
  useEffect(() => () => player.close(), [player]);
  useEffect(() => {
    if (playing && looked) player.play(placeOf(wind, log), wind.speed);
    else if (wind.mode === "live") player.close();
    else player.pause();
  }, [player, wind.mode, wind.speed, looked]);
  useEffect(() => {
    if (!playing || !looked) return undefined;
    let last = performance.now();
    let frame = requestAnimationFrame(function go(now) {
      const ms = Math.max(now - last, 0);
      setWind((wind) => advance(wind, log, ms, player.door));
      last = now;
      frame = requestAnimationFrame(go);
    });
    return () => cancelAnimationFrame(frame);
  }, [playing, looked, log, player]);

  const lanes = useMemo(() => new Lanes(), [watch]);
  lanes.read(log.entries(lanes.end, log.end), log.end);

  const search = useMemo(() => new Search(parse(text)), [text, watch]);
  const done = search.go(log, PIECE);
  useEffect(() => {
    if (done) return undefined;
    const frame = requestAnimationFrame(() => setSearched((n) => n + 1));
    return () => cancelAnimationFrame(frame);
  }, [done, searched, search, watch.version]);

  const end = shown(wind, log);
  const at = moment(wind, log);
  const seen = range ?? fitted(log);
  // A moment that moves by itself takes what is seen along.
  useEffect(() => {
    if (range && wind.mode !== "paused" && (at < range.t0 || at > range.t1)) {
      const width = range.t1 - range.t0;
      setRange({ t0: at - width * 0.2, t1: at + width * 0.8 });
    }
  }, [at, range, wind.mode]);
  const count = (n: number) => n.toLocaleString(tongue);
  const fork = async () => {
    const made = await watch.fork(placeOf(wind, log));
    if (made) location.hash = format({ view: "inspect", session: made });
  };
  const choose = (index: number) => {
    pick(index);
    setWind((wind) => seekIndex(wind, log, index + 1));
  };
  return (
    <>
      <TroubleBox watch={watch} token={token} onToken={onToken} />
      <Summary watch={watch} onKind={setText} />
      <section class="time card" aria-label={words.look.timeline}>
        <Transport log={log} wind={wind} setWind={setWind} range={seen} whole={range === null} setRange={setRange}
          onFork={() => void fork()} forking={watch.pending === "fork"} />
        <Timeline log={log} wind={wind} setWind={setWind} lanes={lanes} range={seen} setRange={setRange} search={search}
          picked={picked} onPick={pick} version={watch.version} />
        <Plots log={log} range={seen} version={watch.version} />
      </section>
      <div class="halves">
        <section class="events card" aria-labelledby="events-title">
          <h2 id="events-title">{words.look.list}</h2>
          <label class="filter">
            <span class="unseen">{words.look.filter}</span>
            <input type="search" placeholder={words.look.filterHint} value={text} spellcheck={false} autocomplete="off" onInput={(event) => setText(event.currentTarget.value)} />
          </label>
          <p class="soft matching" role="status">{search.test ? (done ? words.look.matching(count(search.found.length)) : words.look.searching) : ""}</p>
          <List log={log} found={search.found} end={end} picked={picked} onPick={choose} live={wind.mode === "live"} />
        </section>
        <Detail entry={picked === null ? undefined : log.at(picked)} session={watch.session} token={!!token} />
      </div>
      <Board log={log} end={end} at={at} lang={watch.lang} />
    </>
  );
}
