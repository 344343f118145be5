// The past of a real session: played again in its own time behind a bad network, by orders, by request, and forked.

import assert from "node:assert/strict";
import { after, before, test, type TestContext } from "node:test";
import { connect, HeraldError, type Herald, type Options, type Replay } from "@herald/client";
import { past } from "@herald/client/past";
import { found, open } from "./browser.ts";
import { compare, fresh, logOf, QUICK, type Numbered } from "./faults.ts";
import { eventually, House } from "./house.ts";
import { FaultProxy } from "./proxy.ts";

// The arena's door, which tells who is there.
const TOML = '[[ws-edge.listeners]]\nbuiltin = "arena"\naddress = "127.0.0.1:0"\npresence = "list"\n';
const EVENTS = 120;
const TOLD_MS = 3000;
let house: House;
let session: string;
let log: [seq: number, n: number][];
const rejections: unknown[] = [];
process.on("unhandledRejection", (reason) => rejections.push(reason));
const ways = typeof WebSocket === "function" ? (["websocket", "sse"] as const) : (["sse"] as const);

before(async () => {
  house = await House.start({ edge: QUICK, toml: TOML });
  session = fresh();
  const engine = await house.engine();
  await engine.tell(session, 0, EVENTS, TOLD_MS);
  engine.close();
  log = await logOf(house, session, EVENTS - 1);
});
after(async () => {
  await house?.end();
  assert.deepEqual(rejections, []);
});

interface Played {
  herald: Herald<Numbered>;
  seen: [number, number][];
  at: number[];
  replays: Replay[];
  live: number[];
}

function play(t: TestContext, options: Partial<Options>): Played {
  const herald = connect<Numbered>({ url: `http://127.0.0.1:${house.port}`, session, speed: 1, timeout: 2000, ...options });
  t.after(() => herald.close());
  const played: Played = { herald, seen: [], at: [], replays: [], live: [] };
  herald.on("arena.>", ({ seq, data }) => {
    played.seen.push([seq, data.n]);
    played.at.push(performance.now());
  });
  herald.on("replay", (replay) => played.replays.push(replay));
  herald.on("live", ({ after }) => played.live.push(after));
  return played;
}

for (const transport of ways) {
  test(`${transport}: cut in the midst of a replay, it goes on where it was, in its own time, and comes to now`, { timeout: 60_000 }, async (t) => {
    const proxy = await FaultProxy.start(() => house.port);
    t.after(() => proxy.end());
    const { herald, seen, at, live } = play(t, { transport, url: proxy.url, speed: 2 });
    for (const part of [0.25, 0.5, 0.75]) {
      await eventually("a part of it", () => seen.length >= EVENTS * part);
      proxy.cut();
    }
    await eventually("the end of it", () => live.length > 0 || assert.fail(`${seen.length} events, ${herald.status.state}`));
    compare(transport, seen, log);
    const ms = (at.at(-1) as number) - (at[0] as number);
    t.diagnostic(`${transport}: ${TOLD_MS} ms were played in ${Math.round(ms)} ms at 2x, ${proxy.connections} connections`);
    // Each cut begins with an event at once, and a pause before it: never much faster than it was.
    assert.ok(ms > TOLD_MS / 2 - 500, `${ms}`);
    assert.equal(proxy.connections, 4);
    // And then what happens, as it happens.
    const engine = await house.engine();
    const one = fresh();
    const follower = play(t, { transport, session: one, speed: 4 });
    await eventually("now", () => follower.live.length > 0);
    await engine.tell(one, 0, 5, 0);
    engine.close();
    await eventually("what happens", () => follower.seen.length === 5);
  });

  test(`${transport}: orders are followed: back, forth, halted, faster, to now`, { timeout: 60_000 }, async (t) => {
    const { herald, seen, live, replays } = play(t, { transport, speed: 0.5 });
    const place = (n: number) => (log[n] as [number, number])[0];
    await eventually("a beginning", () => seen.length >= 2);
    herald.replay({ seek: place(99), speed: 16 });
    await eventually("the end of it", () => live.length === 1);
    assert.deepEqual(seen.slice(-20), log.slice(100));
    // Back: by a cursor.
    seen.length = 0;
    herald.replay({ seek: `${herald.cursor?.slice(0, 8)}-${place(9)}`, speed: 1 });
    await eventually("what was before", () => seen.length >= 3);
    assert.deepEqual(seen.slice(0, 3), log.slice(10, 13));
    herald.replay({ pause: true });
    // What was on its way comes; then nothing, and all of it when it goes on.
    await eventually("a halt", () => herald.status.state === "paused" || replays.at(-1)?.state === "paused");
    const halted = seen.length;
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.equal(seen.length, halted);
    herald.replay({ pause: false, speed: 64 });
    await eventually("the end once more", () => live.length === 2);
    compare(transport, seen, log.slice(10));
    // To now, without what lies between.
    seen.length = 0;
    herald.replay({ seek: 0, speed: 0.1 });
    await eventually("the first", () => seen.length >= 1);
    assert.deepEqual(seen[0], log[0]);
    herald.replay({ live: true });
    if (transport === "websocket") await eventually("now", () => live.length === 3);
    else await eventually("now", () => herald.status.state === "open" && !herald.cursor?.endsWith(`-${place(0)}`));
    assert.ok(seen.length < 30, `${seen.length}`);
  });
}

test("what can't be played is refused in plain words", { timeout: 30_000 }, async (t) => {
  assert.throws(() => play(t, { speed: 1000 }), /speed: 1000/);
  const { herald } = play(t, { from: "snapshot" });
  const closed = await herald.closed;
  assert.ok(closed.reason === "refused" && closed.error.code === "bad_request", JSON.stringify(closed));
  if (ways[0] !== "websocket") return;
  const { herald: other, replays } = play(t, { speed: 64 });
  await eventually("a replay", () => replays.length > 0);
  other.replay({ seek: 1_000_000_000 });
  await eventually("a refusal", () => replays.at(-1)?.state === "refused");
  assert.equal(replays.at(-1)?.reason, "beyond");
});

test("the past by request: what there is, page by page, and the seam to what happens", { timeout: 30_000 }, async (t) => {
  const url = `http://127.0.0.1:${house.port}`;
  const asked = past<Numbered>({ url, session });
  const { first, last, events, types, over } = await asked.summary();
  assert.deepEqual([first?.seq, last?.seq, events, over], [log[0]?.[0], log.at(-1)?.[0], EVENTS, false]);
  assert.equal(Object.values(types).reduce((one, other) => one + other, 0), EVENTS);
  const seen: [number, number][] = [];
  let [pages, next] = [0, ""];
  for await (const page of asked.pages({ limit: 50 })) {
    pages++;
    next = page.next;
    assert.deepEqual([page.gaps, page.session], [[], session]);
    for (const { seq, data, cursor } of page.events) {
      seen.push([seq, data.n]);
      assert.equal(cursor, `${page.epoch}-${seq}`);
    }
  }
  compare("pages", seen, log);
  assert.equal(pages, 3);
  const some = await asked.page({ types: ["arena.agent.a1.output", "arena.agent.a2.*"], after: seen[9]?.[0] as number });
  assert.equal(some.events.length, log.filter(([, n], at) => at > 9 && (n % 4 === 1 || n % 4 === 2)).length);
  // What happens is behind it.
  const { herald, seen: now } = play(t, { from: next, speed: 1 });
  await eventually("now", () => herald.status.state === "open");
  assert.deepEqual(now, []);
  await assert.rejects(past({ url, session: fresh() }).summary(), (error: unknown) => error instanceof HeraldError && error.code === "not_found");
  await assert.rejects(asked.page({ types: ["no pattern"] }), (error: unknown) => error instanceof HeraldError && error.code === "bad_request");
  assert.throws(() => past({ url, session: "no session" }), HeraldError);
});

test("a fork begins with the other one's events, and goes on by itself", { timeout: 30_000 }, async (t) => {
  const url = `http://127.0.0.1:${house.port}`;
  const at = log[49]?.[0] as number;
  const forked = await past({ url, session }).fork(at);
  assert.equal(forked.at, at);
  assert.match(forked.session_id, /^fork-/);
  const { events, forked_at } = await past({ url, session: forked.session_id }).summary();
  assert.deepEqual([events, forked_at], [50, at]);
  const { seen, live } = play(t, { session: forked.session_id, speed: 64 });
  await eventually("its past", () => live.length > 0);
  assert.deepEqual(seen, log.slice(0, 50));
  const engine = await house.engine();
  await engine.tell(forked.session_id, 500, 1, 0);
  engine.close();
  await eventually("what happens in it", () => seen.at(-1)?.[1] === 500);
  await assert.rejects(past({ url, session }).fork(10 ** 9), (error: unknown) => error instanceof HeraldError && error.code === "bad_request");
});

test("who is there is told", { timeout: 30_000 }, async (t) => {
  const one = fresh();
  const told: string[] = [];
  const { herald } = play(t, { session: one, from: "live" });
  herald.on("presence", ({ count }) => told.push(`${count}`));
  herald.on("join", ({ id, since, count }) => told.push(`join ${id.length} ${since > 0} ${count}`));
  await eventually("oneself", () => told.length > 0);
  const { herald: other } = play(t, { session: one, from: "live" });
  await eventually("another one", () => told.includes("join 32 true 2") || assert.fail(told.join()));
  other.close();
});

const path = found();
test("in Chromium: cut, sought and played to the end", { skip: !path && "no Chromium found", timeout: 60_000 }, async (t) => {
  const tab = await open(path as string);
  t.after(() => tab.end());
  const proxy = await FaultProxy.start(() => house.port);
  t.after(() => proxy.end());
  await tab.page.evaluate(async ({ url, session }) => {
    const module = "/herald.min.js";
    const { connect } = (await import(module)) as typeof import("@herald/client");
    const herald = connect<Numbered>({ url, session, speed: 1, timeout: 2000 });
    const own = { herald, seen: [] as [number, number][], live: 0 };
    herald.on("arena.>", ({ seq, data }) => own.seen.push([seq, data.n]));
    herald.on("live", () => own.live++);
    Object.assign(globalThis, { own });
  }, { url: proxy.url, session });
  type Own = { own: { herald: Herald<Numbered>; seen: [number, number][]; live: number } };
  const look = () => tab.page.evaluate(() => {
    const { seen, live } = (globalThis as unknown as Own).own;
    return { seen, live };
  });
  await eventually("a beginning", async () => (await look()).seen.length > 20);
  proxy.cut();
  await eventually("more of it", async () => (await look()).seen.length > 40);
  await tab.page.evaluate((seq) => {
    const { own } = globalThis as unknown as Own;
    own.herald.replay({ seek: seq, speed: 8 });
    own.herald.on("replay", () => (own.seen.length = 0));
  }, (log[29] as [number, number])[0]);
  await eventually("the end of it", async () => (await look()).live === 1);
  compare("Chromium", (await look()).seen, log.slice(30));
  assert.deepEqual(tab.errors, []);
});
