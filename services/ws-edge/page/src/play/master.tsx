// The Game Master at work, as a terminal; and its plan, once it shows it.

import type { Lang } from "@herald/client";
import type { Game } from "../game.ts";
import { useScroll } from "../scroll.ts";
import type { Line } from "../terminal.ts";
import { useWords } from "../words.ts";

export function Master({ game, lines, lang }: { game: Game; lines: Line[]; lang: Lang | undefined }) {
  const words = useWords();
  const last = lines.at(-1);
  const scroll = useScroll<HTMLDivElement>(`${last?.seq} ${last?.text.length}`);
  const { strategy } = game;
  return (
    <section class="master" aria-labelledby="master-title">
      <h2 id="master-title">{words.master.title}</h2>
      <div class="terminal" role="log" aria-live="off" aria-labelledby="master-title" tabIndex={0} lang={lang} {...scroll}>
        {lines.length === 0 && <p class="is-result">{words.master.empty}</p>}
        {lines.map((line) => <p key={line.seq} class={`is-${line.kind}`}>{line.text}</p>)}
        {game.action && <i class="caret" aria-hidden="true" />}
      </div>
      {strategy && (
        <details class="card strategy">
          <summary>{words.master.strategy}</summary>
          <div lang={lang}>
            <p>{strategy.analysis}</p>
            <dl>
              <dt>{words.master.weak}</dt>
              <dd>{strategy.weak_spots.join(" · ")}</dd>
              <dt>{words.master.plan}</dt>
              <dd>{strategy.next_turn_plan}</dd>
              <dt>{words.master.goal}</dt>
              <dd>{strategy.long_term_goal}</dd>
            </dl>
          </div>
        </details>
      )}
    </section>
  );
}
