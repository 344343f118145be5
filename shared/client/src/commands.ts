// The commands of the arena game, over HTTP. None is repeated by itself: they cost money and move the game.

import type { GameStart, GameState, Lang, NewsKind } from "./arena.ts";
import type { Door } from "./door.ts";
import { HeraldError } from "./errors.ts";
import { ask, refusal } from "./link.ts";
import { judge, NO_DOOR } from "./verdict.ts";

/** The commands of a session. All of them fail with a `HeraldError`. */
export interface Commands {
  /** Begins a game in this session, or begins it anew. */
  start(options?: { lang?: Lang }): Promise<GameStart>;
  /** Asks for three news: `gm.proposal` follows, then `gm.result`. Stops what runs. */
  propose(options?: { lang?: Lang }): Promise<{ status: string; session_id: string }>;
  /** Chooses one of them: the debate and its consequences follow, then `gm.result`. Stops what runs. */
  choose(kind: NewsKind, options?: { lang?: Lang }): Promise<{ status: string; session_id: string }>;
  /** Stops what runs: `gm.error` follows. */
  cancel(): Promise<{ status: "cancelled" | "idle" }>;
  /** The game as it stands. */
  state(): Promise<GameState>;
}

// A start may wait for a Game Master for 40 s.
const PATIENCE_MS = 45_000;

export function commands(door: Door): Commands {
  const send = (name: string, query: object = {}, method = "GET") => command(door, `api/${name}`, { session_id: door.session, ...query }, method);
  return {
    start: (options) => send("start", options),
    propose: (options) => send("propose", options),
    choose: (kind, options) => send("choose", { kind, ...options }),
    cancel: () => send("cancel", {}, "POST"),
    state: () => send("state"),
  };
}

/** Asks for something once, and reads the answer. */
export async function command({ base, tokens, request }: Door, path: string, query: object, method: string): Promise<never> {
  const url = new URL(path, base);
  for (const [key, value] of Object.entries(query)) {
    if (value) url.searchParams.set(key, String(value));
  }
  for (let again = tokens.renewable; ; again = false) {
    const token = await tokens.get();
    let answer: Response;
    try {
      answer = await ask(request, url, "application/json", token, AbortSignal.timeout(PATIENCE_MS), method);
      if (answer.ok) return (await answer.json().catch(() => Promise.reject(judge({ code: NO_DOOR }).error))) as never;
    } catch (cause) {
      throw cause instanceof HeraldError ? cause : judge({ code: 0, cause }).error;
    }
    // A token that is refused has moved nothing: once more with a fresh one.
    if (answer.status === 401 && again) {
      tokens.drop();
      continue;
    }
    throw failure(await refusal(answer));
  }
}

/** A refusal of a command: in the words of the door, where it has any. */
function failure(end: Awaited<ReturnType<typeof refusal>>): HeraldError {
  const { code, status, retryMs } = judge(end).error;
  return new HeraldError(code, end.reason || `the door answered ${status}`, status, retryMs);
}
