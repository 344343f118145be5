import assert from "node:assert/strict";
import { test } from "node:test";
import { Log } from "../../src/log.ts";
import { bins } from "../../src/inspect/bins.ts";
import { bytes, clock, duration, marks } from "../../src/inspect/clock.ts";
import { curl } from "../../src/inspect/curl.ts";
import { parse, Search } from "../../src/inspect/filter.ts";
import { Lanes } from "../../src/inspect/lanes.ts";
import { advance, LIVE, moment, pause, placeOf, play, seek, seekIndex, shown, step } from "../../src/inspect/wind.ts";
import { format, freshSession, isSession, parse as route } from "../../src/route.ts";
import { preferred } from "../../src/words.ts";
import { recorded } from "../recorded.ts";

const all = recorded();
const log = new Log();
for (const entry of all) log.append(entry);
const [first, last] = [all[0]?.ts as number, all.at(-1)?.ts as number];

test("winding back shows what was there at a moment, and playing goes on with the original timing", () => {
  assert.deepEqual([shown(LIVE, log), moment(LIVE, log)], [all.length, last]);
  let wind = seek(LIVE, log, first + 1000);
  assert.deepEqual([wind.mode, shown(wind, log)], ["paused", 26]);
  assert.equal(shown(step(wind, log, 1), log), 27);
  assert.equal(shown(step(wind, log, -100), log), 0);
  assert.equal(advance(wind, log, 5000), wind, "what stands still stays");
  for (const speed of [0.5, 1, 16] as const) {
    wind = play(seek({ ...LIVE, speed }, log, first + 1000), log);
    wind = advance(advance(wind, log, 200), log, 300);
    assert.deepEqual([wind.at, shown(wind, log)], [first + 1000 + 500 * speed, 26 + Math.floor((500 * speed) / 40)], `${speed}`);
  }
  assert.equal(advance(wind, log, 1e9).mode, "live");
  assert.deepEqual([play(LIVE, log).mode, shown(play(LIVE, log), log)], ["playing", 0], "from the end all of it is played");
  assert.deepEqual([pause(LIVE, log).mode, shown(pause(LIVE, log), log)], ["paused", all.length]);
  assert.equal(seekIndex(LIVE, log, 5).at, all[4]?.ts);
  assert.equal(play(LIVE, new Log()), LIVE);
});

test("where the door plays, its events are shown, and the moment waits for the next one", () => {
  const at = (index: number) => all[index]?.ts as number;
  const start = play(seekIndex({ ...LIVE, speed: 16 }, log, 26), log);
  assert.equal(placeOf(start, log), all[25]?.seq);
  assert.equal(placeOf(seekIndex(LIVE, log, 0), log), (all[0]?.seq as number) - 1);
  const told = (index: number, live = false) => ({ place: all[index]?.seq, live });
  assert.equal(advance(start, log, 1000, { place: undefined, live: false }), start, "it has not answered yet");
  // However long it takes: not past the next event.
  const waiting = advance(start, log, 1e6, told(25));
  assert.deepEqual([waiting.at, shown(waiting, log), waiting.mode], [Math.max(at(26) - 1, at(25)), 26, "playing"]);
  const further = advance(waiting, log, 16, told(40));
  assert.deepEqual([further.at, shown(further, log)], [Math.min(at(40), Math.max(at(41) - 1, waiting.at)), 41]);
  assert.equal(shown(advance(further, log, 16, told(30)), log), 41, "it never goes back by itself");
  assert.equal(advance(further, log, 16, told(all.length - 1)).mode, "playing");
  assert.equal(advance(further, log, 16, told(all.length - 1, true)).mode, "live");
});

test("times and sizes are told in their two largest units", () => {
  const told = [0, 250, 1000, 59_600, 61_000, 200_000, 3_600_000, 5_400_000, 90_000_000].map((ms) => duration(ms).replaceAll("\u00a0", " "));
  assert.deepEqual(told, ["0 ms", "250 ms", "1 s", "1 min", "1 min 1 s", "3 min 20 s", "1 h", "1 h 30 min", "1 d 1 h"]);
  assert.deepEqual([0, 999, 12_345, 3e6].map((n) => bytes(n, "en").replace("\u00a0", " ")), ["0 B", "999 B", "12.3 kB", "3 MB"]);
});

test("each source has a lane, and there are not too many of them", () => {
  const lanes = new Lanes();
  lanes.read(log.entries(), log.end);
  assert.deepEqual([...new Set(lanes.all.map(({ kind }) => kind))], ["game", "text", "tools", "arena", "agent"]);
  assert.equal(lanes.all.filter(({ kind }) => kind === "agent").length, new Set(all.flatMap(({ event }) => /^arena\.agent\.([^.]+)/.exec(event)?.[1] ?? [])).size);
  for (const { event } of all) assert.ok(lanes.places.has(lanes.key(event)));
  for (let at = 0; at < 100; at++) lanes.key(`root${at}.x`);
  assert.ok(lanes.all.length <= 25 && lanes.all.at(-1)?.kind === "more");
});

test("rates add up to the events there are, and delays are the longest", () => {
  const { xs, rates, lags } = bins(log, first, last, 50);
  const seconds = (last - first) / 50 / 1000;
  const sum = [...rates.values()].flat().reduce((sum, rate) => sum + rate * seconds, 0);
  assert.ok(Math.abs(sum - all.length) < 1e-6, `${sum}`);
  assert.deepEqual([...rates.keys()].sort(), ["arena", "gm"]);
  assert.equal(xs.length, 50);
  assert.equal(Math.max(...lags.map((lag) => lag ?? 0)), Math.max(...all.map(({ lag }) => lag ?? 0)));
  assert.deepEqual([...bins(log, first - 1e6, first - 1e5, 10).rates], []);
});

test("filters are patterns of names, or texts", () => {
  const found = (text: string) => {
    const search = new Search(parse(text));
    while (!search.go(log, 50)) void 0;
    return search.found.map((index) => all[index]?.event as string);
  };
  assert.equal(found("").length, all.length);
  assert.equal(found("  ").length, all.length);
  assert.ok(found("gm.>").length > 100 && found("gm.>").every((event) => event.startsWith("gm.")));
  assert.deepEqual(new Set(found("arena.agent.*.output").map((event) => event.split(".").at(-1))), new Set(["output"]));
  assert.deepEqual(new Set(found("gm.prop")), new Set(["gm.proposal"]), "a name that is not whole yet");
  assert.ok(found("Grigori").length > 3 && found("grigori arena.>").every((event) => event.startsWith("arena.")));
  assert.deepEqual(found(String(all[3]?.seq)).includes(all[3]?.event as string), true);
  assert.deepEqual(found("(["), []);
  assert.equal(found(">").length, all.length);
});

test("a search forgets what the log has forgotten", () => {
  const small = new Log(300, Infinity);
  const search = new Search(null);
  for (const entry of all) {
    small.append(entry);
    search.go(small, 10);
  }
  assert.equal(search.found[0], small.first);
  assert.equal(search.found.length, small.end - small.first);
});

test("an event is a command line that shows it", () => {
  const base = new URL("https://play.example/herald/");
  assert.equal(
    curl(base, "table-1", 4711, false),
    "curl -sS 'https://play.example/herald/sessions/table-1/events?after=4710&limit=1'",
  );
  assert.match(curl(base, "t", 0, true), /-H "Authorization: Bearer \$TOKEN" '.*after=0&limit=1'/);
});

test("an axis has few marks, at round times", () => {
  for (const span of [50, 3000, 61_000, 7_200_000, 7 * 86_400_000]) {
    const { at, seconds } = marks(first, first + span, 8);
    assert.ok(at.length >= 1 && at.length <= 9, `${span}: ${at.length}`);
    assert.equal(seconds, span > 10_000);
  }
  assert.match(clock(first), /^\d\d:\d\d:\d\d\.\d{3}$/);
});

test("an address names a view and a session", () => {
  for (const address of ["#/", "#/play/table-1", "#/inspect/table-1", "#/inspect"]) assert.equal(format(route(address)), address);
  for (const none of ["", "#", "#/", "#/play", "#/play/"]) assert.deepEqual(route(none), { view: "home" }, none);
  const odd = { "#/nowhere": "nowhere", "#/play/a.b": "a.b", "#/play/d%C3%A9j%C3%A0": "déjà", "#/play/%": "%", [`#/play/${"x".repeat(99)}`]: "x".repeat(80) };
  for (const [address, wrong] of Object.entries(odd)) assert.deepEqual(route(address), { view: "home", wrong }, address);
  assert.deepEqual(route("#/inspect/a.b"), { view: "inspect", wrong: "a.b" });
  const fresh = freshSession();
  assert.match(fresh, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/);
  assert.ok(isSession(fresh) && freshSession() !== fresh);
});

test("the page speaks what the browser prefers of what it knows", () => {
  assert.deepEqual([["fr-CA", "en"], ["de", "fr"], ["de"], []].map(preferred), ["fr", "fr", "en", "en"]);
});
