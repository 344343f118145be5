// The debate: who is there, and what they say, as it happens.

import type { Lang } from "@herald/client";
import type { ComponentChildren } from "preact";
import type { Debater, Game, Said } from "../game.ts";
import { useScroll } from "../scroll.ts";
import { useWords } from "../words.ts";

export function Arena({ game, lang }: { game: Game; lang: Lang | undefined }) {
  const words = useWords();
  const { debaters, said, round, phase } = game;
  const scroll = useScroll<HTMLDivElement>(said.at(-1)?.seq);
  const name = words.arena.phases[phase] ?? "";
  return (
    <section class="arena" aria-labelledby="arena-title">
      <header>
        <h2 id="arena-title">{words.arena.title}</h2>
        {round > 0 && <p class="soft">{words.arena.round(round)}{phase > 0 && ` · ${words.arena.phase(phase, name)}`}</p>}
      </header>
      {debaters.length > 0 ? (
        <ul class="debaters">{debaters.map((one) => <li key={one.id}><Face one={one} /></li>)}</ul>
      ) : (
        <p class="soft empty">{game.settled ? words.arena.absent : words.arena.none}</p>
      )}
      {said.length > 0 && (
        <div class="debate" role="log" aria-live="off" aria-label={words.arena.debate} tabIndex={0} {...scroll}>
          <ol>{said.map((one) => <Item key={one.seq} one={one} lang={lang} />)}</ol>
        </div>
      )}
    </section>
  );
}

function Face({ one }: { one: Debater }) {
  const words = useWords();
  return (
    <div class={`debater is-${one.state}`}>
      <Initial id={one.id} name={one.name} />
      <div>
        <strong>{one.name}</strong>
        <span class="soft state">{words.arena[one.state]}{one.state === "thinking" && <i class="dots" aria-hidden="true" />}</span>
        {one.parent && <span class="soft">{words.arena.clone(one.parent)}</span>}
      </div>
      {one.confidence > 0 && one.state !== "dead" && (
        <span class="confidence" role="img" aria-label={words.arena.confidence(one.confidence)}>
          {[1, 2, 3, 4, 5].map((at) => <i key={at} class={at <= one.confidence ? "on" : ""} />)}
        </span>
      )}
    </div>
  );
}

/** A letter in a colour of its own: the same person is the same colour everywhere. */
export function Initial({ id, name }: { id: string; name: string }) {
  let hash = 0;
  for (const char of id) hash = (hash * 31 + char.charCodeAt(0)) >>> 0;
  return <span class={`initial hue-${hash % 8}`} aria-hidden="true">{[...name][0] ?? "?"}</span>;
}

function Item({ one, lang }: { one: Said; lang: Lang | undefined }) {
  const words = useWords();
  switch (one.kind) {
    case "phase":
      return <li class="mark">{words.arena.phase(one.phase, words.arena.phases[one.phase] ?? "")}</li>;
    case "death":
      return <li class="mark is-death"><span aria-hidden="true">†</span> {words.arena.died(one.name)}</li>;
    case "clone":
      return <li class="mark is-clone"><span aria-hidden="true">+</span> {words.arena.cloned(one.name, one.child)}</li>;
    case "over":
      return <li class="mark">{words.arena.over(one.names.join(", "))}</li>;
    case "take":
      return (
        <li class="take">
          <Initial id={one.id} name={one.name} />
          <div>
            <strong>{one.name}</strong>
            {one.votes.length > 0 ? <p class="soft">{words.arena.votes} {one.votes.join(" › ")}</p> : <div lang={lang}>{paragraphs(one.text)}</div>}
          </div>
        </li>
      );
  }
}

/** Paragraphs, and what is between two stars on each side is strong; all else is text. */
export function paragraphs(text: string): ComponentChildren {
  return text.split(/\n\n+/).map((part, at) => (
    <p key={at}>{part.split("**").map((piece, place) => (place % 2 ? <strong key={place}>{piece}</strong> : piece))}</p>
  ));
}
