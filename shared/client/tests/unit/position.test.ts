import assert from "node:assert/strict";
import { test } from "node:test";
import { Position } from "../../src/position.ts";

const A = "000000aa";
const B = "000000bb";

function at(cursor: string): Position {
  const position = new Position(cursor);
  position.begin();
  position.hello(cursor.slice(0, 8), 1000);
  return position;
}

test("a place to begin is read or refused", () => {
  for (const [from, query] of [
    ["live", ""], ["start", "after=0"], ["snapshot", "snapshot=1"], [0, "after=0"], [7, "after=7"], ["7", "after=7"],
    [`${A}-7`, `after=${A}-7`],
  ] as const) {
    assert.equal(new Position(from).query, query);
  }
  for (const bad of ["", "now", -1, 1.5, NaN, "aa-7", `${A}-`, `${A}-x`, "AABBCCDD-7", 1e30]) {
    assert.throws(() => new Position(bad), { name: "HeraldError", code: "bad_request" }, String(bad));
  }
});

test("what began live comes back to where it began, also before its first event", () => {
  const position = new Position("live");
  assert.equal(position.cursor, undefined);
  position.begin();
  assert.equal(position.hello(A, 41), undefined);
  assert.equal(position.query, `after=${A}-41`);
});

test("what asked for everything asks again until it has got something", () => {
  const position = new Position("start");
  position.begin();
  position.hello(A, 41);
  assert.equal(position.query, "after=0");
  assert.equal(position.event(3, 0), "new");
  assert.equal(position.query, `after=${A}-3`);
});

test("a bare sequence becomes a cursor with the first greeting", () => {
  const position = new Position(5);
  position.begin();
  position.hello(A, 9);
  assert.equal(position.cursor, `${A}-5`);
});

test("doubles are known, and what is missing is proved", () => {
  const position = at(`${A}-5`);
  assert.equal(position.event(5, 4), "double");
  assert.equal(position.event(4, 3), "double");
  assert.equal(position.event(9, 5), "new");
  assert.equal(position.event(12, 3), "new", "nothing is missing where less was shown before");
  assert.equal(position.event(20, 15), "lost");
  for (let times = 0; times < 3; times++) {
    assert.equal(position.cursor, `${A}-12`, "it is asked for");
    position.begin();
    position.hello(A, 30);
    if (times < 2) assert.equal(position.event(20, 15), "lost");
  }
  assert.deepEqual(position.event(20, 15), { from: 13, to: 15, reason: "lost" }, "in vain");
  assert.equal(position.event(21, 20), "new");
  assert.equal(position.event(30, 25), "lost", "another one is asked for again");
});

test("what is missing and comes after all is no gap", () => {
  const position = at(`${A}-12`);
  assert.equal(position.event(20, 15), "lost");
  position.begin();
  position.hello(A, 30);
  assert.equal(position.event(15, 12), "new");
  assert.equal(position.event(20, 15), "new");
});

test("event streams have no proof, and are believed", () => {
  assert.equal(at(`${A}-12`).event(20, undefined), "new");
});

test("a gap of this life moves on", () => {
  const position = at(`${A}-5`);
  const gap = { from: 6, to: 9, reason: "trimmed" };
  assert.deepEqual(position.gap(gap), gap);
  assert.equal(position.cursor, `${A}-9`);
  assert.equal(position.gap({ from: 1, to: 3, reason: "trimmed" }), undefined, "that is behind it");
  assert.equal(position.event(12, 9), "new");
});

test("a gap that leads into another life counts when that is named", () => {
  const position = at(`${A}-500`);
  const gap = { from: 1, to: 3, reason: "epoch" };
  assert.equal(position.gap(gap), undefined);
  assert.equal(position.cursor, `${A}-500`, "cut off here, it comes back as it was, and is told again");
  assert.deepEqual(position.hello(B, 9), gap);
  assert.equal(position.cursor, `${B}-3`);
  assert.equal(position.event(4, 0), "new");

  // The same at the beginning of a connection, and where a log of the same name has become shorter.
  for (const reason of ["epoch", "beyond"]) {
    const back = at(`${A}-500`);
    back.begin();
    back.gap({ from: 1, to: 0, reason });
    assert.deepEqual(back.hello(A, 9), { from: 1, to: 0, reason });
    assert.equal(back.cursor, `${A}-0`);
  }
});

test("a gap that was cut off is forgotten", () => {
  const position = at(`${A}-500`);
  position.gap({ from: 1, to: 3, reason: "epoch" });
  position.begin();
  assert.equal(position.hello(A, 600), undefined);
  assert.equal(position.cursor, `${A}-500`);
});

test("another life without a word shows everything of it", () => {
  const position = at(`${A}-500`);
  position.begin();
  position.hello(B, 9);
  assert.equal(position.event(3, 0), "new");
});

test("a snapshot is a place once it is complete", () => {
  const position = new Position("snapshot");
  position.begin();
  position.hello(A, 50);
  assert.equal(position.query, "snapshot=1");
  position.move(48);
  assert.equal(position.cursor, `${A}-48`);
  assert.equal(position.event(49, 40), "new");
});

test("cut anywhere and resumed, everything comes once and in order", () => {
  // A log of 300 sequences, some of which are another session's; connections that end after any number of frames.
  const log = Array.from({ length: 300 }, (_, place) => place + 1).filter((seq) => seq % 7 && seq % 5);
  for (let seed = 1; seed <= 50; seed++) {
    let lot = seed;
    const random = (below: number) => (lot = (lot * 48271) % 2147483647) % below;
    const position = new Position("start");
    const seen: number[] = [];
    for (let connections = 0; seen.at(-1) !== log.at(-1); connections++) {
      assert.ok(connections < 1000);
      const after = Number(/\d+$/.exec(position.query)?.[0]);
      position.begin();
      if (random(10) === 0) continue;
      position.hello(A, 300);
      let prev = after === 0 ? 0 : log.findLast((seq) => seq <= after) ?? 0;
      const rest = log.filter((seq) => seq > after);
      // Some doors begin a little early.
      const early = random(3) ? [] : log.filter((seq) => seq <= after).slice(-2);
      for (const seq of early) assert.equal(position.event(seq, undefined), "double");
      for (const seq of rest.slice(0, random(40))) {
        // A frame in a thousand is lost without a word.
        if (random(60) === 0) { prev = seq; continue; }
        const step = position.event(seq, prev);
        prev = seq;
        if (step === "lost") break;
        assert.equal(step, "new");
        seen.push(seq);
      }
    }
    assert.deepEqual(seen, log);
  }
});
