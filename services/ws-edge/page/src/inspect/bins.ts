// How many events come, and how late: by pieces of time. Pure.

import type { Log } from "../log.ts";

export interface Bins {
  /** The middle of each piece, seconds since 1970. */
  xs: number[];
  /** Events a second, by root. */
  rates: Map<string, number[]>;
  /** The longest delay, ms; `null` where none is known. */
  lags: (number | null)[];
}

/** Roots that are told apart. */
const MOST = 4;
export const OTHERS = "…";

/** What happened from `t0` to `t1` (ms since 1970), in `count` pieces. */
export function bins(log: Log, t0: number, t1: number, count: number): Bins {
  const width = Math.max(t1 - t0, 1) / count;
  const xs = Array.from({ length: count }, (_, at) => (t0 + (at + 0.5) * width) / 1000);
  const rates = new Map<string, number[]>();
  const lags: (number | null)[] = xs.map(() => null);
  for (const { event, ts, lag } of log.entries(log.endAt(t0 - 1), log.endAt(t1))) {
    const at = Math.min(count - 1, Math.floor((ts - t0) / width));
    let root = event.slice(0, event.indexOf("."));
    if (!rates.has(root) && rates.size >= MOST) root = OTHERS;
    let rate = rates.get(root);
    if (!rate) rates.set(root, (rate = xs.map(() => 0)));
    rate[at] = (rate[at] as number) + 1000 / width;
    if (lag !== null) lags[at] = Math.max(lags[at] ?? 0, lag, 0);
  }
  return { xs, rates, lags };
}
