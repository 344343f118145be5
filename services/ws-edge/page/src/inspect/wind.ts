// Winding back: a moment of the session, and how it moves on with the original timing. Pure.

import type { Log } from "../log.ts";
import type { Playing } from "./player.ts";

export const SPEEDS = [0.5, 1, 2, 4, 8, 16] as const;
export type Speed = (typeof SPEEDS)[number];

/** Which moment is shown. */
export interface Wind {
  /** `live`: the last event, whichever that is. */
  mode: "live" | "paused" | "playing";
  /** Shown are the events below this index; of no meaning while live. */
  index: number;
  /** The moment, ms since 1970; of no meaning while live. */
  at: number;
  speed: Speed;
}

export const LIVE: Wind = { mode: "live", index: 0, at: 0, speed: 1 };

/** The index behind the last event that is shown. */
export function shown(wind: Wind, log: Log): number {
  return wind.mode === "live" ? log.end : Math.min(Math.max(wind.index, log.first), log.end);
}

/** The moment that is shown, ms since 1970; `now` while live. */
export function moment(wind: Wind, log: Log): number {
  return wind.mode === "live" ? (log.last?.ts ?? 0) : wind.at;
}

/** Goes to a moment, and stays there. */
export function seek(wind: Wind, log: Log, at: number): Wind {
  return { ...wind, mode: "paused", at, index: log.endAt(at) };
}

/** Goes to right behind an event, and stays there. */
export function seekIndex(wind: Wind, log: Log, index: number): Wind {
  const bounded = Math.min(Math.max(index, log.first), log.end);
  const entry = log.at(bounded - 1) ?? log.at(log.first);
  return { ...wind, mode: "paused", index: bounded, at: entry?.ts ?? 0 };
}

/** So many events on, or back. */
export function step(wind: Wind, log: Log, by: number): Wind {
  return seekIndex(wind, log, shown(wind, log) + by);
}

export function play(wind: Wind, log: Log): Wind {
  if (log.first === log.end) return wind;
  // From the end there is nothing to play but all of it.
  const start = shown(wind, log) >= log.end ? seekIndex(wind, log, log.first) : wind;
  return { ...start, mode: "playing" };
}

export function pause(wind: Wind, log: Log): Wind {
  return wind.mode === "live" ? seekIndex(wind, log, log.end) : { ...wind, mode: "paused" };
}

/** The sequence behind which it plays: that of the last event that is shown. */
export function placeOf(wind: Wind, log: Log): number {
  const end = shown(wind, log);
  const [before, first] = [log.at(end - 1), log.at(log.first)];
  return before?.seq ?? Math.max((first?.seq ?? 1) - 1, 0);
}

/** What `ms` of playing make of it: as far as the door has come, where it plays (`door`), and by this clock otherwise. At the last
 * event there is nothing more to play: it is live then. */
export function advance(wind: Wind, log: Log, ms: number, door: Playing | null = null): Wind {
  if (wind.mode !== "playing") return wind;
  if (door) return follow(wind, log, ms, door);
  const at = wind.at + ms * wind.speed;
  const last = log.last;
  if (!last || at >= last.ts) return { ...wind, mode: "live" };
  return { ...wind, at, index: Math.max(log.endAt(at), Math.min(wind.index, log.end)) };
}

/** Which events are shown the door says; between them the moment goes on, but not past the next one. */
function follow(wind: Wind, log: Log, ms: number, { place, live }: Playing): Wind {
  if (live) return { ...wind, mode: "live" };
  if (place === undefined) return wind;
  const index = Math.max(log.endOf(place), Math.min(wind.index, log.end));
  const [last, next] = [log.at(index - 1), log.at(index)];
  if (!next) return { ...wind, index, at: last?.ts ?? wind.at };
  const at = index > wind.index && last ? last.ts : wind.at + ms * wind.speed;
  return { ...wind, index, at: Math.min(at, Math.max(next.ts - 1, wind.at)) };
}
