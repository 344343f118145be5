// What can go wrong, said so that a person knows what to do.

/** What went wrong, in one word. */
export type ErrorCode =
  /** The URL, the path behind it, or what answers there is not Herald's. */
  | "bad_url"
  /** An option, or what was asked for, can't be followed. */
  | "bad_request"
  /** The door wants a token, or another one. */
  | "unauthorized"
  /** The token function failed. */
  | "token"
  /** This session, or what was asked for in it, is not allowed. */
  | "forbidden"
  /** An engine has ended the connection, or a newer one has taken its place. */
  | "ended"
  /** There is no such session, or nothing of that name. */
  | "not_found"
  /** There is too much of something: come back later. */
  | "limited"
  /** The door, or what is behind it, is not ready: come back later. */
  | "unavailable"
  /** Nothing answers, or not in time. */
  | "unreachable"
  /** The connection broke off. */
  | "broken"
  /** What came makes no sense. */
  | "protocol"
  /** A handler or a consumer failed. */
  | "internal";

/** An error of the client: `code` for programs, `message` for people. */
export class HeraldError extends Error {
  override readonly name = "HeraldError";

  declare readonly code: ErrorCode;
  /** The HTTP status or close code behind it, 0 where there is none. */
  declare readonly status: number;
  /** After how many milliseconds it is worth trying again, where the door said so. */
  declare readonly retryMs: number | undefined;

  constructor(code: ErrorCode, message: string, status = 0, retryMs?: number, cause?: unknown) {
    super(message, { cause });
    Object.assign(this, { code, status, retryMs });
  }
}
