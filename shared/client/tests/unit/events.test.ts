import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { Listeners, matcher, type EventOf } from "../../src/events.ts";
import type { ArenaEvents } from "../../src/arena.ts";

test("patterns match by tokens", () => {
  const table: [string, string, boolean][] = [
    ["gm.phase", "gm.phase", true], ["gm.phase", "gm.phases", false], ["gm.phase", "gmxphase", false],
    ["arena.agent.*.output", "arena.agent.f4-2.output", true], ["arena.agent.*.output", "arena.agent.output", false],
    ["arena.agent.*.output", "arena.agent.a.b.output", false], ["arena.agent.*.output", "arena.agent.a.outputs", false],
    ["gm.*", "gm.phase", true], ["gm.*", "gm.a.b", false], ["*.phase", "gm.phase", true],
    ["gm.>", "gm.phase", true], ["gm.>", "gm.a.b", true], ["gm.>", "gm", false], ["gm.>", "arena.gm.x", false],
    [">", "gm.phase", true], ["*", "gm.phase", false], ["*", "status", true],
    ["a.(b|c)", "a.b", false], ["*.x+", "a.x+", true], ["*.x+", "a.xx", false], ["gm.>", "gm.line\nbreak", true],
  ];
  for (const [pattern, name, matches] of table) assert.equal(matcher(pattern)(name), matches, `${pattern} ${name}`);
});

test("handlers are called in order, once per time they were added, until they are taken away", () => {
  const listeners = new Listeners();
  const heard: string[] = [];
  const twice = () => void heard.push("twice");
  const off = listeners.add("gm.x", twice);
  listeners.add("gm.x", twice);
  listeners.add("gm.>", () => heard.push("all"));
  listeners.call("gm.x", {});
  assert.deepEqual(heard.splice(0), ["twice", "twice", "all"]);
  off();
  off();
  listeners.call("gm.x", {});
  assert.deepEqual(heard, ["twice", "all"]);
});

test("a handler that throws keeps no other from being called, and is heard of", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const listeners = new Listeners();
  const heard: string[] = [];
  listeners.add("gm.x", () => { throw new Error("its own fault"); });
  listeners.add("gm.x", () => heard.push("other"));
  listeners.call("gm.x", {});
  assert.deepEqual(heard, ["other"]);
  assert.throws(() => mock.timers.tick(1), /its own fault/);
  mock.timers.reset();
});

// What the compiler has to agree with; nothing of it runs.
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <T extends true>(): T => true as T;
test("patterns have the types of their events", () => {
  type Of<P extends string> = EventOf<ArenaEvents, P>;
  same<Same<Of<"gm.phase">["data"], ArenaEvents["gm.phase"]>>();
  same<Same<Of<"arena.agent.*.output">["data"], ArenaEvents["arena.agent.*.output"]>>();
  same<Same<Of<"arena.agent.f427.output">["data"], ArenaEvents["arena.agent.*.output"]>>();
  same<Same<Of<"arena.agent.*.output">["event"], `arena.agent.${string}.output`>>();
  same<Same<Of<"arena.event.>">["event"], "arena.event.death" | "arena.event.clone" | "arena.event.end">>();
  same<Same<Of<"gm.*">["event"], Extract<keyof ArenaEvents, `gm.${string}`>>>();
  same<Same<Of<"dice.roll">["data"], unknown>>();
  const narrowed = (event: Of<">">): number => {
    if (event.event === "gm.turn_update") return event.data.data.turn;
    return event.seq;
  };
  assert.equal(narrowed({ event: "gm.turn_update", data: { type: "turn_update", data: { turn: 3, max_turns: 10 } }, seq: 1, ts: 0 }), 3);
});
