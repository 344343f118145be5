// Tokens: from where they come, and when a fresh one is due.

import { HeraldError } from "./errors.ts";

/** A token, or a function that brings a fresh one. */
export type TokenSource = string | (() => string | Promise<string>);

// A fresh token is asked for when so much of its time has passed, but not sooner than that after the last one.
const PART = 0.8;
const SOONEST_MS = 5000;
// The longest time that timers know.
const FAR_MS = 2 ** 31 - 1;

export class Tokens {
  #source: TokenSource | undefined;
  #current: Promise<string> | undefined;

  constructor(source: TokenSource | undefined) {
    this.#source = source;
  }

  /** Whether a token that is refused can be replaced by a fresh one. */
  get renewable(): boolean {
    return typeof this.#source === "function";
  }

  /** The token, `undefined` where there is none. Several who ask at once share one call of the function. */
  async get(): Promise<string | undefined> {
    if (typeof this.#source !== "function") return checked(this.#source);
    const source = this.#source;
    const current = (this.#current ??= (async () => checked((await source()) ?? ""))());
    current.catch(() => this.drop(current));
    return current;
  }

  /** The next `get` asks for a fresh one. */
  drop(only = this.#current): void {
    if (this.#current === only) this.#current = undefined;
  }
}

/** After how many milliseconds a token that was just made is to be renewed; `undefined`: it does not say when it ends. */
export function renewIn(token: string, now: number): number | undefined {
  const { exp, iat } = claims(token);
  if (typeof exp !== "number") return undefined;
  // Our clock may be wrong: how long it is good says more than when it ends.
  const left = exp * 1000 - now;
  const whole = typeof iat === "number" ? (exp - iat) * 1000 : left;
  const good = left > 0 ? Math.min(left, whole) : whole;
  return Math.min(Math.max(good * PART, SOONEST_MS), FAR_MS);
}

function claims(token: string): { exp?: unknown; iat?: unknown } {
  try {
    const text = atob((token.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/"));
    return (JSON.parse(text) as object) ?? {};
  } catch {
    return {};
  }
}

/** A token goes into a header and a list of sub-protocols: what is no token never gets that far. */
function checked<T extends string | undefined>(token: T): T {
  if (token !== undefined && !/^[\w.-]+$/.test(token)) {
    throw new HeraldError("token", "the token is no JSON Web Token");
  }
  return token;
}
