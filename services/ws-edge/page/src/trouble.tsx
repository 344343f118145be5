// What went wrong, in plain words, and what to do about it.

import type { ErrorCode } from "@herald/client";
import { useState } from "preact/hooks";
import type { Game } from "./game.ts";
import { useWords, type Words } from "./words.ts";
import type { Trouble, Watch } from "./watch.ts";

/** What is to be said of it; the door's own words where they say more than ours. */
export function explain({ error, command }: Trouble, words: Words): string {
  if (command && error.status === 503 && /busy/.test(error.message)) return words.allBusy;
  if (command && error.status === 502) return words.gmAway;
  const said = words.errors[error.code satisfies ErrorCode] ?? words.errors.internal;
  return command && error.message && error.status ? `${said} ${words.doorSays(error.message)}` : said;
}

/** Whether another token might help. */
export function wantsToken({ error }: Trouble): boolean {
  return ["unauthorized", "token", "forbidden"].includes(error.code);
}

export function TroubleBox({ watch, token, onToken }: { watch: Watch; token: string; onToken: (token: string) => void }) {
  const words = useWords();
  const { trouble, gap } = watch;
  if (!trouble && !gap) return null;
  return (
    <section class="trouble" role="alert">
      <div>
        {trouble && <p>{explain(trouble, words)}</p>}
        {gap && <p>{words.status.gap(gap.from, gap.to)}</p>}
        {trouble && wantsToken(trouble) && <TokenField token={token} onToken={onToken} />}
      </div>
      <button type="button" class="quiet" onClick={() => watch.dismiss()}>{words.close}</button>
    </section>
  );
}

/** An action that failed, in the words of who had it fail. */
export function Failure({ failure }: { failure: NonNullable<Game["failure"]> }) {
  const words = useWords();
  const { error, detail } = failure;
  return (
    <section class="trouble">
      <p>{error === "Cancelled" ? words.stopped : words.failed(detail ? `${error} (${detail})` : error)}</p>
    </section>
  );
}

export function TokenField({ token, onToken }: { token: string; onToken: (token: string) => void }) {
  const words = useWords();
  const [value, set] = useState(token);
  const send = (event: Event) => {
    event.preventDefault();
    onToken(value.trim());
  };
  return (
    <form class="line" onSubmit={send}>
      <label>
        <span>{words.home.token}</span>
        <input type="password" autocomplete="off" spellcheck={false} value={value} onInput={(event) => set(event.currentTarget.value)} aria-describedby="token-hint" />
      </label>
      <button type="submit">{words.home.open}</button>
      <small id="token-hint">{words.home.tokenHint}</small>
    </form>
  );
}
