// The arena game: its events by name, and what its commands answer. The tests check them against the schemas that the door shows
// (`/asyncapi.json`) and recorded traffic.

/** Which of the three news. */
export type NewsKind = "real" | "fake" | "satirical";
/** The languages of a game. */
export type Lang = "fr" | "en";

/** The four gauges of public opinion, 0 to 100. */
export interface Indices {
  credibilite: number;
  rage: number;
  complotisme: number;
  esperance_democratique: number;
}

/** One news item of a proposal. */
export interface News {
  /** Headline. */
  text: string;
  /** Article. */
  body: string;
  /** What choosing it does to the indices. */
  stat_impact: Indices;
}

/** A character on the Game Master's dashboard. */
export interface DashboardAgent {
  agent_id: string;
  name: string;
  personality: string;
  country: string;
  avatar: string;
  stats: { croyance: number; confiance: number; richesse: number };
  level: string;
  status_text: string;
  is_neutralized: boolean;
  turn: number;
}

/** How a character took the news. */
export interface Reaction {
  agent_id: string;
  turn: number;
  action_id: string;
  reaction_text: string;
  stat_changes: Record<string, number>;
  level_change: string | null;
  headline: string;
}

/** A debater of the arena. */
export interface ArenaAgent {
  id: string;
  name: string;
  political_color: number;
  temperature: number;
  confidence: number;
  alive: boolean;
  born_at_round: number;
  parent_id?: string;
  died_at_round?: number;
  death_cause?: string;
}

/** Who was eliminated. */
export interface Death {
  agent_id: string;
  agent_name: string;
  round: number;
  cause: string | null;
}

/** Who was cloned. */
export interface Clone {
  parent_id: string;
  parent_name: string;
  child_id: string;
  child_name: string;
  round: number;
}

/** An event of the Game Master that says all on its first level. */
type Flat<Type extends string, Fields> = { type: Type } & Fields;
/** An event of the Game Master with its content under `data`. */
type Nested<Type extends string, Data> = { type: Type; data: Data };

/** The events of the arena game, as the door shows them (`/ws/{session}`, dialect `event`). New ones may appear. */
export interface ArenaEvents {
  "gm.phase": Flat<"phase", { phase: string; turns?: number }>;
  "gm.llm_call": Flat<"llm_call", { turn_idx: number }>;
  /** A piece of the Game Master's monologue. */
  "gm.llm_text": Flat<"llm_text", { text: string }>;
  "gm.tool_call": Flat<"tool_call", { tool: string; args: Record<string, unknown> }>;
  "gm.tool_result": Flat<"tool_result", { tool: string; result: string }>;
  "gm.tool_error": Flat<"tool_error", { tool: string; error: string }>;
  "gm.vision_update": Flat<"vision_update", { agent_id: string; content: string }>;
  /** An action failed, or was cancelled. It is that action's last event. `type` is missing where Herald says it. */
  "gm.error": { type?: "error"; error: string; detail?: string };
  /** Three news to choose from. */
  "gm.proposal": Nested<"proposal", Record<NewsKind, News> & { gm_commentary: string }>;
  /** Paths of three posters, to be had from the door. */
  "gm.images": Nested<"images", Record<NewsKind, string>>;
  "gm.choice_resolved": Nested<"choice_resolved", { gm_reaction: string }>;
  "gm.reactions": Nested<"reactions", { agents: DashboardAgent[]; reactions: Reaction[] }>;
  "gm.indices_update": Nested<"indices_update", { indices: Indices; decerebration: number }>;
  "gm.strategy": Nested<
    "strategy",
    { analysis: string; threat_agents: string[]; weak_spots: string[]; next_turn_plan: string; long_term_goal: string }
  >;
  "gm.turn_update": Nested<"turn_update", { turn: number; max_turns: number }>;
  /** What a debater of the arena said, as the Game Master heard it. */
  "gm.agent_nats": Nested<"agent_nats", { agent_id: string; agent_name: string; take: string } & Record<string, unknown>>;
  "gm.agent_death": Nested<"agent_death", Death & { avatar_url?: string }>;
  "gm.agent_clone": Nested<"agent_clone", Clone & { parent_avatar_url?: string; child_avatar_url?: string }>;
  /** The Game Master shows its hand. */
  "gm.game_over_reveal": Nested<
    "game_over_reveal",
    {
      manipulation_history: {
        turn: number;
        desired_pick: string;
        actual_pick: string;
        manipulation_tactic: string;
        gm_commentary: string;
        success: boolean;
      }[];
      score: { total_turns: number; successful_manipulations: number; rate_percent: number; verdict: string };
    }
  >;
  /** The game is over: won, lost, or neither. Of `win`, `lose` and `draw` one is there, and true. */
  "gm.end": Nested<"end", { win?: boolean; lose?: boolean; draw?: boolean; dec: number }>;
  /** An action is done. It is its last event. */
  "gm.result": Nested<"result", string>;
  /** The arena waits for news. */
  "arena.input.waiting": { round: number; waiting: boolean };
  "arena.round.start": { round: number; fake_news: string; context: string };
  "arena.phase.start": { round: number; phase: number };
  /** What a debater is doing; whose it is stands in the name of the event alone. */
  "arena.agent.*.status": { state: "thinking" | "done"; detail: string };
  /** What a debater says; in the last phase a vote. */
  "arena.agent.*.output": {
    agent_id: string;
    agent_name: string;
    round: number;
    phase: number;
    content: string;
    confidence?: number;
    rankings?: { agent_id: string; score: number }[];
    new_color?: number;
  };
  "arena.event.death": Death;
  "arena.event.clone": Clone;
  "arena.event.end": { survivors: string[]; history: number[] };
  "arena.state.global": {
    session_id: string;
    fake_news: string;
    round: number;
    phase: number;
    lang: string;
    agents: ArenaAgent[];
    graveyard: ArenaAgent[];
    scores: Record<string, number>;
  };
}

/** The game as the Game Master keeps it. */
export interface GameState {
  turn: number;
  max_turns: number;
  indices: Indices;
  decerebration: number;
  agents: DashboardAgent[];
  session_id?: string;
  ended?: boolean;
}

/** A game that has begun. */
export interface GameStart extends GameState {
  session_id: string;
  gm_session_id: string;
  lang: Lang;
}
