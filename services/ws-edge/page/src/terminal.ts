// What the Game Master does, as lines of a terminal. Pure.

import { summary, type Entry } from "./entry.ts";
import type { Log } from "./log.ts";

export interface Line {
  /** Of its first event: what tells it apart. */
  seq: number;
  kind: "phase" | "text" | "call" | "result" | "bad" | "event";
  text: string;
}

/** Events that are looked at: a few screens. */
const MOST = 400;

/** The lines up to an index; pieces of text that follow each other are one. */
export function lines(log: Log, end: number): Line[] {
  const all: Line[] = [];
  for (const entry of log.entries(Math.max(log.first, end - MOST), end)) {
    const line = lineOf(entry);
    if (!line) continue;
    const last = all.at(-1);
    if (line.kind === "text" && last?.kind === "text") last.text += line.text;
    else all.push(line);
  }
  return all;
}

function lineOf({ event, seq, data }: Entry): Line | undefined {
  if (!event.startsWith("gm.") || typeof data !== "object" || data === null) return undefined;
  const said = data as Record<string, unknown>;
  const line = (kind: Line["kind"], text: string): Line => ({ seq, kind, text });
  switch (event) {
    case "gm.phase":
      return line("phase", `# ${String(said.phase ?? "")}`);
    case "gm.llm_text":
      return line("text", typeof said.text === "string" ? said.text : "");
    case "gm.llm_call":
      return line("call", `> model, call ${Number(said.turn_idx ?? 0) + 1}`);
    case "gm.tool_call":
      return line("call", `> ${String(said.tool)}(${summary(said.args, 120).replace(/^\{\}$/, "")})`);
    case "gm.tool_result":
      return line("result", `  ${summary(said.result, 200)}`);
    case "gm.tool_error":
      return line("bad", `! ${String(said.tool)}: ${summary(said.error, 200)}`);
    case "gm.vision_update":
      return line("result", `  ${String(said.agent_id)}: ${summary(said.content, 160)}`);
    case "gm.error":
      return line("bad", `! ${String(said.error)}${said.detail ? ` (${String(said.detail)})` : ""}`);
    case "gm.result":
      return line("phase", "# done");
    // The debate has a place of its own.
    case "gm.agent_nats":
      return undefined;
  }
  return line("event", `* ${event.slice(3)}`);
}
