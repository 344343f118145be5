// Names of events, patterns of names, and who wants to hear of them.

import type { HeraldError } from "./errors.ts";
import type { Gap } from "./position.ts";

/** Events by name, with what stands under `data`. A `*` in a name stands for one token, as in `arena.agent.*.output`. */
export type EventMap = object;

/** The names that a name with stars stands for. */
type Named<K extends string> = K extends `${infer Head}*${infer Tail}` ? `${Head}${string}${Named<Tail>}` : K;

/** The keys of `E` that a pattern means: one by its name, all below a prefix (`gm.>`), or all (`>`). */
export type KeysOf<E, P extends string> = P extends ">"
  ? keyof E & string
  : P extends `${infer Root}.>`
    ? Extract<keyof E, `${Root}.${string}`>
    : P extends keyof E
      ? P
      : { [K in keyof E & string]: P extends Named<K> ? K : K extends Named<P> ? K : never }[keyof E & string];

/** An event of the session. */
export interface HeraldEvent<Name extends string = string, Data = unknown> {
  /** Its name: `gm.proposal`, `arena.event.death`. */
  readonly event: Name;
  /** What its engine published. */
  readonly data: Data;
  /** Its place in the log. */
  readonly seq: number;
  /** When it was stored, ms since 1970. */
  readonly ts: number;
  /** Where to go on behind it, for `from`. None within a snapshot. */
  readonly cursor?: string;
  /** It is part of a snapshot: the state as it was, not something that happened now. */
  readonly snapshot?: true;
}

/** The event that a pattern brings. */
export type EventOf<E, P extends string> = [KeysOf<E, P>] extends [never]
  ? HeraldEvent
  : { [K in KeysOf<E, P>]: HeraldEvent<Named<K & string>, E[K & keyof E]> }[KeysOf<E, P>];

/** What the connection is doing. */
export type Status =
  /** A connection is being opened. */
  | { readonly state: "connecting" }
  /** Events flow. */
  | { readonly state: "open"; readonly transport: "websocket" | "sse" }
  /** It ended, and is tried again in `retryMs`. `error` says why, for people too. */
  | { readonly state: "waiting"; readonly retryMs: number; readonly error: HeraldError }
  /** A consumer is behind: the connection is closed until it has caught up, and goes on where it was. */
  | { readonly state: "paused" }
  /** It has ended for good: the session is `over`, the door `refused`, or `close()` was called. */
  | { readonly state: "closed"; readonly reason: "closed" }
  | { readonly state: "closed"; readonly reason: "over" | "refused"; readonly error: HeraldError };

/** How a session's past is to be played: several may stand together. */
export interface Order {
  /** Halt, or go on. */
  readonly pause?: boolean;
  /** From now on so many times as fast as it was, 0.1 to 64. */
  readonly speed?: number;
  /** Go on behind that place, back or forth: a cursor or a sequence, 0 for the first that is kept. */
  readonly seek?: number | string;
  /** Go to now, without what lies between: that is a place, too, and not to be halted at. */
  readonly live?: true;
}

/** How the past is played. */
export interface Replay {
  /** `refused`: nothing of what was wanted was done. */
  readonly state: "playing" | "paused" | "live" | "refused";
  /** Why it was refused: `beyond` (no such place yet), `epoch` (a place in another life of the log), `malformed`, `busy`. */
  readonly reason?: "beyond" | "epoch" | "malformed" | "busy";
  readonly speed: number;
  /** What comes next is behind that place. */
  readonly after: number;
}

/** Somebody who is there. */
export interface Person {
  /** The same for all connections of one user. */
  readonly id: string;
  /** Who it is, their role and their name, where a token says so. */
  readonly user?: string;
  readonly role?: string;
  readonly name?: string;
  /** Since when, ms since 1970. */
  readonly since: number;
}

/** What the client itself tells; names without a dot are never a session's. */
export interface ClientEvents {
  /** What the connection is doing has changed. */
  status: Status;
  /** Events are missing for good: reload what is derived from them. */
  gap: Gap;
  /** The snapshot is complete, or what was played again has come to now. */
  live: { after: number };
  /** How the past is played, or what of an order was refused: where a connection begins that plays it, and after each order. */
  replay: Replay;
  /** So many are there now. This and the next two come from routes that tell who is there. */
  presence: { readonly count: number };
  /** Somebody has come; so many are there now. */
  join: Person & { readonly count: number };
  /** Somebody has left. */
  leave: Person & { readonly count: number };
  /** An engine says something to this client alone. It is no event of the session: it has no place in the log. */
  message: { readonly event: string; readonly data: unknown };
  /** What this client says is read slower (`slowed`, nothing is lost), or was not taken (`refused`). */
  uplink: { readonly state: "slowed" | "refused"; readonly reason: string; readonly retry_ms: number };
  /** Something failed. What comes of it says `status`; here is everything that went wrong. */
  error: HeraldError;
}

type Handler = (value: never) => void;

/** A test for names by a pattern: tokens separated by dots, `*` for any one, `>` at the end for one or more. */
export function matcher(pattern: string): (name: string) => boolean {
  const tokens = pattern
    .split(".")
    .map((token) => (token === "*" ? "[^.]+" : token === ">" ? ".+" : token.replace(/\W/g, "\\$&")));
  const test = new RegExp(`^${tokens.join("\\.")}$`, "s");
  return (name) => test.test(name);
}

/** Who wants to hear of what. */
export class Listeners {
  #all = new Set<[matches: (name: string) => boolean, handler: Handler]>();

  /** Adds a handler; the answer takes it away again. The same function may be added twice: each time is its own. */
  add(pattern: string, handler: Handler): () => void {
    const entry: [(name: string) => boolean, Handler] = [matcher(pattern), handler];
    this.#all.add(entry);
    return () => void this.#all.delete(entry);
  }

  /** Calls the handlers of a name, in the order in which they were added. One that throws keeps nobody from being called, and
   * its error goes where uncaught errors go. */
  call(name: string, value: unknown): void {
    for (const [matches, handler] of [...this.#all]) {
      if (!matches(name)) continue;
      try {
        handler(value as never);
      } catch (error) {
        setTimeout(() => {
          throw error;
        });
      }
    }
  }
}
