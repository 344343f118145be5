// The characters of the Game Master's dashboard, and how they took the news.

import type { DashboardAgent, Lang, Reaction } from "@herald/client";
import { Bar } from "../bar.tsx";
import type { Game } from "../game.ts";
import { useWords } from "../words.ts";
import { Initial } from "./arena.tsx";

const STATS = ["croyance", "confiance", "richesse"] as const;

export function Public({ game, lang }: { game: Game; lang: Lang | undefined }) {
  const words = useWords();
  return (
    <section class="public" aria-labelledby="public-title">
      <h2 id="public-title">{words.public.title}</h2>
      {game.public.length === 0 && <p class="soft empty">{words.public.none}</p>}
      <ul class="people">
        {game.public.map((one) => (
          <li key={one.agent_id}><Person one={one} reaction={game.reactions.find(({ agent_id }) => agent_id === one.agent_id)} lang={lang} /></li>
        ))}
      </ul>
    </section>
  );
}

function Person({ one, reaction, lang }: { one: DashboardAgent; reaction: Reaction | undefined; lang: Lang | undefined }) {
  const words = useWords();
  // Game Masters without an arena say so in brackets.
  const text = String(reaction?.reaction_text ?? "");
  const said = text.startsWith("[") ? "" : text;
  return (
    <article class="card person">
      <header>
        <Initial id={one.agent_id} name={one.name} />
        <div>
          <h3>{one.name}</h3>
          <p class="soft" lang={lang}>{[one.country, one.level, one.is_neutralized ? words.public.neutral : ""].filter(Boolean).join(" · ")}</p>
        </div>
      </header>
      <dl class="stats">
        {STATS.map((stat) => {
          const value = Number(one.stats?.[stat] ?? 0);
          return (
            <div key={stat}>
              <dt>{words.public[stat]}</dt>
              <dd><Bar name={words.public[stat]} value={value} /><span>{Math.round(value)}</span></dd>
            </div>
          );
        })}
      </dl>
      {said && <p class="quote" lang={lang}>{said}</p>}
    </article>
  );
}
