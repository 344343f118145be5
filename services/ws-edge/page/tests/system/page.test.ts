// The page that a real door serves, in Chromium: a game played, an edge that dies, time wound back, two languages, two sizes.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import type { Browser } from "playwright-core";
import { found } from "../../../../../shared/client/tests/system/browser.ts";
import { framesOf, fresh, QUICK } from "../../../../../shared/client/tests/system/faults.ts";
import { eventually, House } from "../../../../../shared/client/tests/system/house.ts";
import type { Log } from "../../src/log.ts";
import { DESKTOP, launch, PHONE, Tab } from "./tab.ts";

const SECRET = "a secret of at least thirty-two bytes";
/** A door that asks for tokens. */
const CLOSED = {
  toml: '[[ws-edge.listeners]]\nbuiltin = "arena"\naddress = "127.0.0.1:0"\nauth = "jwt"\npage = true\n',
  edge: { HERALD_JWT__SECRET: SECRET },
};

function tokenFor(claims: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: "ann", iat: now, exp: now + 600, ...claims })}`;
  return `${text}.${createHmac("sha256", SECRET).update(text).digest("base64url")}`;
}

/** What the page shows to its browser's tools. */
declare const herald: { log: Log; session: string };

const path = found();
const skip = path ? false : "no Chromium found: install Debian's chromium, or name one by HERALD_CHROMIUM";
if (skip) console.log(skip);
const FIRST_PAINT_MS = 1000;
const LONG_TASK_MS = 100;
let house: House;
let browser: Browser;
let url: string;

/** A port that is free now. */
function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

before(async () => {
  if (!path) return;
  // The Game Master is told the door before there is one.
  const port = await freePort();
  house = await House.start({
    edge: { ...QUICK, PORT: String(port) },
    gm: ["--door", `http://127.0.0.1:${port}/gm`, "--reopen", "--speed", "12", "--turns", "2"],
    arena: true,
  });
  url = `http://127.0.0.1:${port}/`;
  browser = await launch(path);
  await eventually("a Game Master at the door", async () => ((await (await fetch(`${url}health`)).json()) as { gm_client_ready: boolean }).gm_client_ready);
});
after(async () => {
  await browser?.close();
  await house?.end();
});

/** The log of a session as the door tells it, up to a sequence. */
const logOf = (session: string, last: number) => framesOf(house.port, session, ({ seq }) => seq >= last);
const inPage = (tab: Tab) => tab.page.evaluate(() => [...herald.log.entries()].map(({ event, data, seq, ts }) => ({ event, data, seq, ts })));
const ready = (tab: Tab) => tab.page.locator('.publish[aria-disabled="false"]').nth(2).waitFor();
/** Waits until the turn is played. */
const played = (tab: Tab, turn: string) => tab.page.locator(".control h1", { hasText: turn }).waitFor();

test("a game is played to its end by keyboard alone, seen by everybody, and wound back", { skip, timeout: 150_000 }, async (t) => {
  const tab = await Tab.open(browser, url);
  const { page } = tab;
  await page.locator(".health dt").first().waitFor();
  await tab.accessible("the beginning");
  await tab.shot("home-desktop-light");

  await tab.tabTo("#start");
  await page.keyboard.press("Enter");
  await page.locator(".progress strong").waitFor();
  await tab.shot("play-thinking-desktop-light");
  await ready(tab);
  await page.waitForFunction(() => [...document.querySelectorAll<HTMLImageElement>(".poster img")].filter((img) => img.naturalWidth > 0).length === 3);
  await page.waitForFunction(() => document.querySelector(".link")?.textContent === "Live");
  await tab.accessible("the news");
  await tab.shot("play-news-desktop-light", true);

  await tab.tabTo(".unfold");
  await page.keyboard.press("Enter");
  assert.equal(await page.locator('.unfold[aria-expanded="true"]').count(), 1);
  await page.keyboard.press("Enter");
  await tab.tabTo(".publish");
  await page.keyboard.press("ArrowRight");
  assert.equal(await page.evaluate(() => (document.activeElement as HTMLElement).dataset.kind), "fake");
  await page.keyboard.press("Enter");
  await page.locator(".take").nth(5).waitFor();
  await tab.shot("play-debate-desktop-light", true);
  await page.locator(".mark.is-death").waitFor();
  await page.locator(".mark.is-clone").waitFor();
  await played(tab, "Turn 2");
  assert.equal(await page.locator('.publish[aria-pressed="true"]').getAttribute("data-kind"), "fake");
  assert.equal(await page.locator(".gauge").count(), 4);
  await page.locator(".history canvas").waitFor();
  await page.locator('.control[aria-busy="false"]').waitFor();
  await tab.accessible("a turn played");
  await tab.shot("play-turn-desktop-light", true);

  await tab.tabTo("#next");
  await page.keyboard.press("Enter");
  await ready(tab);
  await tab.tabTo(".publish");
  await page.keyboard.press("Enter");
  await page.locator(".end").waitFor();
  await page.locator('.control[aria-busy="false"]').waitFor();
  await tab.accessible("the end");
  await tab.shot("play-end-desktop-light");

  // Wound back: what is shown at a moment is what the log says of it.
  await tab.tabTo('.bar nav a[href^="#/inspect/"]');
  await page.keyboard.press("Enter");
  await page.locator(".row").first().waitFor();
  await tab.shot("inspect-live-desktop-light", true);
  const all = await inPage(tab);
  const log = await logOf(await page.evaluate(() => herald.session), all.at(-1)?.seq ?? 0);
  assert.deepEqual(all, log);
  t.diagnostic(`${log.length} events`);
  const proposals = log.flatMap(({ event }, at) => (event === "gm.proposal" ? [at] : []));
  assert.equal(proposals.length, 2);
  await tab.tabTo("#timeline");
  await page.keyboard.press("Home");
  for (let at = 1; at < (proposals[0] as number); at++) await page.keyboard.press("ArrowRight");
  const board = page.locator(".board");
  await page.locator(`.board[data-shown="${proposals[0]}"]`).waitFor();
  assert.equal(await board.locator(".titles li").count(), 0);
  await page.keyboard.press("ArrowRight");
  const titles = () => board.locator(".titles li").allTextContents();
  const told = (place: number) => {
    const { data } = log[place]?.data as { data: Record<string, { text: string }> };
    return ["real", "fake", "satirical"].map((kind) => data[kind]?.text as string);
  };
  assert.deepEqual((await titles()).map((title) => title.replace(/^\S+ /, "")), told(proposals[0] as number));
  assert.equal(await page.locator("#live").getAttribute("aria-pressed"), "false");
  await tab.accessible("wound back");
  await tab.shot("inspect-wound-back-desktop-light", true);

  // By a pointer; then on from there, sixteen times as fast, until it is live again.
  const track = (await page.locator("#timeline").boundingBox()) as { x: number; y: number; width: number };
  await page.mouse.move(track.x + track.width * 0.6, track.y + 10);
  await page.mouse.down();
  await page.mouse.move(track.x + track.width * 0.4, track.y + 12, { steps: 5 });
  await page.mouse.up();
  const shown = Number(await board.getAttribute("data-shown"));
  assert.ok(shown > 1 && shown < log.length, `${shown}`);
  const sockets: string[] = [];
  page.on("websocket", (socket) => sockets.push(new URL(socket.url()).search));
  await page.locator("#speed").selectOption("16");
  await page.locator("#play").click();
  await page.waitForFunction((shown) => Number(document.querySelector<HTMLElement>(".board")?.dataset.shown) > shown, shown);
  await page.locator('#live[aria-pressed="true"]').waitFor();
  assert.equal(Number(await board.getAttribute("data-shown")), log.length);
  // The door has played it, from there.
  assert.deepEqual(sockets, [`?after=${log[shown - 1]?.seq}&speed=16`]);
  assert.deepEqual((await titles()).map((title) => title.replace(/^\S+ /, "")), told(proposals[1] as number));

  // A filter, an event, and the command line that shows it again.
  await page.locator(".filter input").fill("gm.proposal");
  await page.locator('.row[aria-setsize="2"]').first().click();
  await page.locator(".detail h2", { hasText: "gm.proposal" }).waitFor();
  await page.locator("#copy-curl").click();
  const line = await page.evaluate(() => navigator.clipboard.readText());
  assert.ok(line.includes(`after=${(log[proposals[0] as number]?.seq as number) - 1}`), line);
  const { execFileSync } = await import("node:child_process");
  const said = execFileSync("sh", ["-c", line], { encoding: "utf8", timeout: 15_000 });
  assert.ok(said.includes(JSON.stringify(told(proposals[0] as number)[1]).slice(1, -1)), said.slice(0, 300));
  await tab.accessible("an event");
  await tab.shot("inspect-event-desktop-light", true);
  assert.deepEqual(tab.errors, []);
  await tab.end();
});

test("an edge that is killed in mid-turn is missed by nobody: the page goes on with every event", { skip, timeout: 90_000 }, async () => {
  const session = fresh();
  const tab = await Tab.open(browser, `${url}#/play/${session}`);
  const { page } = tab;
  await page.locator("#next").click();
  await page.locator(".terminal .is-text").first().waitFor();
  const before = await page.evaluate(() => herald.log.end);
  await house.closeDoor("SIGKILL");
  await page.locator('.link:not([data-state="open"])').waitFor();
  // Away for longer than a moment: the person is told what to do.
  await page.locator(".trouble", { hasText: "The door does not answer." }).waitFor();
  await tab.accessible("an edge that is away");
  await tab.shot("play-reconnecting-desktop-light");
  await house.openDoor();
  await page.locator('.link[data-state="open"]').waitFor();
  await ready(tab);
  await page.locator('.control[aria-busy="false"]').waitFor();
  const all = await inPage(tab);
  assert.ok(all.length > before && before > 0);
  assert.deepEqual(all, await logOf(session, all.at(-1)?.seq ?? 0));
  assert.equal(await page.locator(".trouble").count(), 0);
  // The network's own words on the connection that broke, and nothing else.
  assert.deepEqual(tab.errors.filter((error) => !/WebSocket connection|ERR_CONNECTION|ERR_INCOMPLETE|Failed to load resource/.test(error)), []);
  await tab.end();
});

test("on a phone, in the dark, in French", { skip, timeout: 90_000 }, async () => {
  const tab = await Tab.open(browser, url, PHONE);
  const { page } = tab;
  await page.locator(".health dt").first().waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.lang), "fr");
  await tab.accessible("home");
  await tab.shot("home-phone-dark");
  await page.locator("#start").tap();
  await ready(tab);
  await tab.accessible("news");
  await tab.shot("play-news-phone-dark");
  await page.locator(".publish").nth(2).tap();
  await page.locator(".take").nth(3).waitFor();
  await played(tab, "Tour 2");
  await page.locator('.control[aria-busy="false"]').waitFor();
  await page.waitForFunction(() => /[àéèêç]/.test(document.querySelector(".take")?.textContent ?? ""));
  await tab.accessible("a turn");
  await tab.shot("play-turn-phone-dark");
  await page.locator(".take").last().scrollIntoViewIfNeeded();
  await tab.shot("play-debate-phone-dark");
  await page.locator(".opinion").scrollIntoViewIfNeeded();
  await tab.shot("play-opinion-phone-dark");
  await page.locator('.bar nav a[href^="#/inspect/"]').tap();
  await page.locator(".row").first().waitFor();
  await tab.accessible("inspect");
  await tab.shot("inspect-phone-dark");
  await page.locator(".board").scrollIntoViewIfNeeded();
  await tab.shot("inspect-board-phone-dark");

  // By hand: the other language, and light.
  const [language, theme] = [page.locator(".tools select").nth(0), page.locator(".tools select").nth(1)];
  await language.selectOption("en");
  await theme.selectOption("light");
  await page.locator(".bar nav a", { hasText: "Inspect" }).waitFor();
  await page.evaluate(() => scrollTo(0, 0));
  await tab.accessible("inspect, light");
  await tab.shot("inspect-phone-light");
  await page.reload();
  assert.deepEqual(await page.evaluate(() => [document.documentElement.lang, document.documentElement.dataset.theme]), ["en", "light"]);
  assert.deepEqual(tab.errors, []);
  await tab.end();
});

test("a desktop in the dark", { skip, timeout: 60_000 }, async () => {
  const session = fresh();
  const tab = await Tab.open(browser, `${url}#/play/${session}`, { ...DESKTOP, colorScheme: "dark" });
  await tab.page.locator("#next").click();
  await ready(tab);
  // Somebody who comes later sees the same.
  const other = await Tab.open(browser, `${url}#/play/${session}`);
  await ready(other);
  await other.page.locator(".gauge").nth(3).waitFor();
  assert.deepEqual(await other.page.locator(".gauge text").allTextContents(), await tab.page.locator(".gauge text").allTextContents());
  assert.deepEqual(other.errors, []);
  await other.end();
  await tab.page.locator(".publish").nth(0).click();
  await played(tab, "Turn 2");
  await tab.page.locator('.control[aria-busy="false"]').waitFor();
  await tab.accessible("a turn, dark");
  await tab.shot("play-turn-desktop-dark", true);
  await tab.page.goto(`${url}#/inspect/${session}`);
  await tab.page.locator(".row").first().waitFor();
  await tab.accessible("inspect, dark");
  await tab.shot("inspect-desktop-dark", true);
  assert.deepEqual(tab.errors, []);
  await tab.end();
});

test("a session of 20,000 events stays usable", { skip, timeout: 90_000 }, async (t) => {
  const session = fresh();
  const engine = await house.engine();
  await engine.tell(session, 0, 20_000, 2000);
  engine.close();
  const tab = await Tab.open(browser, `${url}#/inspect/${session}`);
  const { page } = tab;
  // Whatever else this machine does only adds to it: of a few times the shortest is the page's own.
  const paints: number[] = [];
  for (let times = 0; times < 3 && !paints.some((ms) => ms < FIRST_PAINT_MS); times++) {
    if (times) await page.reload();
    await page.locator(".row").first().waitFor();
    paints.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? Infinity));
  }
  await page.waitForFunction(() => herald.log.end >= 20_000 * 0.99);
  const loaded = await page.evaluate(() => performance.now());
  // A plain engine's events are not acknowledged: as many as the log has.
  const count = await page.evaluate(() => herald.log.end);
  const tasks = await tab.tasks(browser, async () => {
    await page.locator(".list").hover();
    for (let at = 0; at < 30; at++) await page.mouse.wheel(0, at % 2 ? -9000 : 30_000);
    await page.locator("#timeline").press("Home");
    await page.locator("#timeline").press("PageUp");
  });
  // And while all of it is read.
  const reading = await tab.tasks(browser, async () => {
    await page.reload();
    await page.waitForFunction((count) => typeof herald === "object" && herald.log.end >= count, count);
  });
  const readingLongest = Math.max(...reading.map(({ cpu }) => cpu));
  await page.locator(".row").first().waitFor();
  const rows = await page.locator(".row").count();
  const [longest, waited] = [Math.max(...tasks.map(({ cpu }) => cpu)), Math.max(...tasks.map(({ wall }) => wall))];
  const ms = (list: number[]) => list.map(Math.round).join(", ");
  t.diagnostic(`first paint after ${ms(paints)} ms, all ${count} events after ${ms([loaded])} ms; longest of ${tasks.length} tasks while scrolling: ${ms([longest])} ms of work, ${ms([waited])} ms with what else the machine did; while reading: ${ms([readingLongest])} ms; ${rows} rows drawn`);
  assert.ok(Math.min(...paints) < FIRST_PAINT_MS, `first paint: ${ms(paints)} ms`);
  assert.ok(tasks.length > 50 && longest < LONG_TASK_MS, `a task of ${longest} ms`);
  assert.ok(readingLongest < LONG_TASK_MS, `a task of ${readingLongest} ms while reading`);
  assert.ok(rows < 80, `${rows} rows`);
  assert.deepEqual(tab.errors, []);
  await tab.end();
});

/** A session whose events are known, and how long they took. */
async function numbered(count: number, ms: number) {
  const session = fresh();
  const engine = await house.engine();
  await engine.tell(session, 0, count, ms);
  engine.close();
  const log = await framesOf(house.port, session, ({ data }) => (data as { n: number }).n === count - 1);
  return { session, log };
}

test("a session's past is asked for page by page, and played by the door in its own time", { skip, timeout: 90_000 }, async (t) => {
  const { session, log } = await numbered(100, 4000);
  const tab = await Tab.open(browser, url);
  const { page } = tab;
  const asked: string[] = [];
  page.on("request", (request) => asked.push(new URL(request.url()).pathname));
  const sockets: string[] = [];
  page.on("websocket", (socket) => sockets.push(new URL(socket.url()).search));
  await page.goto(`${url}#/inspect/${session}`);
  await page.locator('#live[aria-pressed="true"]').waitFor();
  await page.waitForFunction((n) => herald.log.end === n, log.length);
  await page.locator('.link[data-state="open"]').waitFor();
  assert.deepEqual(await inPage(tab), log);
  assert.ok(asked.includes(`/sessions/${session}/events`), asked.join());
  assert.match(sockets.join(), /^\?after=[0-9a-f]{8}-\d+$/, "the socket brings what comes then");
  // What the door counts.
  const facts = page.locator("#facts");
  await facts.getByText("100 events").waitFor();
  assert.match((await facts.textContent()) ?? "", /100 events · began .* · \d\ss long$/);
  await page.locator(".kinds summary").click();
  await page.locator(".kinds button", { hasText: "arena.agent.a1.output 25" }).click();
  await page.locator('.row[aria-setsize="25"]').first().waitFor();
  await tab.accessible("kinds of events");
  await page.locator(".filter input").fill("");

  const board = page.locator(".board");
  const shown = async () => Number(await board.getAttribute("data-shown"));
  const reached = (n: number) => page.waitForFunction((n) => Number(document.querySelector<HTMLElement>(".board")?.dataset.shown) >= n, n);
  await page.locator("#timeline").press("Home");
  await page.locator("#speed").selectOption("2");
  const began = Date.now();
  await page.locator("#play").click();
  await reached(50);
  const half = Date.now() - began;
  // Halted it stays; then on, faster, from there.
  await page.locator("#play").click();
  await page.locator('#play[aria-label="Play from here"]').waitFor();
  const halted = await shown();
  await page.waitForTimeout(300);
  assert.equal(await shown(), halted);
  await page.locator("#speed").selectOption("8");
  await page.locator("#play").click();
  await page.locator('#live[aria-pressed="true"]').waitFor();
  assert.equal(await shown(), log.length);
  t.diagnostic(`2 of 4 seconds were played in ${half} ms at 2x, halted at ${halted}`);
  assert.ok(half > 700, `${half} ms`);
  assert.equal(sockets.filter((query) => query.includes("speed")).length, 1, "one connection has done all of it");

  // An edge that dies while it plays is missed by nobody.
  await page.locator("#timeline").press("Home");
  await page.locator("#speed").selectOption("1");
  await page.locator("#play").click();
  await reached(20);
  await house.closeDoor("SIGKILL");
  await house.openDoor();
  await page.locator('.link[data-state="open"]').waitFor();
  await page.locator("#speed").selectOption("16");
  await page.locator('#live[aria-pressed="true"]').waitFor();
  assert.equal(await shown(), log.length);
  assert.deepEqual(tab.errors.filter((error) => !/WebSocket connection|ERR_CONNECTION|ERR_INCOMPLETE|Failed to load resource/.test(error)), []);

  // Where the door does not play, this device does.
  await page.routeWebSocket(/speed=/, (socket) => socket.close({ code: 4403, reason: "no" }));
  await page.locator("#timeline").press("Home");
  await page.locator("#speed").selectOption("4");
  await page.locator("#play").click();
  await reached(50);
  await page.locator("#live").click();
  assert.equal(await shown(), log.length);
  await tab.end();
});

test("a fork begins with what is shown, and is opened", { skip, timeout: 60_000 }, async () => {
  const { session, log } = await numbered(40, 400);
  const tab = await Tab.open(browser, `${url}#/inspect/${session}`);
  const { page } = tab;
  await page.waitForFunction((n) => herald.log.end === n, log.length);
  await page.locator("#timeline").press("Home");
  for (let at = 1; at < 15; at++) await page.locator("#timeline").press("ArrowRight");
  await page.locator('.board[data-shown="15"]').waitFor();
  await tab.tabTo("#fork");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => location.hash.startsWith("#/inspect/fork-"));
  await page.waitForFunction(() => herald.session.startsWith("fork-") && herald.log.end === 15);
  assert.deepEqual(await inPage(tab), log.slice(0, 15));
  await page.locator("#facts", { hasText: "a fork" }).waitFor();
  await page.locator(".kinds summary", { hasText: "Kinds of events: 4" }).waitFor();
  await tab.accessible("a fork");
  await page.locator(".tools select").nth(0).selectOption("fr");
  await page.locator("#facts", { hasText: "une bifurcation" }).waitFor();
  await tab.accessible("a fork, in French");
  await tab.shot("inspect-fork-desktop-light-fr");
  await page.locator(".tools select").nth(0).selectOption("en");
  await tab.shot("inspect-fork-desktop-light", true);
  // It goes on by itself.
  const engine = await house.engine();
  await engine.tell(await page.evaluate(() => herald.session), 500, 3, 0);
  engine.close();
  await page.waitForFunction(() => herald.log.end === 18);
  assert.deepEqual(tab.errors, []);

  // Refused: in plain words, and nothing moves.
  await page.route(/\/fork/, (route) => route.fulfill({ status: 409, json: { error: "this is the eighth fork" } }));
  await page.locator("#fork").click();
  await page.locator(".trouble", { hasText: "this is the eighth fork" }).waitFor();
  assert.match(page.url(), /#\/inspect\/fork-/);
  await tab.end();
});

test("operators see who watches what, and nobody else does", { skip, timeout: 90_000 }, async () => {
  const closed = await House.start(CLOSED);
  try {
    const door = `http://127.0.0.1:${closed.port}/`;
    const session = fresh();
    const player = await Tab.open(browser, `${door}#/play/${session}`);
    await player.page.locator(".trouble input").fill(tokenFor({ sub: "bob", sessions: [session] }));
    await player.page.locator(".trouble button[type=submit]").click();
    await player.page.locator('.link[data-state="open"]').waitFor();

    const tab = await Tab.open(browser, `${door}#/inspect`);
    const { page } = tab;
    const part = page.locator(".operators");
    await part.locator("summary").focus();
    await page.keyboard.press("Enter");
    await part.getByText("Enter a token with the role of an operator").waitFor();
    await tab.accessible("operators without a token");
    const enter = async (text: string) => {
      await part.locator("input").fill(text);
      await part.locator("button[type=submit]").click();
    };
    assert.deepEqual(tab.errors, []);
    await enter(`${tokenFor({ role: "operator" })}x`);
    await part.getByText("does not take this token").waitFor();
    await enter(tokenFor({ sessions: ["*"] }));
    await part.getByText("not an operator's").waitFor();
    await tab.accessible("a token of somebody else");
    await enter(tokenFor({ role: "operator", sessions: ["*"] }));
    const row = part.locator("tr", { hasText: session });
    await row.nth(1).waitFor();
    assert.equal(await row.nth(0).locator("td").nth(0).textContent(), "1");
    assert.match((await row.nth(1).textContent()) ?? "", /bob.*127\.0\.0\.1.*\/ws\/\{sid\}.*listening/);
    assert.ok(!page.url().includes("eyJ"));
    await tab.accessible("operators");
    await tab.shot("inspect-operators-desktop-light", true);
    // Another one comes, and is there within seconds.
    const other = fresh();
    await player.page.goto(`${door}#/play/${other}`);
    await player.page.locator(".trouble input").fill(tokenFor({ sub: "eve", sessions: [other] }));
    await player.page.locator(".trouble button[type=submit]").click();
    await part.locator("tr", { hasText: "eve" }).waitFor();
    await part.locator("a", { hasText: other }).first().click();
    await page.waitForFunction((other) => location.hash === `#/inspect/${other}`, other);
    await page.locator('.link[data-state="open"]').waitFor();
    await part.locator('a[aria-current="true"]').first().waitFor();
    assert.deepEqual(tab.errors.filter((error) => !/status of 40[134]/.test(error)), []);
    await part.getByText("Forget the token").click();
    await part.getByText("Enter a token with the role of an operator").waitFor();
    await tab.end();

    const phone = await Tab.open(browser, `${door}#/inspect`, PHONE);
    await phone.page.locator(".operators summary").tap();
    await phone.page.locator(".operators input").fill(tokenFor({ role: "operator", sessions: ["*"] }));
    await phone.page.locator(".operators button[type=submit]").tap();
    await phone.page.getByText("Vu par la porte qui répond").waitFor();
    await phone.page.locator("tr", { hasText: "eve" }).waitFor();
    await phone.page.locator(".wide").nth(1).evaluate((element) => (element.scrollLeft = 200));
    await phone.accessible("operators on a phone");
    await phone.shot("inspect-operators-phone-dark", true);
    assert.deepEqual(phone.errors, []);
    await phone.end();
    await player.end();
  } finally {
    await closed.end();
  }
});

test("a door that asks nobody has no lists, and says so in a sentence", { skip, timeout: 60_000 }, async () => {
  const tab = await Tab.open(browser, `${url}#/inspect`);
  const part = tab.page.locator(".operators");
  await part.locator("summary").click();
  await part.locator("input").fill(tokenFor({ role: "operator" }));
  await part.locator("button[type=submit]").click();
  await part.getByText("This door has no such lists").waitFor();
  await tab.accessible("no lists");
  assert.deepEqual(tab.errors.filter((error) => !/status of 404/.test(error)), []);
  await tab.end();
});

test("a token that is wanted, refused or for something else is said in plain words, and another one is taken", { skip, timeout: 90_000 }, async () => {
  const closed = await House.start(CLOSED);
  try {
    const door = `http://127.0.0.1:${closed.port}/`;
    const session = fresh();
    const tab = await Tab.open(browser, `${door}#/play/${session}`);
    const { page } = tab;
    const trouble = page.locator(".trouble");
    await trouble.getByText("This door wants a valid token").waitFor();
    await tab.accessible("a token that is wanted");
    await tab.shot("play-token-desktop-light");
    const token = (sessions: string[]) => tokenFor({ sessions });
    const enter = async (text: string) => {
      await trouble.locator("input").fill(text);
      await trouble.locator("button[type=submit]").click();
    };
    await enter("no token");
    await trouble.getByText("no valid token").waitFor();
    await enter(token(["another"]));
    await trouble.getByText("belongs to somebody else").waitFor();
    await enter(token([session]));
    await page.locator('.link[data-state="open"]').waitFor();
    await page.locator("#next").click();
    await ready(tab);
    // Posters need the token, too.
    await page.waitForFunction(() => [...document.querySelectorAll<HTMLImageElement>(".poster img")].filter((img) => img.naturalWidth > 0).length === 3);
    await tab.end();

  } finally {
    await closed.end();
  }
});

test("an address that leads nowhere, and a session that never was, are said in plain words", { skip, timeout: 60_000 }, async () => {
  const tab = await Tab.open(browser, `${url}#/play/no%20session`);
  const { page } = tab;
  const wrong = page.locator(".wrong");
  const open = async (text: string) => {
    await page.locator(".side input:visible, .open input").first().fill(text);
    await page.keyboard.press("Enter");
  };
  await wrong.getByText("“no session” is no session").waitFor();
  await tab.accessible("a wrong address");
  await tab.shot("home-wrong-desktop-light");
  await open("a/b c");
  await wrong.getByText("“b c” is no session").waitFor();
  await open("  ");
  await wrong.getByText("Enter the id of a session.").waitFor();
  await page.goto(`${url}#/nowhere`);
  await wrong.getByText("“nowhere” is no session").waitFor();
  await page.goto(`${url}#/inspect/é`);
  await wrong.getByText("“é” is no session").waitFor();
  await tab.accessible("a wrong session to inspect");

  const session = fresh();
  await open(`${url}#/inspect/${session}`);
  await page.getByText("No event yet in this session.").waitFor();
  assert.equal(await wrong.count(), 0);
  await tab.accessible("an empty session");
  await page.goto(`${url}#/play/${session}`);
  await page.getByText("No game has begun in this session.").waitFor();
  // The browser's own words on a past that is not there.
  assert.deepEqual(tab.errors.filter((error) => !/status of 404/.test(error)), []);
  await tab.end();
});

test("a door that talks nonsense is said in plain words, and forgotten once it talks sense", { skip, timeout: 60_000 }, async () => {
  const session = fresh();
  let nonsense = true;
  const tab = await Tab.open(browser, url);
  const { page } = tab;
  const texts = ["nonsense", "[]", '{"event":5}', '{"event":"herald.hello","data":null}', '{"event":"gm.phase","data":{},"seq":1}'];
  let told = 0;
  const next = () => texts[told++ % texts.length] as string;
  await page.routeWebSocket(/\/ws\//, (socket) => {
    if (nonsense) socket.send(next());
    else socket.connectToServer();
  });
  await page.route(/\/sse\//, (route) => (nonsense ? route.fulfill({ contentType: "text/event-stream", body: `data: ${next()}\n\n` }) : route.continue()));
  await page.goto(`${url}#/play/${session}`);
  await page.locator(".trouble", { hasText: "The door sent something that makes no sense." }).waitFor();
  await tab.accessible("a door that talks nonsense");
  await tab.shot("play-nonsense-desktop-light");
  await eventually("every kind of nonsense", () => told >= texts.length || assert.fail(`${told} frames`));
  nonsense = false;
  await page.locator('.link[data-state="open"]').waitFor();
  await page.locator(".trouble").waitFor({ state: "detached" });
  assert.deepEqual(tab.errors, []);
  await tab.end();
});
