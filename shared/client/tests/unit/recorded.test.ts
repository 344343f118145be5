import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { check, keyOf, type Recorded } from "../recorded.ts";

const TRACES = "../testkit/fixtures/traces";
const lines = (name: string) => readFileSync(`${TRACES}/${name}`, "utf8").trim().split("\n").map((line) => JSON.parse(line));

/** What the door never shows: `redact` cuts it out. */
function redacted(data: { type?: string; data?: { gm_secret?: unknown } }): unknown {
  if (data.type === "proposal") delete data.data?.gm_secret;
  return data;
}

function recorded(): Recorded[] {
  const events: Recorded[] = [];
  for (const name of readdirSync(TRACES).filter((name) => name.endsWith(".sse"))) {
    for (const [, text] of readFileSync(`${TRACES}/${name}`, "utf8").matchAll(/^data: (.*)$/gm)) {
      const data = JSON.parse(text as string);
      if (data.type !== "heartbeat") events.push({ event: `gm.${data.type}`, data: redacted(data) });
    }
  }
  // The original relay's frames of the Game Master; those of the arena it changed.
  for (const { frame } of lines("ws-client.ndjson").filter(({ frame }) => frame)) {
    const { event, data } = JSON.parse(frame);
    if (event.startsWith("gm.")) events.push({ event, data: redacted(data) });
  }
  for (const { subject, payload } of lines("arena.ndjson")) {
    const [, event] = /^arena\.[0-9a-f-]{36}\.(.*)$/.exec(subject) ?? [];
    if (event && event !== "input.fakenews") events.push({ event: `arena.${event}`, data: payload });
  }
  return events;
}

test("the events of the recorded game have the types they are said to have", () => {
  const events = recorded();
  assert.ok(events.length > 500);
  assert.equal(check("recorded", events), "");
  // What the recordings lack: there the Game Master heard nothing of the arena.
  const known = readFileSync("src/arena.ts", "utf8").matchAll(/^ {2}"((?:gm|arena)\.[^"]+)":/gm);
  const seen = new Set(events.map(({ event }) => keyOf(event)));
  const unseen = [...known].map(([, key]) => key as string).filter((key) => !seen.has(key));
  assert.deepEqual(unseen, ["gm.agent_nats", "gm.agent_death", "gm.agent_clone"]);
});

test("the check finds what is wrong", () => {
  for (const [data, complaint] of [
    [{ round: 1 }, /waiting/],
    [{ round: "1", waiting: true }, /number/],
    [{ round: 1, waiting: true, more: 1 }, /more/],
  ] as const) {
    assert.match(check("wrong", [{ event: "arena.input.waiting", data }]), complaint);
  }
  assert.match(check("wrong", [{ event: "gm.unheard_of", data: {} }]), /unheard_of/);
});
