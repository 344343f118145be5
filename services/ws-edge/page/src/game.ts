// The game, as its events tell it: a state, and what each event makes of it. Pure, and nothing is changed in place: every state
// stays what it was, so that the page can go back to it.

import type { ArenaEvents, DashboardAgent, GameStart, Indices, News, NewsKind, Reaction } from "@herald/client";
import { agentOf, type Entry } from "./entry.ts";

export const KINDS = ["real", "fake", "satirical"] as const satisfies NewsKind[];
export const INDICES = ["credibilite", "rage", "complotisme", "esperance_democratique"] as const satisfies (keyof Indices)[];

/** What the Game Master is doing, in the order in which it does it. */
export const STAGES = {
  propose: ["memory", "writing", "posters"],
  choose: ["verdict", "debate", "reactions", "strategy"],
} as const;
export type Stage = (typeof STAGES)[keyof typeof STAGES][number];

/** An action that runs. */
export interface Action {
  kind: keyof typeof STAGES;
  stage: Stage;
  /** When it began, ms since 1970. */
  since: number;
  /** The last thing it said of itself. */
  note: string;
  /** Characters written. */
  written: number;
}

/** A debater of the arena. */
export interface Debater {
  id: string;
  name: string;
  state: "idle" | "thinking" | "done" | "dead";
  /** 1 to 5, 0 unknown. */
  confidence: number;
  /** 0 to 1, where it is known. */
  colour: number | null;
  parent: string;
}

/** Something that happened in the debate. */
export type Said =
  | { seq: number; kind: "take"; id: string; name: string; phase: number; text: string; confidence: number; votes: string[] }
  | { seq: number; kind: "phase"; phase: number }
  | { seq: number; kind: "death"; name: string }
  | { seq: number; kind: "clone"; name: string; child: string }
  | { seq: number; kind: "over"; names: string[] };

/** Public opinion after a turn. */
export interface Mood {
  /** The turn that made it so; 0: as the game began. */
  turn: number;
  indices: Indices;
  decerebration: number;
}

export interface Game {
  turn: number;
  maxTurns: number;
  moods: readonly Mood[];
  action: Action | null;
  /** Turns an action failed or was stopped: what was said of it. */
  failure: { seq: number; error: string; detail: string } | null;
  news: Record<NewsKind, News> | null;
  commentary: string;
  /** Paths of the posters, and the sequence that named them: the same path shows another one each turn. */
  posters: { seq: number; paths: Record<NewsKind, string> } | null;
  chosen: NewsKind | null;
  /** What the Game Master said to the choice; "" before there is one. */
  verdict: string;
  /** The turn is played: the next one may begin. */
  settled: boolean;
  round: number;
  phase: number;
  debaters: readonly Debater[];
  said: readonly Said[];
  public: readonly DashboardAgent[];
  reactions: readonly Reaction[];
  strategy: ArenaEvents["gm.strategy"]["data"] | null;
  reveal: ArenaEvents["gm.game_over_reveal"]["data"] | null;
  end: { lose?: boolean; win?: boolean; dec: number } | null;
}

/** Things said that are kept, and turns of moods. */
const MOST_SAID = 200;
const MOST_MOODS = 200;
const MOST_DEBATERS = 64;

export const NOTHING: Game = {
  turn: 0, maxTurns: 0, moods: [], action: null, failure: null, news: null, commentary: "", posters: null, chosen: null, verdict: "",
  settled: false, round: 0, phase: 0, debaters: [], said: [], public: [], reactions: [], strategy: null, reveal: null, end: null,
};

/** A game that has just been started. */
export function begun(start: Pick<GameStart, "turn" | "max_turns" | "indices" | "decerebration" | "agents">): Game {
  const { turn, max_turns, indices, decerebration, agents } = start;
  const moods = object(indices) ? [{ turn: 0, indices, decerebration: number(decerebration) }] : [];
  return { ...NOTHING, turn: number(turn), maxTurns: number(max_turns), public: people(agents), moods };
}

/** The game with what no event has said yet of it, as its Game Master says it when asked. */
export function completed(game: Game, told: Game | null): Game {
  if (!told || game.moods.length || game.turn > 1) return game;
  return { ...game, turn: told.turn, maxTurns: told.maxTurns, moods: told.moods, public: game.public.length ? game.public : told.public };
}

/** What an event makes of the game. Events that make no sense change nothing. */
export function reduce(game: Game, entry: Entry): Game {
  const { event, data } = entry;
  if (typeof data !== "object" || data === null) return game;
  if (event.startsWith("gm.")) return master(game, event.slice(3), data as Record<string, unknown>, entry);
  return event.startsWith("arena.") ? arena(game, event.slice(6), data as Record<string, unknown>, entry) : game;
}

// ---- the Game Master

const CHATTER = new Set(["phase", "llm_call", "llm_text", "tool_call", "tool_result", "tool_error", "vision_update"]);

function master(game: Game, type: string, event: Record<string, unknown>, { seq, ts }: Entry): Game {
  if (CHATTER.has(type)) return chatter(game, type, event, ts);
  if (type === "error") {
    return { ...game, action: null, failure: { seq, error: text(event.error), detail: text(event.detail) } };
  }
  if (type === "result") return { ...game, action: null };
  const data = object(event.data);
  if (!data) return game;
  switch (type) {
    case "proposal": {
      const news = Object.fromEntries(KINDS.map((kind) => [kind, newsOf(data[kind])])) as Record<NewsKind, News>;
      const fresh = opened(game, "propose", ts);
      return { ...at(fresh, "posters"), news, commentary: text(data.gm_commentary) };
    }
    case "images": {
      const paths = Object.fromEntries(KINDS.map((kind) => [kind, text(data[kind])])) as Record<NewsKind, string>;
      return { ...game, posters: { seq, paths } };
    }
    case "choice_resolved":
      return { ...at(opened(game, "choose", ts), "verdict"), verdict: text(data.gm_reaction) || "…" };
    case "agent_nats":
    case "agent_death":
    case "agent_clone":
      return at(game, "debate");
    case "reactions":
      return { ...at(game, "reactions"), public: people(data.agents), reactions: objects(data.reactions) as unknown as Reaction[] };
    case "indices_update": {
      const indices = object(data.indices) as unknown as Indices | undefined;
      if (!indices) return game;
      const mood = { turn: game.turn || 1, indices, decerebration: number(data.decerebration) };
      return { ...at(game, "reactions"), moods: [...game.moods, mood].slice(-MOST_MOODS) };
    }
    case "strategy":
      return { ...at(game, "strategy"), strategy: { ...data, weak_spots: list(data.weak_spots).map(text) } as unknown as Game["strategy"] };
    case "turn_update": {
      const turn = number(data.turn);
      // It began anew, and nobody said so here: what the last turn made of opinion belongs to the new game.
      const moods = turn < game.turn ? game.moods.slice(-1) : game.moods;
      return { ...game, moods, turn, maxTurns: number(data.max_turns), settled: true };
    }
    case "game_over_reveal":
      return { ...game, reveal: { ...data, manipulation_history: objects(data.manipulation_history), score: object(data.score) } as unknown as Game["reveal"] };
    case "end":
      return { ...game, end: data as unknown as Game["end"], settled: true };
  }
  return game;
}

function chatter(game: Game, type: string, event: Record<string, unknown>, ts: number): Game {
  const phase = type === "phase" ? text(event.phase) : "";
  let next = game;
  // With news on the table, what is done is done about a choice.
  if (!game.action) next = opened(game, game.news && !game.settled && phase !== "generating_titles" ? "choose" : "propose", ts);
  let action = next.action as Action;
  const stage: Stage | undefined =
    action.kind === "propose"
      ? type === "llm_text" || type === "llm_call" ? "writing" : "memory"
      : type === "phase" && phase !== "strategize_start" ? "debate" : "strategy";
  if (later(action.kind, stage, action.stage)) action = { ...action, stage };
  if (phase) action = { ...action, note: phase };
  if (type === "llm_text") action = { ...action, written: action.written + text(event.text).length };
  return { ...next, action };
}

/** The game with an action of that kind running. A propose clears the table. */
function opened(game: Game, kind: Action["kind"], since: number): Game {
  if (game.action?.kind === kind) return game;
  const action: Action = { kind, stage: STAGES[kind][0], since: game.action?.since ?? since, note: "", written: 0 };
  const next = { ...game, action, failure: null };
  if (kind === "choose") return next;
  return { ...next, news: null, commentary: "", posters: null, chosen: null, verdict: "", settled: false, reveal: null, end: null };
}

/** The game with its action at a stage, unless it is beyond that. */
function at(game: Game, stage: Stage): Game {
  const { action } = game;
  return action && later(action.kind, stage, action.stage) ? { ...game, action: { ...action, stage } } : game;
}

function later(kind: Action["kind"], stage: Stage, than: Stage): boolean {
  const order: readonly string[] = STAGES[kind];
  return order.indexOf(stage) > order.indexOf(than);
}

// ---- the arena

function arena(game: Game, topic: string, data: Record<string, unknown>, { event, seq }: Entry): Game {
  const agent = agentOf(event);
  if (agent !== undefined && topic.endsWith(".status")) {
    const state = data.state === "thinking" ? "thinking" : "done";
    return withDebater(game, agent, (one) => (one.state === "dead" ? one : { ...one, state }));
  }
  if (agent !== undefined && topic.endsWith(".output")) return output(game, agent, data, seq);
  switch (topic) {
    case "round.start": {
      const { news } = game;
      const chosen = news && KINDS.find((kind) => news[kind].text && text(data.fake_news).startsWith(news[kind].text));
      const debaters = game.debaters.filter((one) => one.state !== "dead").map((one) => ({ ...one, state: "idle" as const }));
      return { ...at(game, "debate"), round: number(data.round), phase: 0, chosen: chosen ?? game.chosen, debaters, said: [] };
    }
    case "phase.start": {
      const phase = number(data.phase);
      const debaters = game.debaters.map((one) => (one.state === "dead" ? one : { ...one, state: "idle" as const }));
      return say({ ...game, phase, debaters }, { seq, kind: "phase", phase });
    }
    case "event.death": {
      const name = text(data.agent_name);
      const dead = withDebater(game, text(data.agent_id), (one) => ({ ...one, name: name || one.name, state: "dead" }));
      return say(dead, { seq, kind: "death", name });
    }
    case "event.clone": {
      const [name, child] = [text(data.parent_name), text(data.child_name)];
      const joined = withDebater(game, text(data.child_id), (one) => ({ ...one, name: child, parent: name }));
      return say(joined, { seq, kind: "clone", name, child });
    }
    case "event.end":
      return say(game, { seq, kind: "over", names: list(data.survivors).map(text) });
    case "state.global":
      return global(game, data);
  }
  return game;
}

function output(game: Game, id: string, data: Record<string, unknown>, seq: number): Game {
  const [name, phase, confidence] = [text(data.agent_name), number(data.phase), number(data.confidence)];
  const colour = typeof data.new_color === "number" ? data.new_color : null;
  const named = withDebater(game, id, (one) => ({
    ...one, name: name || one.name, confidence: confidence || one.confidence, colour: colour ?? one.colour,
  }));
  const nameOf = (id: unknown) => named.debaters.find((one) => one.id === id)?.name ?? text(id).slice(0, 8);
  const votes = objects(data.rankings).map(({ agent_id }) => nameOf(agent_id));
  return say(named, { seq, kind: "take", id, name: name || id.slice(0, 8), phase, text: votes.length ? "" : text(data.content), confidence, votes });
}

/** The engine's own word on who is there. */
function global(game: Game, data: Record<string, unknown>): Game {
  const known = new Map(game.debaters.map((one) => [one.id, one]));
  const nameOf = (id: unknown) => known.get(text(id))?.name ?? "";
  const read = (dead: boolean) => ({ id, name, political_color, confidence, parent_id }: Record<string, unknown>): Debater => {
    const before = known.get(text(id));
    return {
      id: text(id), name: text(name), state: dead ? "dead" : before && before.state !== "dead" ? before.state : "idle",
      confidence: number(confidence) || (before?.confidence ?? 0), colour: typeof political_color === "number" ? political_color : null,
      parent: before?.parent || nameOf(parent_id),
    };
  };
  const living = objects(data.agents).map(read(false));
  if (!living.length) return game;
  // Of the dead, those who died in this round: the others are long forgotten.
  const gone = new Set(game.debaters.filter((one) => one.state === "dead").map((one) => one.id));
  const dead = objects(data.graveyard).map(read(true)).filter((one) => gone.has(one.id) && !living.some(({ id }) => id === one.id));
  return { ...game, round: number(data.round) || game.round, debaters: [...living, ...dead].slice(0, MOST_DEBATERS) };
}

function withDebater(game: Game, id: string, change: (one: Debater) => Debater): Game {
  if (!id) return game;
  const place = game.debaters.findIndex((one) => one.id === id);
  if (place < 0) {
    const one = change({ id, name: id.slice(0, 8), state: "idle", confidence: 0, colour: null, parent: "" });
    return { ...game, debaters: [...game.debaters, one].slice(-MOST_DEBATERS) };
  }
  return { ...game, debaters: game.debaters.with(place, change(game.debaters[place] as Debater)) };
}

function say(game: Game, said: Said): Game {
  return { ...game, said: [...game.said, said].slice(-MOST_SAID) };
}

// ---- what comes from outside is what it says it is, or nothing

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function number(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function object(value: unknown): Record<string, unknown> | undefined {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined;
}

function objects(value: unknown): Record<string, unknown>[] {
  return list(value).map(object).filter((one) => one !== undefined);
}

function newsOf(value: unknown): News {
  const { text: title, body, stat_impact } = object(value) ?? {};
  return { text: text(title), body: text(body), stat_impact: (object(stat_impact) ?? {}) as unknown as Indices };
}

function people(value: unknown): DashboardAgent[] {
  return objects(value).map((one) => ({
    ...one, agent_id: text(one.agent_id), name: text(one.name), country: text(one.country), level: text(one.level), stats: object(one.stats),
  })) as unknown as DashboardAgent[];
}
