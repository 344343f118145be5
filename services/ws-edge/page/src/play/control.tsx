// Where the game stands, what runs, and what can be done next.

import { useNow } from "../hooks.ts";
import { STAGES, type Action, type Game } from "../game.ts";
import type { Watch } from "../watch.ts";
import { useTongue, useWords } from "../words.ts";

export function Control({ watch, game, onBegin }: { watch: Watch; game: Game; onBegin: () => void }) {
  const words = useWords();
  const tongue = useTongue();
  const { pending } = watch;
  const busy = !!game.action || !!pending;
  const over = watch.status.state === "closed";
  const known = game.turn > 0 || game.news !== null;
  const of = game.maxTurns || 10;
  // Behind the last turn there is no other one.
  const turn = Math.min(Math.max(game.turn, 1), of);
  const next = () => (known || watch.log.end > 0 ? void watch.propose(tongue) : onBegin());
  const label = !known ? (watch.log.end ? words.ask : words.home.start) : game.settled || game.action?.kind === "choose" ? words.next : words.ask;
  // With news on the table the choice is next; others can be asked for where that has failed.
  const main = !game.news || game.settled || !!game.verdict || !!game.failure;
  return (
    <section class="control" aria-busy={busy}>
      <div class="where">
        <h1>{known ? words.turn(turn, of) : words.before}</h1>
        {known && <Turns turn={turn} of={of} over={!!game.end} />}
      </div>
      {game.action ? <Progress action={game.action} /> : pending && pending !== "cancel" ? <Waiting starting={pending === "start"} /> : null}
      <div class="acts">
        {!game.end && (main || busy) && (
          <button type="button" class="primary" id="next" aria-disabled={busy || over} onClick={() => !busy && !over && next()}>{label}</button>
        )}
        {game.action && <button type="button" id="stop" onClick={() => void watch.cancel()}>{words.stop}</button>}
        {!busy && known && !over && <button type="button" class="quiet" id="again" onClick={onBegin}>{words.again}</button>}
      </div>
    </section>
  );
}

function Turns({ turn, of, over }: { turn: number; of: number; over: boolean }) {
  // One mark each, as long as they can be told apart.
  if (of > 30) return null;
  const marks = Array.from({ length: of }, (_, at) => (at + 1 < turn || over ? "past" : at + 1 === turn ? "now" : "ahead"));
  return <span class="turns" aria-hidden="true">{marks.map((mark, at) => <i key={at} class={mark} />)}</span>;
}

function Progress({ action }: { action: Action }) {
  const words = useWords();
  const now = useNow(1000);
  const stages: readonly (keyof typeof words.stages)[] = STAGES[action.kind];
  const place = stages.indexOf(action.stage);
  // Clocks differ: no time is better than a wrong one.
  const seconds = Math.round((now - action.since) / 1000);
  return (
    <div class="progress">
      <div class="steps" role="progressbar" aria-label={words.stages[action.stage]} aria-valuemin={0} aria-valuemax={stages.length} aria-valuenow={place + 1} aria-valuetext={words.stages[action.stage]}>
        {stages.map((stage, at) => <i key={stage} class={at < place ? "past" : at === place ? "now" : "ahead"} />)}
      </div>
      <p>
        <strong>{words.stages[action.stage]}</strong>
        {seconds >= 0 && seconds < 3600 && <span class="soft"> · {words.seconds(seconds)}</span>}
        {/\s/.test(action.note) && <span class="soft wide"> · {action.note}</span>}
        {action.written > 0 && <span class="soft wide"> · {words.characters_written(action.written)}</span>}
      </p>
    </div>
  );
}

function Waiting({ starting }: { starting: boolean }) {
  const words = useWords();
  return (
    <div class="progress">
      <div class="steps"><i class="now" /></div>
      <p><strong>{starting ? words.home.starting : words.sent}</strong></p>
    </div>
  );
}
