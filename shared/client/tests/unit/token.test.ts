import assert from "node:assert/strict";
import { test } from "node:test";
import { renewIn, Tokens } from "../../src/token.ts";
import { jwt } from "./support.ts";


test("a token is renewed in good time, whatever our clock says", () => {
  const now = 1_700_000_000_000;
  const s = now / 1000;
  assert.equal(renewIn(jwt({ iat: s, exp: s + 1000 }), now), 800_000);
  assert.equal(renewIn(jwt({ iat: s - 500, exp: s + 500 }), now), 400_000, "half of its time is over");
  assert.equal(renewIn(jwt({ iat: s + 9000, exp: s + 10_000 }), now), 800_000, "our clock is slow");
  assert.equal(renewIn(jwt({ iat: s - 9000, exp: s - 8000 }), now), 800_000, "our clock is fast");
  assert.equal(renewIn(jwt({ exp: s + 100 }), now), 80_000);
  assert.equal(renewIn(jwt({ exp: s + 1 }), now), 5000, "not all the time");
  assert.equal(renewIn(jwt({ exp: s + 1e9 }), now), 2 ** 31 - 1, "no further than timers reach");
  assert.equal(renewIn(jwt({ sub: "é✓" }), now), undefined);
  for (const odd of ["", "a.b.c", "x", "..", jwt([])]) assert.equal(renewIn(odd, now), undefined, odd);
});

test("a function is asked once at a time, and again after a failure or a refusal", async () => {
  let calls = 0;
  const tokens = new Tokens(async () => {
    calls++;
    if (calls === 2) throw new Error("login is away");
    return `a.b.${calls}`;
  });
  assert.deepEqual(await Promise.all([tokens.get(), tokens.get()]), ["a.b.1", "a.b.1"]);
  assert.equal(await tokens.get(), "a.b.1");
  tokens.drop();
  await assert.rejects(tokens.get(), /login is away/);
  assert.equal(await tokens.get(), "a.b.3");
});

test("what can't be a token never gets into a header", async () => {
  for (const bad of ["", "a b", "a\r\nb", "a,b", "é", "Bearer a.b.c"]) {
    await assert.rejects(new Tokens(bad).get(), { code: "token" }, bad);
    await assert.rejects(new Tokens(() => bad).get(), { code: "token" }, bad);
  }
  await assert.rejects(new Tokens(() => undefined as unknown as string).get(), { code: "token" });
  assert.equal(await new Tokens(undefined).get(), undefined);
  assert.equal(new Tokens("a.b.c").renewable, false);
});
