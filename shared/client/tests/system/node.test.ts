// In Node, against a real Herald: kills, cuts, silence, delay.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { connect, HeraldError, type Herald, type Options } from "@herald/client";
import { compare, EVENTS, faults, fresh, logOf, QUICK, type Numbered } from "./faults.ts";
import { eventually, House } from "./house.ts";
import { FaultProxy } from "./proxy.ts";
import { check } from "../recorded.ts";

let house: House;
const rejections: unknown[] = [];
process.on("unhandledRejection", (reason) => rejections.push(reason));

before(async () => {
  house = await House.start({ edge: QUICK, arena: true, gm: ["--no-door", "--speed", "max"] });
});
after(async () => {
  await house?.end();
  assert.deepEqual(rejections, []);
});

// Node 22 and newer have one; Node 20 has it behind a flag.
const sockets = typeof WebSocket === "function";

interface Seen {
  herald: Herald<Numbered>;
  seen: [number, number][];
  gaps: number;
  opened: string[];
}

function follow(options: Partial<Options> & { session: string }, url: string): Seen {
  const herald = connect<Numbered>({ url, from: "start", timeout: 2000, ...options });
  const all: Seen = { herald, seen: [], gaps: 0, opened: [] };
  herald.on("arena.agent.*.output", ({ seq, data }) => all.seen.push([seq, data.n]));
  herald.on("gap", () => all.gaps++);
  herald.on("status", (status) => status.state === "open" && all.opened.push(status.transport));
  return all;
}

test("cuts, kills, silence and delay: every event once, in order", { timeout: 60_000 }, async (t) => {
  const session = fresh();
  const ways = sockets ? (["websocket", "auto", "sse"] as const) : (["sse", "auto"] as const);
  const proxies = await Promise.all(ways.map(() => FaultProxy.start(() => house.port)));
  t.after(() => Promise.all(proxies.map((proxy) => proxy.end())));
  const clients = ways.map((transport, at) => follow({ session, transport }, (proxies[at] as FaultProxy).url));
  // One that reads slowly, by an iterator.
  const slow = follow({ session, limit: 50 }, `http://127.0.0.1:${house.port}`);
  t.after(() => [...clients, slow].forEach(({ herald }) => herald.close()));
  const read: [number, number][] = [];
  let paused = 0;
  slow.herald.on("status", ({ state }) => state === "paused" && paused++);
  const reading = (async () => {
    for await (const { seq, data } of slow.herald.events("arena.>")) {
      read.push([seq, data.n]);
      if (read.length % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 10));
      if (data.n === EVENTS - 1) break;
    }
  })();
  const began = Date.now();
  await faults(house, proxies, session);
  t.diagnostic(`faults: ${Date.now() - began} ms`);
  const log = await logOf(house, session, EVENTS - 1);
  assert.ok(log.length > EVENTS * 0.99, `the log has ${log.length}`);
  for (const [at, { seen, herald }] of clients.entries()) {
    await eventually(`client ${ways[at]}`, () => seen.at(-1)?.[1] === EVENTS - 1 || assert.fail(JSON.stringify([seen.length, herald.status])));
  }
  await reading;
  for (const [at, { seen, gaps, opened }] of clients.entries()) {
    compare(`${ways[at]}`, seen, log);
    assert.equal(gaps, 0);
    t.diagnostic(`${ways[at]}: ${seen.length} events, ${opened.length} connections, at the end after ${Date.now() - began} ms`);
    // A stream that is cut as soon as it has brought something may have brought nothing to the page: it waits longer then.
    assert.ok(opened.length >= 2, `${ways[at]}: ${opened.length} connections`);
  }
  compare("slow reader", read, log);
  t.diagnostic(`slow reader: paused ${paused} times`);
  assert.ok(paused >= 3);
});

test("where WebSockets are blocked, event streams take over", { skip: !sockets && "no WebSocket in this Node" }, async () => {
  const session = fresh();
  const proxy = await FaultProxy.start(() => house.port);
  proxy.blocksSockets = true;
  const client = follow({ session }, proxy.url);
  await eventually("an event stream", () => client.opened.at(-1) === "sse");
  const engine = await house.engine();
  await engine.tell(session, 0, 50, 0);
  await eventually("50 events", () => client.seen.length === 50);
  // The network is a better one now.
  proxy.blocksSockets = false;
  proxy.cut();
  await eventually("a socket", () => client.opened.at(-1) === "websocket");
  await engine.tell(session, 50, 50, 0);
  await eventually("100 events", () => client.seen.length === 100);
  compare("both ways", client.seen, await logOf(house, session, 99));
  engine.close();
  client.herald.close();
  await proxy.end();
});

test("a silent session keeps its connection", { skip: !sockets && "no WebSocket in this Node" }, async () => {
  const client = follow({ session: fresh(), from: "live" }, `http://127.0.0.1:${house.port}`);
  await eventually("a connection", () => client.opened.length === 1);
  // Four heartbeats longer than silence is suffered.
  await new Promise((resolve) => setTimeout(resolve, 4800));
  assert.equal(client.opened.length, 1);
  client.herald.close();
});

test("a snapshot is the present, and what follows is the rest", async () => {
  const session = fresh();
  const engine = await house.engine();
  await engine.tell(session, 0, 40, 0);
  await logOf(house, session, 39);
  const herald = connect({ url: `http://127.0.0.1:${house.port}`, session, from: "snapshot" });
  const shown: [string, unknown, unknown][] = [];
  const order: string[] = [];
  herald.on("live", () => order.push("live"));
  herald.on("arena.agent.*.output", ({ event, data, snapshot }) => {
    order.push(snapshot ? "snapshot" : "event");
    shown.push([event, (data as unknown as { n: number }).n, snapshot]);
  });
  await eventually("the snapshot", () => order.includes("live"));
  assert.deepEqual(shown.sort(), [0, 1, 2, 3].map((agent) => [`arena.agent.a${agent}.output`, 36 + agent, true]));
  await engine.tell(session, 40, 1, 0);
  await eventually("what follows", () => order.includes("event"));
  assert.deepEqual(order, ["snapshot", "snapshot", "snapshot", "snapshot", "live", "event"]);
  engine.close();
  herald.close();
});

test("a whole turn by commands, its events of the types they are said to have", { timeout: 60_000 }, async () => {
  const url = `http://127.0.0.1:${house.port}`;
  const session = fresh();
  const herald = connect({ url, session, from: "start" });
  const events: { event: string; data: unknown }[] = [];
  herald.on(">", (event) => events.push(event));
  await assert.rejects(herald.propose(), (error) => error instanceof HeraldError && error.code === "not_found" && error.message === "Session not found");
  const started = await herald.start({ lang: "en" });
  assert.deepEqual([started.session_id, started.lang, started.turn], [session, "en", 1]);
  const results = herald.events("gm.result");
  assert.equal((await herald.propose({ lang: "en" })).status, "streaming");
  await results.next();
  assert.ok(events.some(({ event }) => event === "gm.proposal"));
  assert.equal((await herald.choose("fake", { lang: "en" })).session_id, session);
  await results.next();
  assert.equal((await herald.state()).turn, 2);
  assert.equal((await herald.cancel()).status, "idle");
  assert.equal(check("played", events), "");
  assert.ok(events.length > 50, `${events.length} events`);
  herald.close();
});

test("what a person got wrong is told in plain words", async (t) => {
  const session = fresh();
  const told = async (options: Partial<Options>) => {
    const herald = connect({ url: `http://127.0.0.1:${house.port}`, session, ...options });
    const status = await eventually("a word", () => "error" in herald.status && herald.status);
    herald.close();
    t.diagnostic(`${status.state}: ${status.error.message}`);
    return [status.state, status.error.code];
  };
  const other = await FaultProxy.start(() => house.port);
  const { url } = other;
  await other.end();
  assert.deepEqual(await told({ url }), ["waiting", "unreachable"], "an edge that is away");
  assert.deepEqual(await told({ url: `http://127.0.0.1:${house.port}/nowhere`, transport: "sse" }), ["closed", "not_found"], "a wrong path");
});

test("a cursor of another life is told by a gap, and events go on", async () => {
  const session = fresh();
  const engine = await house.engine();
  await engine.tell(session, 0, 5, 0);
  await logOf(house, session, 4);
  for (const transport of sockets ? (["websocket", "sse"] as const) : (["sse"] as const)) {
    const herald = connect({ url: `http://127.0.0.1:${house.port}`, session, from: "deadbeef-5000", transport });
    const gaps: string[] = [];
    const seen: number[] = [];
    herald.on("gap", ({ reason }) => gaps.push(reason));
    herald.on("arena.>", ({ data }) => seen.push((data as unknown as { n: number }).n));
    await eventually("its events", () => seen.length === 5);
    assert.deepEqual([gaps, seen], [["epoch"], [0, 1, 2, 3, 4]]);
    herald.close();
  }
  engine.close();
});

test("a session that is over sends its clients away for good, behind its last event", async () => {
  const session = fresh();
  const url = `http://127.0.0.1:${house.port}`;
  const end = () => fetch(`${url}/sessions/${session}/end`, { method: "POST" });
  const ways = sockets ? (["websocket", "sse"] as const) : (["sse"] as const);
  const live = ways.map((transport) => follow({ session, transport }, url));
  const game = connect({ url, session });
  await game.start({ lang: "en" });
  const engine = await house.engine();
  await engine.tell(session, 0, 20, 0);
  await eventually("20 events", () => live.every(({ seen }) => seen.length === 20));
  assert.equal((await end()).status, 200);
  // Who comes later gets what there is, and then the same word.
  const late = ways.map((transport) => follow({ session, transport }, url));
  for (const { herald, seen, gaps } of [...live, ...late]) {
    assert.equal((await herald.closed).reason, "over");
    assert.deepEqual([seen.map(([, n]) => n), gaps], [Array.from({ length: 20 }, (_, n) => n), 0]);
  }
  assert.equal((await game.closed).reason, "over");
  engine.close();
});
