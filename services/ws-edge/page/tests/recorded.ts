// The recorded game as the page would read it: the Game Master's streams, and what the arena said in the middle of them.

import { readFileSync } from "node:fs";
import type { Entry } from "../src/entry.ts";

const TRACES = "../../../shared/testkit/fixtures/traces";
/** The session whose debates were recorded. */
const GAME = /^arena\.9e503b5a-[0-9a-f-]+\.(.*)$/;

type Raw = [event: string, data: unknown];

const read = (name: string) => readFileSync(`${TRACES}/${name}`, "utf8");

export function stream(name: string): Raw[] {
  const all = [...read(name).matchAll(/^data: (.*)$/gm)].map(([, text]) => JSON.parse(text as string) as { type: string });
  return all.filter(({ type }) => type !== "heartbeat").map((data) => [`gm.${data.type}`, data]);
}

/** The rounds of the arena. */
function rounds(): Raw[][] {
  const all: Raw[][] = [];
  for (const line of read("arena.ndjson").trim().split("\n")) {
    const { subject, payload } = JSON.parse(line) as { subject: string; payload: unknown };
    const topic = GAME.exec(subject)?.[1];
    if (!topic || topic === "input.fakenews") continue;
    if (topic === "round.start") all.push([]);
    all.at(-1)?.push([`arena.${topic}`, payload]);
  }
  return all;
}

/** Two turns, an event each 40 ms. */
export function recorded(): Entry[] {
  const debates = rounds();
  const raw = [1, 2].flatMap((turn): Raw[] => {
    const choose = stream(`gm-choose.turn${turn}.sse`);
    const sent = choose.findIndex(([event]) => event === "gm.phase") + 1;
    return [...stream(`gm-propose.turn${turn}.sse`), ...choose.slice(0, sent), ...(debates[turn - 1] ?? []), ...choose.slice(sent)];
  });
  return entries(raw);
}

export function entries(raw: Raw[], from = 1): Entry[] {
  return raw.map(([event, data], at) => ({ event, data, seq: from + at * 2, ts: 1_700_000_000_000 + at * 40, lag: at % 3 ? at : null }));
}

export function start(): never {
  return JSON.parse(read("gm-start.json")) as never;
}
