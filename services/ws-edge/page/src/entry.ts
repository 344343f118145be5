// An event as the page keeps it, and what can be said of its name. Pure.

/** An event that was read. */
export interface Entry {
  readonly event: string;
  readonly data: unknown;
  readonly seq: number;
  /** When it was stored, ms since 1970. */
  readonly ts: number;
  /** How long it took from there to here, ms; `null` where it is older than this page. */
  readonly lag: number | null;
}

/** What of it a person wants to tell apart at a glance. */
export type Tone = "text" | "tool" | "state" | "turn" | "voice" | "bad";

const TONES: Record<string, Tone> = {
  "gm.llm_text": "text",
  "gm.llm_call": "tool",
  "gm.tool_call": "tool",
  "gm.tool_result": "tool",
  "gm.tool_error": "bad",
  "gm.vision_update": "tool",
  "gm.phase": "state",
  "gm.error": "bad",
  "arena.event.death": "bad",
};

export function toneOf(event: string): Tone {
  const known = TONES[event];
  if (known) return known;
  if (/^arena\.agent\..*\.output$/.test(event)) return "voice";
  return event.startsWith("gm.") || event.startsWith("arena.event.") ? "turn" : "state";
}

/** The debater that an event of the arena is about, by its name. */
export function agentOf(event: string): string | undefined {
  return /^arena\.agent\.([^.]+)\./.exec(event)?.[1];
}

/** A line that says what is in it. */
export function summary(data: unknown, length = 160): string {
  const text = typeof data === "string" ? data : (JSON.stringify(data) ?? "");
  return text.length > length ? `${text.slice(0, length)}…` : text;
}
