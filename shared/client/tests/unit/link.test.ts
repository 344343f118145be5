import assert from "node:assert/strict";
import { test } from "node:test";
import { EventStream } from "../../src/link.ts";

const TEXT = [
  ":\n\n",
  'event: herald.hello\nid: 000000ab-5\ndata: {"epoch":"000000ab","head":5,"heartbeat_ms":25000}\n\n',
  'id: 000000ab-6\ndata: {"event":"gm.phase","data":{"a":\ndata: [1]},"seq":6,"ts":9}\n\n',
  'data: {"event":"gm.é","data":"x","seq":7,"ts":9}\r\n\r\n',
  "retry: 250\nevent: nothing\n\ndata\n\n",
  'event:herald.bye\ndata:{"after":"000000ab-7","retry_ms":250}\n\n',
].join("");

const FRAMES = [
  { event: "herald.hello", data: { epoch: "000000ab", head: 5, heartbeat_ms: 25000 } },
  { event: "gm.phase", data: { a: [1] }, seq: 6, ts: 9 },
  { event: "gm.é", data: "x", seq: 7, ts: 9, snapshot: true },
  { event: "herald.bye", data: { after: "000000ab-7", retry_ms: 250 } },
];

test("an event stream is read whatever pieces it comes in", () => {
  for (const size of [1, 2, 3, 7, 50, 10_000]) {
    const events = new EventStream();
    const frames = [];
    for (let from = 0; from < TEXT.length; from += size) frames.push(...events.push(TEXT.slice(from, from + size)));
    assert.deepEqual(frames, FRAMES, `pieces of ${size}`);
    assert.equal(events.retryMs, 250);
  }
});

test("what makes no sense is said to make none", () => {
  for (const bad of ["{", "null", "[]", "5", '{"event":5}', '{"event":"gm.x","data":1,"seq":"1"}', '{"event":"herald.gap","data":null}']) {
    assert.deepEqual([...new EventStream().push(`data: ${bad}\n\n`)], [undefined], bad);
  }
  assert.deepEqual([...new EventStream().push("event: herald.hello\ndata: {\n\n")], [undefined]);
});

test("what has no place in the log is for this client alone, and no part of a snapshot", () => {
  assert.deepEqual([...new EventStream().push('data: {"event":"dice.hand","data":1}\n\n')], [{ event: "dice.hand", data: 1 }]);
});
