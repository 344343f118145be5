// Finding events: by a pattern of names, or by a text in them. Pure.

import type { Entry } from "../entry.ts";
import type { Log } from "../log.ts";

export type Test = (entry: Entry) => boolean;

/** A test for what a person has typed: words that must all be there. A word with a dot, a star or `>` is a pattern of names. */
export function parse(text: string): Test | null {
  const words = text.trim().split(/\s+/).filter(Boolean);
  if (!words.length) return null;
  const tests = words.map((word): Test => {
    if (/^[\w-]+(\.[\w*-]+)*(\.>)?$/.test(word) && /[.*]/.test(word) || word === ">") {
      const tokens = word.split(".").map((token) => (token === "*" ? "[^.]+" : token === ">" ? ".+" : token.replace(/\W/g, "\\$&")));
      // What is typed so far is the beginning of a name.
      const pattern = new RegExp(`^${tokens.join("\\.")}`, "s");
      return ({ event }) => pattern.test(event);
    }
    const wanted = word.toLowerCase();
    return ({ event, data, seq }) => event.includes(wanted) || String(seq) === wanted || (JSON.stringify(data) ?? "").toLowerCase().includes(wanted);
  });
  return (entry) => tests.every((test) => test(entry));
}

/** Looks through a log piece by piece, so that nobody waits; the answer grows with the log. */
export class Search {
  /** Indices of what was found. */
  found: number[] = [];
  readonly test: Test | null;
  #next: number | undefined;

  constructor(test: Test | null) {
    this.test = test;
  }

  /** Goes on for at most so many events; whether all of them were looked at. */
  go(log: Log, most: number): boolean {
    let next = Math.max(this.#next ?? log.first, log.first);
    const stop = Math.min(log.end, next + most);
    for (const entry of log.entries(next, stop)) {
      if (!this.test || this.test(entry)) this.found.push(next);
      next++;
    }
    this.#next = stop;
    // What was forgotten is no longer found.
    if ((this.found[0] ?? Infinity) < log.first) {
      const kept = this.found.findIndex((index) => index >= log.first);
      this.found.splice(0, kept < 0 ? this.found.length : kept);
    }
    return stop >= log.end;
  }
}
