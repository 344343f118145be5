// The door plays the session again, in its own time: a connection of its own that says where it is. What is shown then is what was
// read already; who does not get it from the door plays by the clock of this device.

import { connect, type Herald, type Options } from "@herald/client";

/** How a door plays. */
export interface Playing {
  /** The sequence up to which it has come; none before it has said so. */
  readonly place: number | undefined;
  /** It has come to now. */
  readonly live: boolean;
}

/** After so long without an answer it is not waited for. */
const PATIENCE_MS = 4000;
/** A connection that is halted for so long is given back to others. */
const HALTED_MS = 60_000;

export class Player {
  #options: Pick<Options, "session" | "url" | "token">;
  #open: typeof connect;
  #herald: Herald | undefined;
  #place: number | undefined;
  #live = false;
  #playing = false;
  /** Where it was sent and has not said to be yet: what comes till then is of the place before. */
  #sought: number | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** This door does not play, or not now. */
  #refused = false;

  constructor(options: Pick<Options, "session" | "url" | "token">, open: typeof connect = connect) {
    this.#options = options;
    this.#open = open;
  }

  /** How the door plays; `null`: it does not. */
  get door(): Playing | null {
    return this.#refused ? null : { place: this.#sought === undefined ? this.#place : undefined, live: this.#live };
  }

  /** Plays from behind a sequence, or, where it does so already, as fast as that. */
  play(seq: number, speed: number): void {
    clearTimeout(this.#timer);
    if (this.#herald && this.#playing) return this.#herald.replay({ speed });
    this.#playing = true;
    this.#live = this.#refused = false;
    if (!this.#herald) {
      this.#begin(seq, speed);
    } else if (this.#place === seq && this.#sought === undefined) {
      this.#herald.replay({ pause: false, speed });
    } else {
      this.#sought = seq;
      this.#herald.replay({ seek: seq, pause: false, speed });
    }
    this.#timer = setTimeout(() => {
      if (this.#sought !== undefined) this.#refuse();
    }, PATIENCE_MS);
  }

  /** Halts. */
  pause(): void {
    if (!this.#playing) return;
    clearTimeout(this.#timer);
    this.#playing = false;
    this.#herald?.replay({ pause: true });
    this.#timer = setTimeout(() => this.close(), HALTED_MS);
  }

  /** Ends it; `play` begins anew. */
  close(): void {
    clearTimeout(this.#timer);
    const herald = this.#herald;
    this.#herald = undefined;
    herald?.close();
    this.#playing = false;
    this.#place = this.#sought = undefined;
  }

  #begin(seq: number, speed: number): void {
    this.#sought = seq;
    this.#place = undefined;
    const herald = this.#open({ ...this.#options, from: seq, speed });
    this.#herald = herald;
    const own = (act: () => void) => {
      if (herald === this.#herald) act();
    };
    herald.on(">", ({ seq }) => own(() => {
      if (this.#sought === undefined) this.#place = seq;
    }));
    herald.on("replay", ({ state, after }) => own(() => {
      if (state === "refused") return this.#refuse();
      if (this.#sought !== undefined && after !== this.#sought) return;
      this.#sought = undefined;
      this.#place = after;
    }));
    herald.on("live", ({ after }) => own(() => {
      this.#sought = undefined;
      this.#place = after;
      this.#live = true;
    }));
    herald.on("status", (status) => own(() => {
      // One that is full would be asked again and again.
      const full = status.state === "waiting" && ["limited", "unavailable"].includes(status.error.code);
      if (status.state === "closed" || (full && this.#sought !== undefined)) this.#refuse();
    }));
  }

  #refuse(): void {
    this.close();
    this.#refused = true;
  }
}
