// The end of a connection: what it means, and what to do about it. Pure.

import { HeraldError, type ErrorCode } from "./errors.ts";

/** How a connection, or an attempt at one, ended. */
export interface End {
  /** A close code (1000 and above), an HTTP status, or 0 where nothing was said. */
  code: number;
  /** What the door said. */
  reason?: string;
  /** When to come back, where the door said so. */
  retryMs?: number | undefined;
  cause?: unknown;
}

/** What to do: come back, with a fresh token; or not at all. */
export interface Verdict {
  act: "retry" | "renew" | "stop" | "over";
  /** There is a gap: come back behind it. */
  after: string | undefined;
  error: HeraldError;
  floor: number;
}

/** The close code of a session that is over: nothing will come any more. An event stream is answered 204 then. */
export const OVER = 4411;
/** The token function failed. */
export const NO_TOKEN = -1;
/** What came was no frame of Herald's. */
export const NONSENSE = -2;
/** Something answers at this URL, but it is no door. */
export const NO_DOOR = -3;

// No sooner than this where the door has too much to do.
const BUSY_MS = 1000;
const FIRST_MS = 400;
const LONGEST_MS = 20_000;

type Row = [act: Verdict["act"], code: ErrorCode, text: string, floor?: number];

const FULL: Row = ["retry", "limited", "there is too much for the door", BUSY_MS];
const WRONG: Row = ["stop", "bad_request", "the door can't follow this request"];
const ENDS: Row = ["over", "not_found", "the session is over"];
const ROWS: Record<number, Row> = {
  [NO_DOOR]: ["stop", "bad_url", "this URL is not answered by Herald"],
  [NONSENSE]: ["retry", "protocol", "the door sent nonsense"],
  [NO_TOKEN]: ["retry", "token", "the token function failed"],
  0: ["retry", "unreachable", "the door does not answer: check URL and network"],
  204: ENDS,
  401: ["renew", "unauthorized", "the door wants a valid token"],
  403: ["stop", "forbidden", "this session is not yours to watch"],
  404: ["stop", "not_found", "no such session, or no Herald at this URL"],
  408: FULL,
  429: FULL,
  1003: WRONG,
  1008: FULL,
  1013: FULL,
  [OVER]: ENDS,
};

function row(code: number): Row {
  // A socket says by 4401, 4403 and 4404 what an event stream says by the status.
  const known = ROWS[code > 4400 && code < 4405 ? code - 4000 : code];
  if (known) return known;
  if (code > 399 && code < 500) return WRONG;
  if (code > 499 && code < 600) return ["retry", "unavailable", "the door is not ready", BUSY_MS];
  // The other codes of applications are an engine's, or its route's: this connection is not wanted any more.
  if (code > 2999 && code !== 4408 && code !== 4410) return ["stop", "ended", "the door ended the connection"];
  return ["retry", "broken", "the connection broke"];
}

/** What to do about an end. */
export function judge(end: End): Verdict {
  const { code, reason = "" } = end;
  const [act, word, text, floor = 0] = row(code);
  const after = code === 4410 ? /after=([0-9a-f]{8}-\d+)$/.exec(reason)?.[1] : undefined;
  const seconds = /retry in (\d+) s/.exec(reason)?.[1];
  const retryMs = end.retryMs ?? (seconds ? Number(seconds) * 1000 : undefined);
  const message = reason ? `${text} (${reason})` : text;
  const error = new HeraldError(word, message, Math.max(code, 0), retryMs, end.cause);
  return { act, after, error, floor };
}

/** How long to wait before attempt number `attempt` (from 0): any time up to a limit that doubles, so that many who were
 * cut off together don't come back together; but not less than `floor`. */
export function pause(attempt: number, floor = 0): number {
  return floor + Math.random() * Math.min(LONGEST_MS, FIRST_MS * 2 ** attempt);
}
