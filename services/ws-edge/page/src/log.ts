// The events of a session as this page has read them, bounded, with what the game was like at any of them. Pure.
//
// An index counts all events that were ever read; the oldest are forgotten in whole chunks. Each chunk remembers the game before its
// first event, so that any state is found by playing at most one chunk.

import { begun, NOTHING, reduce, type Game } from "./game.ts";
import type { Entry } from "./entry.ts";

const CHUNK = 256;
/** What is kept at most, in events and in characters of their data. */
export const MOST_EVENTS = 50_000;
export const MOST_CHARS = 64 << 20;

interface Chunk {
  /** Index of its first event. */
  from: number;
  before: Game;
  entries: Entry[];
  chars: number;
}

export class Log {
  /** Index behind the last event: how many were read. */
  end = 0;
  #chunks: Chunk[] = [];
  #chars = 0;
  #game: Game = NOTHING;
  /** A game that begins behind a sequence that is yet to be passed. */
  #begins: { after: number; game: Game } | undefined;
  #most: number;
  #mostChars: number;

  constructor(most = MOST_EVENTS, mostChars = MOST_CHARS) {
    this.#most = most;
    this.#mostChars = mostChars;
  }

  /** The game after the last event. */
  get game(): Game {
    const { last } = this;
    return this.#begins && (!last || last.seq >= this.#begins.after) ? this.#begins.game : this.#game;
  }

  /** Index of the first event that is kept. */
  get first(): number {
    return this.#chunks[0]?.from ?? this.end;
  }

  get last(): Entry | undefined {
    return this.at(this.end - 1);
  }

  /** What the game was like before the first event that is kept. */
  get oldest(): Game {
    return this.#chunks[0]?.before ?? this.game;
  }

  append(entry: Entry): void {
    let chunk = this.#chunks.at(-1);
    if (this.#begins && entry.seq > this.#begins.after) {
      this.#game = this.#begins.game;
      this.#begins = undefined;
      chunk = undefined;
    }
    if (!chunk || chunk.entries.length >= CHUNK) {
      chunk = { from: this.end, before: this.#game, entries: [], chars: 0 };
      this.#chunks.push(chunk);
    }
    chunk.entries.push(entry);
    const chars = JSON.stringify(entry.data)?.length ?? 0;
    chunk.chars += chars;
    this.#chars += chars;
    this.end++;
    this.#game = reduce(this.#game, entry);
    while (this.#chunks.length > 1 && (this.end - this.first > this.#most || this.#chars > this.#mostChars)) {
      this.#chars -= (this.#chunks.shift() as Chunk).chars;
    }
  }

  /** A game began behind that sequence: no event says so, the answer to the command does. */
  begin(after: number, start: Parameters<typeof begun>[0]): void {
    this.#begins = { after, game: begun(start) };
  }

  at(index: number): Entry | undefined {
    const chunk = this.#chunkOf(index);
    return chunk?.entries[index - chunk.from];
  }

  /** The game after the first `index` events. */
  gameAt(index: number): Game {
    if (index >= this.end) return this.game;
    const chunk = this.#chunkOf(index);
    if (!chunk) return this.oldest;
    let game = chunk.before;
    for (let at = chunk.from; at < index; at++) game = reduce(game, chunk.entries[at - chunk.from] as Entry);
    return game;
  }

  /** How many events were stored at that time or before: the index behind the last of them. */
  endAt(ts: number): number {
    return this.#behind((entry) => entry.ts <= ts);
  }

  /** How many events have that sequence or a lower one: the index behind the last of them. */
  endOf(seq: number): number {
    return this.#behind((entry) => entry.seq <= seq);
  }

  #behind(is: (entry: Entry) => boolean): number {
    let [low, high] = [this.first, this.end];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (is(this.at(middle) as Entry)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The events from an index up to another one. */
  *entries(from = this.first, to = this.end): Generator<Entry> {
    let index = Math.max(from, this.first);
    for (let chunk = this.#chunkOf(index); chunk && index < to; chunk = this.#chunkOf(index)) {
      const stop = Math.min(to, chunk.from + chunk.entries.length);
      for (; index < stop; index++) yield chunk.entries[index - chunk.from] as Entry;
    }
  }

  #chunkOf(index: number): Chunk | undefined {
    if (index < this.first || index >= this.end) return undefined;
    let [low, high] = [0, this.#chunks.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((this.#chunks[middle] as Chunk).from <= index) low = middle;
      else high = middle - 1;
    }
    return this.#chunks[low];
  }
}
