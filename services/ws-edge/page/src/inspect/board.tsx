// The game as it was at a moment: what the player saw then.

import type { Lang } from "@herald/client";
import { useMemo } from "preact/hooks";
import type { Log } from "../log.ts";
import { Arena } from "../play/arena.tsx";
import { Master } from "../play/master.tsx";
import { Opinion } from "../play/opinion.tsx";
import { KINDS } from "../game.ts";
import { lines } from "../terminal.ts";
import { useWords } from "../words.ts";
import { clock } from "./clock.ts";

export function Board({ log, end, at, lang }: { log: Log; end: number; at: number; lang: Lang | undefined }) {
  const words = useWords();
  const game = useMemo(() => log.gameAt(end), [log, end, log.end]);
  const said = useMemo(() => lines(log, end), [log, end, log.end]);
  return (
    <section class="board" aria-labelledby="board-title" data-shown={end}>
      <h2 id="board-title">{words.look.board} {end > log.first && <span class="soft mono">{clock(at, false)}</span>}</h2>
      <p class="soft">
        {game.turn > 0 || game.news ? words.turn(Math.min(Math.max(game.turn, 1), game.maxTurns || 10), game.maxTurns || 10) : words.before}
        {game.action && <> · {words.stages[game.action.stage]}</>}
        {game.failure && <> · {game.failure.error}</>}
        {game.end && <> · {words.end.title}</>}
      </p>
      {game.news && (
        <ol class="titles" lang={lang}>
          {KINDS.map((kind) => <li key={kind} class={`is-${kind}${game.chosen === kind ? " is-chosen" : ""}`}><span class="kind">{words.kinds[kind]}</span> {game.news?.[kind].text}</li>)}
        </ol>
      )}
      <div class="boards">
        <Arena game={game} lang={lang} />
        <div class="wing">
          <Opinion game={game} plot={false} />
          <Master game={game} lines={said} lang={lang} />
        </div>
      </div>
    </section>
  );
}
