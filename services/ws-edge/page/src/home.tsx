// Where one begins: a new game, or a session there is.

import type { Lang } from "@herald/client";
import { useEffect, useState } from "preact/hooks";
import { keep, recent } from "./memory.ts";
import { OpenSession } from "./open.tsx";
import { format, freshSession } from "./route.ts";
import { TokenField } from "./trouble.tsx";
import { useTongue, useWords } from "./words.ts";

/** What `/health` says. */
interface Health {
  nats_connected?: boolean;
  gm_client_ready?: boolean;
  arena_seen?: boolean;
}

interface Props {
  /** What the address names and can be no session. */
  wrong: string | undefined;
  token: string;
  onToken: (token: string) => void;
}

export function Home({ wrong, token, onToken }: Props) {
  const words = useWords();
  const tongue = useTongue();
  const [lang, setLang] = useState<Lang>();
  const begin = (event: Event) => {
    event.preventDefault();
    const fresh = freshSession();
    keep("wanted", fresh, lang ?? tongue);
    location.hash = format({ view: "play", session: fresh });
  };
  const sessions = recent();
  return (
    <div class="home">
      <section class="hero">
        <h1>{words.home.title}</h1>
        <p class="lead">{words.home.lead}</p>
        <form onSubmit={begin}>
          <fieldset class="choice">
            <legend>{words.home.gameLanguage}</legend>
            {(["fr", "en"] as const).map((one) => (
              <label key={one}>
                <input type="radio" name="lang" value={one} checked={(lang ?? tongue) === one} onChange={() => setLang(one)} />
                <span lang={one}>{one === "fr" ? "Français" : "English"}</span>
              </label>
            ))}
          </fieldset>
          <button type="submit" class="primary large" id="start">{words.home.start}</button>
        </form>
        <HealthLine />
        <ol class="steps-of" aria-label={words.home.how}>
          {words.home.steps.map(([title, text], at) => (
            <li key={at}><span class="figure" aria-hidden="true">{at + 1}</span><h2>{title}</h2><p class="soft">{text}</p></li>
          ))}
        </ol>
      </section>
      <aside class="side">
        <OpenSession key={wrong} view="play" label={words.home.watch} hint={words.home.watchHint} wrong={wrong} class="card" />
        {sessions.length > 0 && (
          <section class="card">
            <h2>{words.home.recent}</h2>
            <ul class="plain">
              {sessions.map((one) => (
                <li key={one}>
                  <a class="mono" href={format({ view: "play", session: one })}>{one}</a>
                  <a href={format({ view: "inspect", session: one })}>{words.inspect}</a>
                </li>
              ))}
            </ul>
          </section>
        )}
        <details class="card">
          <summary>{words.home.token}</summary>
          <TokenField token={token} onToken={onToken} />
        </details>
      </aside>
    </div>
  );
}

function HealthLine() {
  const words = useWords().home.health;
  const [health, set] = useState<Health | null>();
  useEffect(() => {
    const abort = new AbortController();
    fetch(new URL("health", new URL(".", location.href)), { signal: abort.signal })
      .then((answer) => answer.json())
      .then((health: Health) => set(health))
      .catch(() => abort.signal.aborted || set(null));
    return () => abort.abort();
  }, []);
  if (health === undefined) return <p class="health" aria-hidden="true">&nbsp;</p>;
  if (health === null) return <p class="health is-bad">{words.away}</p>;
  const facts: [string, boolean | undefined, string, string][] = [
    [words.nats, health.nats_connected, words.yes, words.no],
    [words.gm, health.gm_client_ready, words.yes, words.no],
    [words.arena, health.arena_seen, words.seen, words.unseen],
  ];
  return (
    <dl class="health" aria-label={words.label}>
      {facts.map(([name, well, yes, no]) => (
        <div key={name} class={well ? "is-well" : "is-bad"}><dt>{name}</dt><dd>{well ? yes : no}</dd></div>
      ))}
    </dl>
  );
}
