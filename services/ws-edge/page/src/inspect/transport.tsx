// The buttons of a tape recorder.

import { useTongue, useWords } from "../words.ts";
import type { Log } from "../log.ts";
import { clock } from "./clock.ts";
import { SHORTEST_MS, type Range } from "./timeline.tsx";
import { LIVE, moment, pause, play, seekIndex, shown, SPEEDS, step, type Speed, type Wind } from "./wind.ts";

interface Props {
  log: Log;
  wind: Wind;
  setWind: (change: (wind: Wind) => Wind) => void;
  range: Range;
  /** The range is all there is. */
  whole: boolean;
  setRange: (range: Range | null) => void;
  /** A session is to be made that begins with what is shown. */
  onFork: () => void;
  forking: boolean;
}

export function Transport({ log, wind, setWind, range, whole, setRange, onFork, forking }: Props) {
  const words = useWords().look;
  const tongue = useTongue();
  const playing = wind.mode === "playing";
  const live = wind.mode === "live";
  const at = moment(wind, log);
  const end = shown(wind, log);
  const zoom = (factor: number) => {
    if ((range.t1 - range.t0) * factor < SHORTEST_MS) return;
    const center = Math.min(Math.max(at || range.t1, range.t0), range.t1);
    setRange({ t0: center - (center - range.t0) * factor, t1: center + (range.t1 - center) * factor });
  };
  const number = (n: number) => n.toLocaleString(tongue);
  return (
    <div class="transport">
      <div class="keys">
        <Key name={words.first} sign="first" act={() => setWind((wind) => seekIndex(wind, log, log.first + 1))} />
        <Key name={words.back} sign="back" act={() => setWind((wind) => step(wind, log, -1))} />
        <button type="button" id="play" class="primary key" aria-label={playing ? words.pause : words.play} title={playing ? words.pause : words.play}
          onClick={() => setWind((wind) => (playing ? pause(wind, log) : play(wind, log)))}>
          <Icon sign={playing ? "pause" : "play"} />
        </button>
        <Key name={words.forth} sign="forth" act={() => setWind((wind) => step(wind, log, 1))} />
        <button type="button" id="live" class={live ? "live is-on" : "live"} aria-pressed={live} title={words.toLive} onClick={() => setWind((wind) => ({ ...LIVE, speed: wind.speed }))}>
          <i aria-hidden="true" />{words.live}
        </button>
      </div>
      <label class="pick">
        <span class="unseen">{words.speed}</span>
        <select id="speed" value={String(wind.speed)} onChange={(event) => {
          const speed = Number(event.currentTarget.value) as Speed;
          setWind((wind) => ({ ...wind, speed }));
        }}>
          {SPEEDS.map((speed) => <option key={speed} value={String(speed)}>{speed.toLocaleString(tongue)}×</option>)}
        </select>
      </label>
      <p class="mono moment" id="moment">{log.end > 0 && end > log.first ? `${clock(at)} · ${number(end)} / ${number(log.end)}` : words.nothing}</p>
      <div class="keys zoom">
        <button type="button" id="fork" title={words.forkHint} aria-disabled={forking || end <= log.first} onClick={() => forking || end <= log.first || onFork()}>
          <Icon sign="fork" />{forking ? words.forking : words.fork}
        </button>
        <Key name={words.zoomOut} sign="minus" act={() => zoom(2)} />
        <Key name={words.zoomIn} sign="plus" act={() => zoom(0.5)} />
        <button type="button" class="key" aria-pressed={whole} onClick={() => setRange(null)}>{words.fit}</button>
      </div>
    </div>
  );
}

const SIGNS = {
  first: "M4 3h2v10H4zM13 3v10L6.5 8z",
  back: "M11 3v10L4.5 8z",
  forth: "M5 3v10l6.5-5z",
  play: "M4 2.5v11L13 8z",
  pause: "M4 3h3v10H4zM9 3h3v10H9z",
  fork: "M3.2 1.5h2v4.2L8 8.4l2.8-2.7V1.5h2v5L9 10.2v4.3H7v-4.3L3.2 6.5z",
  minus: "M3 7h10v2H3z",
  plus: "M7 3h2v4h4v2H9v4H7V9H3V7h4z",
};

/** Drawn, as not every device has a letter for it. */
function Icon({ sign }: { sign: keyof typeof SIGNS }) {
  return <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true"><path fill="currentColor" d={SIGNS[sign]} /></svg>;
}

function Key({ name, sign, act }: { name: string; sign: keyof typeof SIGNS; act: () => void }) {
  return <button type="button" class="key" aria-label={name} title={name} onClick={act}><Icon sign={sign} /></button>;
}
