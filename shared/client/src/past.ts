// A session's past, by request: what there is of it, page by page, and forks. A second entry, for those who want it.

import type { ArenaEvents } from "./arena.ts";
import { command } from "./commands.ts";
import { doorOf, type Place } from "./door.ts";
import type { EventMap, EventOf } from "./events.ts";
import type { Gap } from "./position.ts";

/** What is kept of a session, as far as the door shows it. */
export interface Summary {
  readonly session: string;
  readonly epoch: string;
  /** The last sequence of the log. */
  readonly head: number;
  /** How many events, and how many of each name. */
  readonly events: number;
  readonly types: Readonly<Record<string, number>>;
  /** Of names that are too rare to be counted one by one. */
  readonly other_types?: number;
  readonly first: { readonly seq: number; readonly ts: number } | null;
  readonly last: { readonly seq: number; readonly ts: number } | null;
  /** Whether the session is over. */
  readonly over: boolean;
  /** Of a fork: up to where its log is the other one's. */
  readonly forked_at?: number;
  /** Of a fork of a long log: not all that it begins with is counted. */
  readonly uncounted?: true;
}

/** Some events, in order. */
export interface Page<E extends EventMap = ArenaEvents> {
  readonly session: string;
  readonly epoch: string;
  readonly head: number;
  readonly events: readonly EventOf<E, ">">[];
  /** Between which sequences something may be missing, and why. */
  readonly gaps: readonly Gap[];
  /** Where to go on: a cursor, also for `connect({ from })`. */
  readonly next: string;
  /** There is more by now. */
  readonly more: boolean;
}

/** Which events. */
export interface Wanted {
  /** Behind that place; without, from the first that is kept on. */
  after?: number | string;
  /** So many on a page, at most. */
  limit?: number;
  /** Of these names alone: `gm.proposal`, `arena.agent.*.output`, `gm.>`. */
  types?: readonly string[];
}

/** What was said in a session. All of it fails with a `HeraldError`. */
export interface Past<E extends EventMap = ArenaEvents> {
  /** What there is. */
  summary(): Promise<Summary>;
  /** One page. */
  page(wanted?: Wanted): Promise<Page<E>>;
  /** Page by page, up to where the session is by then. */
  pages(wanted?: Wanted): AsyncGenerator<Page<E>, void, undefined>;
  /** Makes a session whose log begins with that of this one, up to and including a place; without one: all of it. */
  fork(at?: number | string): Promise<{ readonly session_id: string; readonly at: number }>;
}

/**
 * The past of a session.
 *
 * @throws HeraldError where an option makes no sense.
 */
export function past<E extends EventMap = ArenaEvents>(place: Place): Past<E> {
  const door = doorOf(place);
  const ask = (what: string, query: object = {}, method = "GET") => command(door, `sessions/${door.session}${what}`, query, method);
  const page = async ({ after, limit, types }: Wanted = {}): Promise<Page<E>> => {
    const answer = (await ask("/events", { after: after && `${after}`, limit, types: types?.join(",") })) as Page<E>;
    const events = answer.events.map((event) => ({ ...event, cursor: `${answer.epoch}-${event.seq}` }));
    return { ...answer, events };
  };
  return {
    summary: () => ask(""),
    page,
    async *pages(wanted = {}) {
      for (let after = wanted.after; ; ) {
        const one = await page({ ...wanted, ...(after === undefined ? {} : { after }) });
        yield one;
        if (!one.more) return;
        after = one.next;
      }
    },
    fork: (at) => ask("/fork", { at: at === undefined ? undefined : `${at}` }, "POST"),
  };
}

export { HeraldError, type ErrorCode } from "./errors.ts";
export type { EventMap, EventOf, HeraldEvent } from "./events.ts";
export type { Gap } from "./position.ts";
export type { Place } from "./door.ts";
