// The past played again: orders, what is answered, and what a broken connection does to them.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Person, Replay } from "../../src/index.ts";
import { A, FakeSocket, FakeStream, pass, settle, watch } from "./support.ts";

const said = (state: Replay["state"], after: number, more: object = {}) => FakeSocket.last.say("herald.replay", { state, speed: 4, after, ...more });
const orders = () => FakeSocket.last.sent.map((text) => JSON.parse(text));

async function play(t: Parameters<typeof watch>[0], options = {}) {
  const watched = await watch(t, { speed: 4, ...options });
  const replays: Replay[] = [];
  watched.herald.on("replay", (replay) => replays.push(replay));
  FakeSocket.last.hello();
  return { ...watched, replays };
}

test("a speed plays from the start, and says how", async (t) => {
  const { seqs, replays, told, herald } = await play(t, { maxGap: 2 });
  assert.equal(FakeSocket.last.query, "after=0&speed=4&max_gap=2");
  said("playing", 0);
  for (const seq of [1, 2]) FakeSocket.last.event(seq);
  assert.deepEqual([seqs, replays], [[1, 2], [{ state: "playing", speed: 4, after: 0 }]]);
  FakeSocket.last.say("herald.live", { after: 2 });
  assert.equal(told.at(-1), "live 2");
  assert.equal(herald.cursor, `${A}-2`);
});

test("nothing was shown yet: it begins again", async (t) => {
  await play(t);
  said("playing", 0);
  FakeSocket.last.end(1006);
  await pass(1000);
  assert.equal(FakeSocket.last.query, "after=0&speed=4");
});

test("orders go to the door, and what it answers is the place", async (t) => {
  const { herald, seqs, replays } = await play(t);
  said("playing", 0);
  for (const seq of [1, 2, 3]) FakeSocket.last.event(seq);
  herald.replay({ seek: 1, speed: 8 });
  herald.replay({ pause: true });
  assert.deepEqual(orders(), [1, 2].map((n) => ({ event: "herald.replay", data: n === 1 ? { seek: 1, speed: 8 } : { pause: true } })));
  // Still of the place before.
  FakeSocket.last.event(4);
  said("playing", 1, { speed: 8 });
  said("paused", 1, { speed: 8 });
  assert.equal(herald.cursor, `${A}-1`);
  herald.replay({ pause: false });
  said("playing", 1, { speed: 8 });
  for (const seq of [2, 3]) FakeSocket.last.event(seq);
  assert.deepEqual(seqs, [1, 2, 3, 4, 2, 3]);
  assert.deepEqual(replays.map(({ state, after }) => `${state} ${after}`), ["playing 0", "playing 1", "paused 1", "playing 1"]);
  // A refusal moves nothing.
  herald.replay({ seek: 99 });
  said("refused", 3, { reason: "beyond" });
  assert.equal(replays.at(-1)?.reason, "beyond");
  FakeSocket.last.event(4);
  assert.equal(herald.cursor, `${A}-4`);
});

test("a connection that breaks goes on where it was, as fast as it was", async (t) => {
  const { herald, seqs } = await play(t);
  said("playing", 0);
  FakeSocket.last.event(1);
  herald.replay({ speed: 0.5 });
  said("playing", 1, { speed: 0.5 });
  FakeSocket.last.event(2);
  FakeSocket.last.end(1006);
  await pass(1000);
  assert.equal(FakeSocket.last.query, `after=${A}-2&speed=0.5`);
  FakeSocket.last.hello();
  said("playing", 2, { speed: 0.5 });
  FakeSocket.last.event(3);
  assert.deepEqual(seqs, [1, 2, 3]);
  // Once it has come to now there is nothing to be played.
  FakeSocket.last.say("herald.live", { after: 3 });
  FakeSocket.last.end(1006);
  await pass(1000);
  assert.equal(FakeSocket.last.query, `after=${A}-3`);
});

test("an order that a broken connection has not answered is followed by the next", async (t) => {
  const { herald, seqs } = await play(t);
  said("playing", 0);
  for (const seq of [1, 2, 3]) FakeSocket.last.event(seq);
  herald.replay({ seek: `${A}-1` });
  herald.replay({ speed: 2 });
  FakeSocket.last.end(1006);
  herald.replay({ speed: 16 });
  assert.equal(herald.status.state, "waiting", "in its own time");
  await pass(1000);
  assert.equal(FakeSocket.last.query, `after=${A}-1&speed=16`);
  FakeSocket.last.hello();
  said("playing", 1, { speed: 16 });
  FakeSocket.last.event(2);
  assert.deepEqual(seqs, [1, 2, 3, 2]);
});

test("what is halted stays halted, whatever its connection does", async (t) => {
  const { herald, told } = await play(t);
  said("playing", 0);
  FakeSocket.last.event(1);
  herald.replay({ pause: true });
  said("paused", 1);
  const opened = FakeSocket.all.length;
  FakeSocket.last.end(1006);
  await pass(2000);
  assert.equal(told.at(-1), "paused");
  assert.equal(FakeSocket.all.length, opened);
  // Sought in the meantime.
  herald.replay({ seek: 0 });
  await settle();
  assert.equal(FakeSocket.all.length, opened);
  herald.replay({ pause: false });
  await settle();
  assert.equal(FakeSocket.last.query, "after=0&speed=4");
});

test("to now: without what lies between, also where it was halted", async (t) => {
  const { herald, seqs } = await play(t);
  said("playing", 0);
  FakeSocket.last.event(1);
  herald.replay({ live: true });
  FakeSocket.last.say("herald.live", { after: 100 });
  said("live", 100);
  FakeSocket.last.event(101, 90);
  assert.deepEqual(seqs, [1, 101]);
  // From there the past is a connection away.
  herald.replay({ seek: 50 });
  await settle();
  assert.equal(FakeSocket.last.query, "after=50&speed=4");
  FakeSocket.last.hello();
  said("playing", 50);
  herald.replay({ pause: true });
  FakeSocket.last.end(1006);
  await pass(1000);
  assert.equal(herald.status.state, "paused");
  herald.replay({ live: true });
  await settle();
  assert.equal(FakeSocket.last.query, "");
});

test("an event stream takes no orders: it is opened anew", async (t) => {
  const { herald, seqs } = await watch(t, { transport: "sse", speed: 2 });
  assert.equal(FakeStream.last.url.search, "?after=0&speed=2");
  FakeStream.last.open();
  await FakeStream.last.hello();
  await FakeStream.last.text('event: herald.replay\ndata: {"state":"playing","speed":2,"after":0}\n\n');
  for (const seq of [1, 2]) await FakeStream.last.event(seq);
  herald.replay({ pause: true });
  assert.equal(herald.status.state, "paused");
  assert.ok(FakeStream.last.aborted);
  herald.replay({ pause: false, speed: 8 });
  await settle();
  assert.equal(FakeStream.last.url.search, `?after=${A}-2&speed=8`);
  herald.replay({ seek: 1 });
  await settle();
  assert.equal(FakeStream.last.url.search, "?after=1&speed=8");
  assert.deepEqual(seqs, [1, 2]);
});

test("who watches what happens may go back, too", async (t) => {
  const { herald, seqs } = await watch(t);
  FakeSocket.last.hello(A, 100);
  FakeSocket.last.event(101, 90);
  assert.throws(() => herald.replay({ seek: "yesterday" }), /yesterday/);
  for (const speed of [0, 65, NaN]) assert.throws(() => herald.replay({ speed }), /speed/);
  herald.replay({ seek: 90, speed: 4 });
  await settle();
  assert.equal(FakeSocket.last.query, "after=90&speed=4");
  FakeSocket.last.hello();
  said("playing", 90);
  FakeSocket.last.event(95, 90);
  assert.deepEqual(seqs, [101, 95]);
  herald.close();
  const opened = FakeSocket.all.length;
  herald.replay({ seek: 0 });
  await settle();
  assert.equal(FakeSocket.all.length, opened);
});

test("nonsense about a replay is nonsense", async (t) => {
  const { told } = await play(t);
  FakeSocket.last.say("herald.replay", { state: "playing" });
  assert.ok(told.includes("error protocol"));
});

test("who is there, who comes and who leaves is told", async (t) => {
  const { herald, seqs } = await watch(t);
  const heard: unknown[] = [];
  herald.on("presence", ({ count }) => heard.push(count));
  herald.on("join", ({ name, count }) => heard.push(`${name} joins ${count}`));
  herald.on("leave", ({ id, count }) => heard.push(`${id} leaves ${count}`));
  FakeSocket.last.hello();
  FakeSocket.last.say("herald.presence", { count: 2 });
  const person: Person = { id: "0f", name: "Ann", since: 5 };
  FakeSocket.last.say("herald.join", { ...person, count: 3 });
  FakeSocket.last.say("herald.leave", { ...person, count: 2 });
  FakeSocket.last.say("herald.beat", {});
  assert.deepEqual(heard, [2, "Ann joins 3", "0f leaves 2"]);
  assert.deepEqual(seqs, []);
});
