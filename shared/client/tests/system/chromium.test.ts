// In Chromium, against a real Herald: kills, cuts, silence, delay, a network that is away.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Herald, Options } from "@herald/client";
import { found, open, type Tab } from "./browser.ts";
import { compare, EVENTS, faults, fresh, logOf, QUICK, type Numbered } from "./faults.ts";
import { eventually, House } from "./house.ts";
import { FaultProxy } from "./proxy.ts";

/** What the page keeps of one client. */
interface Kept {
  herald: Herald<Numbered>;
  seen: [number, number][];
  gaps: number;
  opened: string[];
}
declare const kept: Record<string, Kept>;

const path = found();
const skip = path ? false : "no Chromium found: install Debian's chromium, or name one by HERALD_CHROMIUM";
if (skip) console.log(skip);
let house: House;
let tab: Tab;

before(async () => {
  if (!path) return;
  house = await House.start({ edge: QUICK });
  tab = await open(path);
});
after(async () => {
  await tab?.end();
  await house?.end();
});

/** Has the page follow a session. */
function follow(name: string, options: Options): Promise<void> {
  return tab.page.evaluate(async ({ name, options }) => {
    // What the page is served, which is no file here.
    const module = "/herald.min.js";
    const { connect } = (await import(module)) as typeof import("@herald/client");
    const herald = connect<Numbered>({ from: "start", timeout: 2000, ...options });
    const own: Kept = { herald, seen: [], gaps: 0, opened: [] };
    herald.on("arena.>", ({ seq, data }) => own.seen.push([seq, data.n]));
    herald.on("gap", () => own.gaps++);
    herald.on("status", (status) => {
      if (status.state === "open") own.opened.push(status.transport);
    });
    Object.assign(globalThis, { kept: { ...(globalThis as { kept?: object }).kept, [name]: own } });
  }, { name, options });
}

const look = (name: string) =>
  tab.page.evaluate((name) => {
    const { seen, gaps, opened, herald } = kept[name] as Kept;
    return { seen, gaps, opened, status: herald.status.state };
  }, name);
const leave = (name: string) => tab.page.evaluate((name) => (kept[name] as Kept).herald.close(), name);

test("cuts, kills, silence and delay: every event once, in order", { skip, timeout: 90_000 }, async (t) => {
  const session = fresh();
  const ways = ["websocket", "auto", "sse"] as const;
  const proxies = await Promise.all(ways.map(() => FaultProxy.start(() => house.port)));
  t.after(() => Promise.all(proxies.map((proxy) => proxy.end())));
  for (const [at, transport] of ways.entries()) await follow(transport, { session, transport, url: (proxies[at] as FaultProxy).url });
  const began = Date.now();
  await faults(house, proxies, session);
  t.diagnostic(`faults: ${Date.now() - began} ms`);
  const log = await logOf(house, session, EVENTS - 1);
  assert.ok(log.length > EVENTS * 0.99);
  for (const way of ways) {
    await eventually(way, async () => (await look(way)).seen.at(-1)?.[1] === EVENTS - 1 || assert.fail((await look(way)).status));
    const { seen, gaps, opened } = await look(way);
    compare(way, seen, log);
    assert.equal(gaps, 0);
    t.diagnostic(`${way}: ${seen.length} events, ${opened.length} connections, at the end after ${Date.now() - began} ms`);
    // A stream that is cut as soon as it has brought something may have brought nothing to the page: it waits longer then.
    assert.ok(opened.length >= 2, `${way}: ${opened.length} connections`);
    await leave(way);
  }
  assert.deepEqual(tab.errors, []);
});

test("a network that is away and back: the page goes on at once", { skip, timeout: 60_000 }, async () => {
  const session = fresh();
  const proxy = await FaultProxy.start(() => house.port);
  await follow("away", { session, url: proxy.url });
  await eventually("a connection", async () => (await look("away")).opened.length === 1);
  const engine = await house.engine();
  await engine.tell(session, 0, 20, 0);
  await eventually("20 events", async () => (await look("away")).seen.length === 20);
  // Nothing cuts the connection: that its network is gone is noticed at once.
  await tab.page.context().setOffline(true);
  await eventually("an attempt in vain", async () => (await look("away")).status === "waiting", 3000);
  await engine.tell(session, 20, 20, 0);
  await tab.page.context().setOffline(false);
  await eventually("40 events", async () => (await look("away")).seen.length === 40);
  compare("away", (await look("away")).seen, await logOf(house, session, 39));
  engine.close();
  await leave("away");
  await proxy.end();
  assert.deepEqual(tab.errors, []);
});

test("where WebSockets are blocked, event streams take over", { skip, timeout: 60_000 }, async () => {
  const session = fresh();
  const proxy = await FaultProxy.start(() => house.port);
  proxy.blocksSockets = true;
  await follow("blocked", { session, url: proxy.url });
  await eventually("an event stream", async () => (await look("blocked")).opened.at(-1) === "sse");
  const engine = await house.engine();
  await engine.tell(session, 0, 50, 0);
  await eventually("50 events", async () => (await look("blocked")).seen.length === 50);
  compare("blocked", (await look("blocked")).seen, await logOf(house, session, 49));
  engine.close();
  await leave("blocked");
  await proxy.end();
  assert.deepEqual(tab.errors, []);
});
