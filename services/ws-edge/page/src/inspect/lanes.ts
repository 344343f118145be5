// Which lane of the timeline an event is drawn in: one for each source. Pure.

import { agentOf } from "../entry.ts";

export type LaneKind = "text" | "tools" | "game" | "arena" | "agent" | "other" | "more";

export interface Lane {
  key: string;
  kind: LaneKind;
  /** The debater's id, or the root of a game that is not known here. */
  name: string;
}

/** More are one lane together. */
const MOST = 24;
const MOST_NAMES = 1000;
const TEXT = new Set(["gm.llm_text"]);
const TOOLS = new Set(["gm.llm_call", "gm.tool_call", "gm.tool_result", "gm.tool_error", "gm.vision_update"]);
const ORDER: LaneKind[] = ["game", "text", "tools", "arena", "agent", "other", "more"];

/** The lane of an event by its name. */
export function laneOf(event: string): Lane {
  if (TEXT.has(event)) return { key: "text", kind: "text", name: "" };
  if (TOOLS.has(event)) return { key: "tools", kind: "tools", name: "" };
  const root = event.split(".", 1)[0] as string;
  if (root === "gm") return { key: "game", kind: "game", name: "" };
  if (root !== "arena") return { key: `other ${root}`, kind: "other", name: root };
  const agent = agentOf(event);
  return agent === undefined ? { key: "arena", kind: "arena", name: "" } : { key: `agent ${agent}`, kind: "agent", name: agent };
}

/** The lanes there are, in the order in which they are drawn; and where each key is among them. */
export class Lanes {
  all: Lane[] = [];
  places = new Map<string, number>();
  /** What debaters are called, those who are gone, too. */
  names = new Map<string, string>();
  #read = 0;
  #keys = new Map<string, Lane>();
  /** Keys by names of events: there are few of those. */
  #known = new Map<string, string>();

  /** Takes in the events up to an index. */
  read(entries: Iterable<{ event: string; data: unknown }>, end: number): void {
    for (const { event, data } of entries) {
      this.key(event);
      const { agent_id, agent_name } = (data ?? {}) as Record<string, unknown>;
      if (typeof agent_id === "string" && typeof agent_name === "string" && this.names.size < MOST_NAMES) this.names.set(agent_id, agent_name);
    }
    this.#read = end;
  }

  /** The index up to which they were read. */
  get end(): number {
    return this.#read;
  }

  /** The key of the lane that an event is in. */
  key(event: string): string {
    const known = this.#known.get(event);
    if (known !== undefined) return known;
    let lane = laneOf(event);
    if (!this.#keys.has(lane.key)) {
      if (this.#keys.size >= MOST) lane = { key: "more", kind: "more", name: "" };
      this.#keys.set(lane.key, lane);
      this.all = [...this.#keys.values()].sort((one, other) => ORDER.indexOf(one.kind) - ORDER.indexOf(other.kind));
      this.places = new Map(this.all.map(({ key }, at) => [key, at]));
    }
    // Names without end, from whatever a client may be shown, are not kept.
    if (this.#known.size < 5000) this.#known.set(event, lane.key);
    return lane.key;
  }
}
