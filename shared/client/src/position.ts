// Where a client stands in the log of its session, and what each frame means for that. Pure: the one place that decides
// what is new, what is a double, and what is missing.

import { HeraldError } from "./errors.ts";

/** Where to begin: with what comes next, with all that is kept, with the present state, or behind a place. */
export type From = "live" | "start" | "snapshot" | number | (string & {});

/** Events that can't be delivered any more: they were trimmed, or their log is gone. */
export interface Gap {
  /** The first sequence that is missing. */
  from: number;
  /** The last one. */
  to: number;
  /** `trimmed`, `epoch` (the log began anew), `beyond` (it is shorter than it was), `lost`. */
  reason: string;
}

/** A frame as it came. */
export interface Frame {
  event: string;
  data: unknown;
  seq?: number;
  ts?: number;
  prev?: number;
  snapshot?: boolean;
}

/** What an event is to a position: to be shown, seen already, proof that something before it is missing, which is to be
 * asked for; or, where that was in vain, to be shown behind this gap. */
export type Step = "new" | "double" | "lost" | Gap;

// What is missing is asked for so often.
const TIMES = 3;
const CURSOR = /^[0-9a-f]{8}-\d{1,20}$/;

export class Position {
  /** The sequence behind which everything is still to come. */
  seq = 0;
  /** Whether this connection has said in which life of the log it is. */
  greeted = false;
  #epoch: string | undefined;
  // How the next connection begins; "cursor" once there is a place to come back to.
  #from: "live" | "start" | "snapshot" | "seq" | "cursor";
  // A gap that leads into a life that is yet to be named.
  #leads: Gap | undefined;
  // Where something is missing, and how often it was asked for: then it is given up.
  #missed = -1;
  #asked = 0;

  constructor(from: From) {
    const text = String(from);
    if (/^(live|start|snapshot)$/.test(text)) {
      this.#from = text as "live";
    } else if (CURSOR.test(text)) {
      this.#from = "cursor";
      this.jump(text);
    } else if (/^\d{1,16}$/.test(text)) {
      this.seq = Number(text);
      this.#from = this.seq ? "seq" : "start";
    } else {
      throw new HeraldError("bad_request", `from: "${text}" is not live, start, snapshot or a cursor`);
    }
  }

  /** The place to come back to, once there is one. */
  get cursor(): string | undefined {
    return this.#from === "cursor" ? `${this.#epoch}-${this.seq}` : undefined;
  }

  /** The query of the next connection. */
  get query(): string {
    const from = this.#from;
    if (from === "live") return "";
    return from === "snapshot" ? "snapshot=1" : `after=${from === "cursor" ? this.cursor : this.seq}`;
  }

  /** A new connection begins: nothing is known of it yet. */
  begin(): void {
    this.greeted = false;
    this.#leads = undefined;
  }

  /** `herald.hello`. Returns the gap that led here. */
  hello(epoch: string, head: number): Gap | undefined {
    const gap = this.#leads;
    this.begin();
    this.greeted = true;
    if (gap) {
      this.#arrive(gap.to);
    } else if (this.#from === "live") {
      this.#arrive(head);
    } else if (this.#from === "seq") {
      this.#arrive(this.seq);
    } else if (epoch !== this.#epoch) {
      // Another life without a word: nothing that was seen is of it.
      this.seq = 0;
    }
    this.#epoch = epoch;
    return gap;
  }

  /** `herald.gap`. Returns it where it is one of this life; one that leads into another life comes with its hello. */
  gap(gap: Gap): Gap | undefined {
    if (!this.greeted || gap.reason === "epoch" || gap.reason === "beyond") {
      this.#leads = gap;
      return undefined;
    }
    if (gap.to <= this.seq) return undefined;
    this.#arrive(gap.to);
    return gap;
  }

  /** `herald.live`, `herald.replay`: everything behind that place is to come, be it before what was seen. */
  move(after: number): void {
    this.#arrive(after);
    if (!after) this.#from = "start";
  }

  /** Goes to a cursor that the door has named. */
  jump(cursor: string): void {
    this.#epoch = cursor.slice(0, 8);
    this.#arrive(Number(cursor.slice(9)));
  }

  /** An event. `prev`, where it has one, is the event shown before it: nothing is missing if that was seen. */
  event(seq: number, prev: number | undefined): Step {
    if (seq <= this.seq) return "double";
    const before = this.seq;
    const missing = prev !== undefined && prev > before;
    if (this.#missed !== before) this.#asked = 0;
    this.#missed = before;
    if (missing && this.#asked++ < TIMES) return "lost";
    this.#arrive(seq);
    return missing ? { from: before + 1, to: prev, reason: "lost" } : "new";
  }

  #arrive(seq: number): void {
    this.seq = seq;
    this.#from = "cursor";
  }
}
