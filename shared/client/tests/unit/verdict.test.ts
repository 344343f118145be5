import assert from "node:assert/strict";
import { test } from "node:test";
import { judge, NO_DOOR, NO_TOKEN, NONSENSE, OVER, pause } from "../../src/verdict.ts";

test("each end has its meaning", () => {
  const table: [number, string, string][] = [
    [0, "retry", "unreachable"],
    [1000, "retry", "broken"], [1001, "retry", "broken"], [1006, "retry", "broken"], [1012, "retry", "broken"],
    [1008, "retry", "limited"], [1009, "retry", "broken"], [1013, "retry", "limited"],
    [4401, "renew", "unauthorized"], [401, "renew", "unauthorized"],
    [4403, "stop", "forbidden"], [403, "stop", "forbidden"],
    [4404, "stop", "not_found"], [404, "stop", "not_found"],
    [4408, "retry", "broken"], [4410, "retry", "broken"],
    [1003, "stop", "bad_request"],
    [3000, "stop", "ended"], [4000, "stop", "ended"], [4402, "stop", "ended"], [4409, "stop", "ended"], [4999, "stop", "ended"],
    [OVER, "over", "not_found"], [204, "over", "not_found"],
    [400, "stop", "bad_request"], [405, "stop", "bad_request"], [409, "stop", "bad_request"],
    [408, "retry", "limited"], [429, "retry", "limited"],
    [500, "retry", "unavailable"], [502, "retry", "unavailable"], [503, "retry", "unavailable"],
    [NO_DOOR, "stop", "bad_url"], [NO_TOKEN, "retry", "token"], [NONSENSE, "retry", "protocol"],
  ];
  for (const [code, act, word] of table) {
    const verdict = judge({ code });
    assert.deepEqual([verdict.act, verdict.error.code], [act, word], String(code));
    assert.ok(verdict.error.message.length > 10);
  }
});

test("what the door says is kept, for people and for pauses", () => {
  const full = judge({ code: 1013, reason: "too many connections; retry in 7 s" });
  assert.equal(full.error.retryMs, 7000);
  assert.match(full.error.message, /too many connections/);
  assert.equal(full.error.status, 1013);
  assert.equal(judge({ code: 503, retryMs: 3000 }).error.retryMs, 3000);
  assert.ok(judge({ code: 1008 }).floor >= 1000);
});

test("a gap says where to go on", () => {
  const verdict = judge({ code: 4410, reason: "after=000000ab-7" });
  assert.deepEqual([verdict.act, verdict.after], ["retry", "000000ab-7"]);
  assert.equal(judge({ code: 4410, reason: "" }).after, undefined);
  assert.equal(judge({ code: 4408, reason: "resume after=000000ab-7" }).after, undefined);
});

test("pauses are drawn from a range that doubles up to a limit", () => {
  for (const [attempt, most] of [[0, 400], [1, 800], [5, 12_800], [6, 20_000], [1000, 20_000]] as const) {
    const drawn = Array.from({ length: 500 }, () => pause(attempt));
    assert.ok(drawn.every((ms) => ms >= 0 && ms <= most));
    assert.ok(Math.max(...drawn) > most * 0.9 && Math.min(...drawn) < most * 0.1, "all over it");
  }
  assert.ok(pause(0, 1000) >= 1000);
});
