// A session at a door: who it is that is asked, for what, and with which token.

import { HeraldError } from "./errors.ts";
import { Tokens, type TokenSource } from "./token.ts";

/** Where a session is. */
export interface Place {
  /** The session. */
  session: string;
  /** The door: `https://play.example`, `http://127.0.0.1:8000`. In a page: where it came from, unless given. */
  url?: string | URL;
  /** A token, or a function that brings a fresh one whenever one is needed: before the old one expires, or was refused. */
  token?: TokenSource;
  /** In place of the global one. */
  fetch?: typeof fetch;
}

/** A session at a door. */
export interface Door {
  base: URL;
  session: string;
  tokens: Tokens;
  request: typeof fetch;
}

/** @throws HeraldError where what is said can't be one. */
export function doorOf({ session, url = (globalThis.location as Location | undefined)?.origin, token, fetch: request = fetch }: Place): Door {
  if (!/^[a-zA-Z0-9][\w-]{0,63}$/.test(session)) {
    throw new HeraldError("bad_request", `session: "${session}" is not 1 to 64 letters, digits, - or _`);
  }
  try {
    // Without a query, and a folder.
    const base = new URL(String(url).replace(/^ws/, "http").replace(/\/?([?#].*)?$/s, "/"));
    if (/^https?:$/.test(base.protocol)) return { base, session, tokens: new Tokens(token), request };
  } catch {
    // It is none.
  }
  throw new HeraldError("bad_url", `url: "${url}" is no URL like https://play.example`);
}
