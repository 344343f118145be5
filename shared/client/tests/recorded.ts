// Has the compiler check recorded events against the types: each becomes a constant of its type, so that a field that is
// missing, of another type or unknown to the types is an error.

import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";

export interface Recorded {
  event: string;
  data: unknown;
}

/** The key of `ArenaEvents` an event belongs to. */
export function keyOf(event: string): string {
  return event.replace(/^(arena\.agent\.)[^.]+\./, "$1*.");
}

/** What a value is made of, so that of many equal ones a few are checked. */
function shape(value: unknown): string {
  if (Array.isArray(value)) return `[${[...new Set(value.map(shape))].sort().join()}]`;
  if (typeof value !== "object" || value === null) return value === null ? "null" : typeof value;
  return `{${Object.entries(value).map(([key, item]) => `${key}:${shape(item)}`).sort().join()}}`;
}

/** Checks events; what the compiler says of them, "" where all is well. */
export function check(name: string, events: Recorded[]): string {
  const seen = new Map<string, number>();
  const lines = ['import type { ArenaEvents } from "../src/arena.ts";'];
  for (const { event, data } of events) {
    const key = keyOf(event);
    const what = `${key} ${shape(data)}`;
    const count = (seen.get(what) ?? 0) + 1;
    seen.set(what, count);
    // Texts are typed in places: some of each shape.
    if (count <= 20) lines.push(`{ const data: ArenaEvents[${JSON.stringify(key)}] = ${JSON.stringify(data)}; void data; }`);
  }
  return compile(name, lines);
}

/** What the compiler says of some lines in a file of their own, "" where all is well. */
export function compile(name: string, lines: string[]): string {
  mkdirSync("build", { recursive: true });
  writeFileSync(`build/${name}.ts`, lines.join("\n"));
  const config = { extends: "../tsconfig.json", compilerOptions: { types: [] }, include: [`${name}.ts`] };
  writeFileSync(`build/${name}.json`, JSON.stringify(config));
  try {
    execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", `build/${name}.json`], { encoding: "utf8" });
    return "";
  } catch (error) {
    return String((error as { stdout?: string }).stdout);
  }
}
