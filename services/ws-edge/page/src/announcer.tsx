// Says to screen readers what those who see it can't miss: few words, at turning points.

import { useEffect, useRef, useState } from "preact/hooks";
import { useWatch } from "./hooks.ts";
import type { Game } from "./game.ts";
import type { Watch } from "./watch.ts";
import { useWords, type Words } from "./words.ts";

export function Announcer({ watch }: { watch: Watch }) {
  useWatch(watch);
  const words = useWords();
  const [said, say] = useState("");
  const before = useRef<Game | undefined>(undefined);
  const { game } = watch.log;
  useEffect(() => {
    // What was there before this page is no news.
    const text = before.current ? news(before.current, game, words) : "";
    before.current = game;
    if (text) say(text);
  }, [game]);
  return <p class="unseen" role="status" aria-live="polite">{said}</p>;
}

/** What is to be said of the way from one state to another. */
export function news(before: Game, now: Game, words: Words): string {
  const all: string[] = [];
  if (now.end && !before.end) all.push(words.end.title);
  else if (now.turn > before.turn && before.turn > 0) all.push(words.announce.turn(now.turn));
  if (now.news && !before.news) all.push(words.announce.news);
  if (now.posters && !before.posters) all.push(words.announce.posters);
  if (now.verdict && !before.verdict) all.push(now.verdict);
  if (now.phase !== before.phase && now.phase > 0) all.push(words.arena.phase(now.phase, words.arena.phases[now.phase] ?? ""));
  for (const said of now.said.filter(({ seq }) => seq > (before.said.at(-1)?.seq ?? 0))) {
    if (said.kind === "death") all.push(words.arena.died(said.name));
    if (said.kind === "clone") all.push(words.arena.cloned(said.name, said.child));
  }
  if (now.failure && now.failure !== before.failure) all.push(words.announce.error);
  return all.join(" ");
}
