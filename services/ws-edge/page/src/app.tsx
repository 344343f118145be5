// The frame around the views: where one is, how the connection does, in which language and colours.

import { Component, render, type ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Home } from "./home.tsx";
import { useNow, useWatch } from "./hooks.ts";
import { Inspect } from "./inspect/inspect.tsx";
import { keep, kept, remember } from "./memory.ts";
import { Play } from "./play/play.tsx";
import { format, parse, type Route } from "./route.ts";
import { Announcer } from "./announcer.tsx";
import { preferred, Speech, TONGUES, useWords, type Tongue } from "./words.ts";
import { Watch } from "./watch.ts";

type Theme = "auto" | "light" | "dark";

function App() {
  const [route, setRoute] = useState<Route>(() => parse(location.hash));
  const [tongue, setTongue] = useState<Tongue>(() => kept<Tongue>("tongue") ?? preferred(navigator.languages));
  const [theme, setTheme] = useState<Theme>(() => kept<Theme>("theme") ?? "auto");
  const [token, setToken] = useState(() => kept<string>("token") ?? "");
  const { session } = route;
  const words = TONGUES[tongue] ?? TONGUES.en;
  const main = useRef<HTMLElement>(null);

  useEffect(() => {
    const moved = () => {
      setRoute(parse(location.hash));
      // Another view begins at its beginning.
      scrollTo(0, 0);
    };
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  useEffect(() => {
    document.documentElement.lang = tongue;
    keep("tongue", "", tongue);
  }, [tongue]);
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
    keep("theme", "", theme);
  }, [theme]);
  useEffect(() => {
    const place = route.view === "home" ? "" : `${route.view === "play" ? words.play : words.inspect} · `;
    document.title = `${place}Herald`;
  }, [route.view, words]);

  // One connection for a session, whatever view it is looked at in; a new one for a new token. Who comes to inspect reads its past first.
  const watch = useMemo(() => (session ? new Watch(session, token, route.view === "inspect") : undefined), [session, token]);
  useEffect(() => {
    if (session) remember(session);
    // For people who look into the page with their browser's tools.
    Object.assign(globalThis, { herald: watch });
    return () => watch?.close();
  }, [watch]);

  const changeToken = (value: string) => {
    keep("token", "", value);
    setToken(value);
  };
  const skip = (event: Event) => {
    event.preventDefault();
    main.current?.focus();
  };
  return (
    <Speech.Provider value={{ words, tongue }}>
      <a class="skip" href="#main" onClick={skip}>{words.skip}</a>
      <header class="bar">
        <a class="brand" href="#/"><Mark />Herald</a>
        <nav aria-label={words.views}>
          <Tab to={{ view: session ? "play" : "home", ...(session ? { session } : {}) }} on={route.view !== "inspect"}>{words.play}</Tab>
          <Tab to={{ view: "inspect", ...(session ? { session } : {}) }} on={route.view === "inspect"}>{words.inspect}</Tab>
        </nav>
        <div class="tools">
          {watch && <Connection watch={watch} />}
          <label class="pick">
            <span class="unseen">{words.language}</span>
            <select value={tongue} onChange={(event) => setTongue(event.currentTarget.value as Tongue)}>
              <option value="en" lang="en">English</option>
              <option value="fr" lang="fr">Français</option>
            </select>
          </label>
          <label class="pick">
            <span class="unseen">{words.theme.label}</span>
            <select value={theme} onChange={(event) => setTheme(event.currentTarget.value as Theme)}>
              {(["auto", "light", "dark"] as const).map((one) => <option key={one} value={one}>{words.theme[one]}</option>)}
            </select>
          </label>
        </div>
      </header>
      <main id="main" tabIndex={-1} ref={main}>
        <Boundary key={format(route)} text={words.errors.internal}>
          {route.view === "home" && <Home wrong={route.wrong} token={token} onToken={changeToken} />}
          {route.view === "play" && watch && <Play key={session} watch={watch} token={token} onToken={changeToken} />}
          {route.view === "inspect" && <Inspect key={session} watch={watch} wrong={route.wrong} token={token} onToken={changeToken} />}
        </Boundary>
      </main>
      {watch && <Announcer key={session} watch={watch} />}
    </Speech.Provider>
  );
}

/** What fails in a view is said, and leaves the rest of the page as it is. */
class Boundary extends Component<{ text: string; children: ComponentChildren }, { failed: boolean }> {
  override state = { failed: false };

  static override getDerivedStateFromError(): { failed: boolean } {
    return { failed: true };
  }

  override componentDidCatch(error: unknown): void {
    console.error(error);
  }

  override render() {
    return this.state.failed ? <section class="trouble" role="alert"><p>{this.props.text}</p></section> : this.props.children;
  }
}

function Tab({ to, on, children }: { to: Route; on: boolean; children: string }) {
  return <a href={format(to)} aria-current={on ? "page" : undefined}>{children}</a>;
}

function Connection({ watch }: { watch: Watch }) {
  useWatch(watch);
  const words = useWords();
  const { status } = watch;
  const now = useNow(1000, status.state === "waiting");
  const text = () => {
    switch (status.state) {
      case "open":
        return words.status[status.transport];
      case "waiting":
        return words.status.waiting(Math.max(1, Math.ceil((watch.retryAt - now) / 1000)));
      case "closed":
        return words.status[status.reason];
      default:
        return watch.reading ? words.status.reading : words.status[status.state];
    }
  };
  // What a screen reader hears says no seconds.
  return <p class={`link is-${status.state}`} data-state={status.state}><i aria-hidden="true" /><span>{text()}</span></p>;
}

function Mark() {
  return (
    <svg viewBox="0 0 32 32" width="26" height="26" aria-hidden="true">
      <rect width="32" height="32" rx="7" class="mark-back" />
      <path fill="#fff" d="M6 13.5v5l3.5.6 1.6 5.4h3.4l-1.4-4.8L23 21.5v-11L9.5 13zM25 12.7v6.6a3.4 3.4 0 0 0 0-6.6z" />
    </svg>
  );
}

export function start(): void {
  const place = document.getElementById("page");
  if (place) render(<App />, place);
}
