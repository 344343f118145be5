// The page that a real door serves, in Chromium, with real lobbies behind it.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { after, before, test } from "node:test";
import type { Browser } from "playwright-core";
import { found } from "../../../../../shared/client/tests/system/browser.ts";
import { eventually, type House } from "../../../../../shared/client/tests/system/house.ts";
import { DESKTOP, launch, PHONE, Tab } from "../../../../ws-edge/page/tests/system/tab.ts";
import { start } from "./house.ts";

const path = found();
const skip = path ? false : "no Chromium found: install Debian's chromium, or name one by HERALD_CHROMIUM";
if (skip) console.log(skip);
const DARK = { ...DESKTOP, colorScheme: "dark" as const };
const LIGHT_PHONE = { ...PHONE, colorScheme: "light" as const, locale: "en-GB" };
let house: House;
let browser: Browser;
let url: string;

before(async () => {
  if (!path) return;
  house = await start();
  url = `http://127.0.0.1:${house.port}/`;
  browser = await launch(path);
});
after(async () => {
  await browser?.close();
  await house?.end();
});

async function ask<T>(method: string, path: string, body?: unknown): Promise<T> {
  const answer = await fetch(new URL(path, url), { method, ...(body ? { headers: { "content-type": "application/json" }, body: JSON.stringify(body) } : {}) });
  assert.equal(answer.status, 200, `${method} ${path}`);
  return answer.json() as Promise<T>;
}
const make = async (body: unknown) => (await ask<{ session_id: string }>("POST", "/api/game_sessions/create", body)).session_id;
const statusOf = (sid: string) => ask<{ players: { client_id: string; ready: boolean }[]; all_ready: boolean }>("GET", `/api/game_sessions/${sid}/status`);

/** The tiles that are shown, by the names of their pictures, each of which has come. */
async function tiles(tab: Tab, where: string): Promise<string[]> {
  const images = tab.page.locator(`${where} .map img`);
  await images.first().waitFor();
  await tab.page.waitForFunction((where) => [...document.querySelectorAll<HTMLImageElement>(`${where} .map img`)].every((image) => image.naturalWidth === 256), where);
  return images.evaluateAll((all) => all.map((image) => new URL((image as HTMLImageElement).src).pathname));
}
const named = (tab: Tab, name: string) => tab.page.addInitScript((name) => localStorage.getItem("lobby.name") ?? localStorage.setItem("lobby.name", name), name);
/** A tab of a player of that name. */
async function player(name: string, at = url, options = DESKTOP): Promise<Tab> {
  const tab = await Tab.open(browser, "about:blank", options);
  await named(tab, name);
  await tab.page.goto(at);
  return tab;
}
const says = (tab: Tab, selector: string, text: string | RegExp) => tab.page.locator(selector, { hasText: text }).waitFor();

test("a session is made, joined and made ready by keyboard alone, and everybody in it sees it", { skip, timeout: 120_000 }, async () => {
  const ada = await player("Ada");
  const { page } = ada;
  await says(ada, "#none", "none yet");
  await ada.accessible("the empty lobby");
  await ada.shot("home-empty-desktop-light");

  await ada.tabTo("#size");
  await page.keyboard.press("ControlOrMeta+a");
  await page.keyboard.type("10");
  await ada.tabTo("#seed");
  await page.keyboard.type("abc");
  await ada.tabTo('#create button[value="preview"]');
  await page.keyboard.press("Enter");
  const previewed = await tiles(ada, "#preview");
  const { tiles: expected } = await ask<{ tiles: { image: string }[] }>("POST", "/generate-labyrinth", { size: 10, seed: "abc" });
  assert.deepEqual(previewed, expected.map(({ image }) => `/tiles/${image}`));
  assert.equal(await page.locator("#preview .map").getAttribute("aria-label"), "Labyrinth, 10 by 10. The start is in column 3, row 6.");
  await ada.accessible("a preview");
  await ada.shot("home-preview-desktop-light", true);

  await ada.tabTo('#create button[value="create"]');
  await page.keyboard.press("Enter");
  await says(ada, "#ready", "Nobody is here yet.");
  const sid = new URL(page.url()).hash.slice(1);
  assert.equal(await page.evaluate(() => document.activeElement?.id), "which", "who listens hears where they are");
  assert.deepEqual(await tiles(ada, "#session"), previewed);

  await ada.tabTo("#join");
  await page.keyboard.press("Enter");
  await says(ada, "#members", "Ada (you)");
  await says(ada, "#ready", "Waiting for 1 of 1.");
  await page.waitForFunction(() => document.activeElement?.id === "toggle");
  await ada.accessible("a session");
  await page.keyboard.press("Enter");
  await says(ada, "#ready", "All are ready.");
  assert.deepEqual(await statusOf(sid), { players: [{ client_id: "Ada", ready: true }], all_ready: true });

  const bo = await player("Bo “the 2nd” / 50 %", `${url}#${sid}`, PHONE);
  await says(bo, "#members", "Ada");
  await bo.page.locator("#join").tap();
  for (const tab of [ada, bo]) await says(tab, "#ready", "Waiting for 1 of 2.");
  await bo.accessible("a session on a phone");
  await ada.shot("session-desktop-light", true);
  await bo.shot("session-phone-dark", true);
  await bo.page.locator("#toggle").tap();
  for (const tab of [ada, bo]) await says(tab, "#ready", "All are ready.");
  await bo.page.locator('#toggle[aria-pressed="true"]').tap();
  for (const tab of [ada, bo]) await says(tab, "#ready", "Waiting for 1 of 2.");
  // Who is not ready leaves: all that are left are.
  await bo.page.locator("#leave").tap();
  await says(ada, "#ready", "All are ready.");
  await bo.page.locator("#join").waitFor();
  assert.deepEqual(await statusOf(sid), { players: [{ client_id: "Ada", ready: true }], all_ready: true });
  for (const tab of [ada, bo]) {
    assert.deepEqual(tab.errors, []);
    await tab.end();
  }
});

test("what is previewed at random is what is created, and it is in the list", { skip, timeout: 60_000 }, async () => {
  const tab = await player("Cy", url, LIGHT_PHONE);
  await tab.page.locator('#create button[value="preview"]').tap();
  const [one] = [await tiles(tab, "#preview")];
  const seed = await tab.page.locator("#preview figcaption").textContent();
  await tab.page.locator('#create button[value="preview"]').tap();
  await tab.page.waitForFunction((seed) => document.querySelector("#preview figcaption")?.textContent !== seed, seed);
  const another = await tiles(tab, "#preview");
  assert.notDeepEqual(one, another, "one is as random as the next");
  await tab.accessible("a preview on a phone");
  await tab.shot("home-phone-light", true);
  await tab.page.locator('#create button[value="create"]').tap();
  assert.deepEqual(await tiles(tab, "#session"), another);
  const sid = new URL(tab.page.url()).hash.slice(1);
  await tab.page.goBack();
  await tab.page.locator(`#list a[href="#${sid}"]`).tap();
  await says(tab, "#which", `Session ${sid.slice(0, 8)}`);
  assert.deepEqual(tab.errors, []);
  await tab.end();
});

test("a player is in one session, is told so, and finds the way back to it", { skip, timeout: 60_000 }, async () => {
  const [first, second] = [await make({ size: 4 }), await make({ size: 5 })];
  const tab = await player("Di", `${url}#${first}`, DARK);
  await tab.page.locator("#join").click();
  await says(tab, "#members", "Di (you)");
  await says(tab, "#mine", `session ${first.slice(0, 8)}`);
  await tab.shot("session-desktop-dark", true);
  await tab.page.goto(`${url}#${second}`);
  await says(tab, "#which", second.slice(0, 8));
  await tab.page.locator("#join").click();
  await says(tab, "#said.bad", `You are in session ${first.slice(0, 8)} already`);
  await tab.page.locator("#mine a").click();
  await says(tab, "#members", "Di (you)");
  await tab.page.reload();
  await says(tab, "#members", "Di (you)");
  await tab.page.locator(".title a").click();
  await tab.page.locator("#list li").first().waitFor();
  await tab.accessible("the list in the dark");
  await tab.shot("home-desktop-dark", true);
  assert.deepEqual(tab.errors, []);
  await tab.end();
});

test("names that would be markup or steps in an address are none, and texts from elsewhere are texts", { skip, timeout: 60_000 }, async () => {
  const sid = await make({ size: 4 });
  const tab = await player("Ed", `${url}#${sid}`);
  await tab.page.locator("#join").waitFor();
  for (const name of ["<b>", "..", ""]) {
    await tab.page.fill("#name", name);
    await tab.page.locator("#join").click();
    assert.ok(await tab.page.locator("#name:invalid").count(), name);
  }
  assert.deepEqual((await statusOf(sid)).players, []);
  // As from a lobby that is not ours.
  const evil = '<img src="/x" onerror="document.title = 1">';
  await tab.page.route("**/api/game_sessions", (route) => route.fulfill({ json: { sessions: [{ id: sid, seed: evil, size: 4, created_at: "2026-01-01T00:00:00.000000Z" }] } }));
  await tab.page.goto(url);
  await says(tab, "#list .seed", evil);
  assert.equal(await tab.page.title(), "Lobby");
  assert.deepEqual(tab.errors, []);
  await tab.end();
});

test("a lobby that does not answer is said so, and what is on its way is not asked twice", { skip, timeout: 60_000 }, async () => {
  const tab = await player("Flo");
  let asked = 0;
  let release = () => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  await tab.page.route("**/api/game_sessions/create", async (route) => {
    asked += 1;
    await held;
    await route.fulfill({ status: 503, json: { detail: "Service not available" } });
  });
  const create = tab.page.locator('#create button[value="create"]');
  await create.click();
  await tab.page.locator('#create button[aria-disabled="true"]').waitFor();
  // Playwright would wait for a button that can be clicked; people don't.
  await create.press("Enter");
  release();
  await says(tab, "#said.bad", "Service not available");
  assert.equal(asked, 1);
  await tab.page.unroute("**/api/game_sessions/create");
  await tab.page.route("**/generate-labyrinth", (route) => route.abort());
  await tab.page.locator('#create button[value="preview"]').click();
  await says(tab, "#said.bad", "The lobby does not answer.");
  await tab.page.fill("#size", "11");
  await create.click();
  assert.ok(await tab.page.locator("#size:invalid").count());
  await tab.page.fill("#size", "4");
  await create.click();
  await says(tab, "#ready", "Nobody is here yet.");
  await tab.end();
});

test("a page outlives its door, and shows what happened meanwhile", { skip, timeout: 120_000 }, async () => {
  const sid = await make({ size: 6 });
  const tab = await player("Gus", `${url}#${sid}`);
  await says(tab, "#ready", "Nobody is here yet.");
  await house.closeDoor("SIGKILL");
  await says(tab, "#away", "is not heard just now");
  await house.openDoor();
  await ask("POST", `/api/game_sessions/${sid}/join`, { client_id: "Hal" });
  await says(tab, "#members", "Hal");
  await tab.page.waitForFunction(() => document.querySelector("#away")?.textContent === "");
  await tab.end();
});

test("a session that is destroyed, or never was, is said to be none", { skip, timeout: 60_000 }, async () => {
  const sid = await make({ size: 6 });
  const tab = await player("Ida", `${url}#${sid}`);
  await says(tab, "#ready", "Nobody is here yet.");
  await ask("DELETE", "/destroy-all-sessions");
  await says(tab, "#said.bad", `There is no session ${sid.slice(0, 8)}.`);
  await says(tab, "#none", "none yet");
  for (const none of [crypto.randomUUID(), "zzz"]) {
    await tab.page.goto(`${url}#${none}`);
    await says(tab, "#said.bad", `There is no session ${none.slice(0, 8)}.`);
  }
  await tab.end();
});

test("each of the fifteen tiles is a picture at the door", { skip, timeout: 60_000 }, async () => {
  const names = readdirSync("site/tiles");
  assert.equal(names.length, 15);
  for (const name of names) {
    const answer = await fetch(`${url}tiles/${name}`);
    assert.deepEqual([answer.status, answer.headers.get("content-type")], [200, "image/png"], name);
    const same = await fetch(`${url}tiles/${name}`, { headers: { "if-none-match": answer.headers.get("etag") ?? "" } });
    assert.equal(same.status, 304, name);
  }
  for (const none of ["tiles/none.png", "tiles/", "tiles/tile_turn_EN.png", "none"]) {
    const answer = await fetch(url + none);
    assert.deepEqual([answer.status, await answer.json()], [404, { detail: "Not Found" }], none);
  }
  await eventually("the lobby is well", async () => ((await (await fetch(`${url}health`)).json()) as { status: string }).status === "healthy");
});
