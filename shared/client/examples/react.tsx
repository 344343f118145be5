// An application with that hook: the three news, and what the agents say.

import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import type { ArenaEvents } from "@herald/client";
import { useHerald, type ArenaEvent } from "./use-herald.ts";

interface Game {
  events: number;
  proposal?: ArenaEvents["gm.proposal"]["data"];
  said: string[];
}

function play(game: Game, { event, data }: ArenaEvent): Game {
  const next = { ...game, events: game.events + 1 };
  if (event === "gm.proposal") return { ...next, proposal: data.data };
  if (/^arena\.agent\..*\.output$/.test(event)) {
    const { agent_name, content } = data as ArenaEvents["arena.agent.*.output"];
    return { ...next, said: [...game.said, `${agent_name}: ${content}`] };
  }
  return next;
}

function App({ url, session }: { url: string; session: string }) {
  const { herald, status, state } = useHerald<Game>({ url, session }, play, { events: 0, said: [] });
  const ask = async () => {
    await herald?.start({ lang: "en" });
    await herald?.propose({ lang: "en" });
  };
  return (
    <main>
      <p id="status">{status.state}</p>
      <p id="events">{state.events}</p>
      <button id="propose" onClick={() => void ask()}>Ask for news</button>
      {(["real", "fake", "satirical"] as const).map((kind) => (
        <button key={kind} className="news" disabled={!state.proposal} onClick={() => void herald?.choose(kind, { lang: "en" })}>
          {state.proposal?.[kind].text ?? kind}
        </button>
      ))}
      <ul>{state.said.map((text, place) => <li key={place}>{text}</li>)}</ul>
    </main>
  );
}

const asked = new URLSearchParams(location.search);
const url = asked.get("url") ?? "http://127.0.0.1:8000";
const session = asked.get("session") ?? crypto.randomUUID();
createRoot(document.body.appendChild(document.createElement("div"))).render(
  <StrictMode><App url={url} session={session} /></StrictMode>,
);
