import assert from "node:assert/strict";
import { test } from "node:test";
import { commands } from "../../src/commands.ts";
import { HeraldError } from "../../src/errors.ts";
import { Tokens, type TokenSource } from "../../src/token.ts";

type Answer = { status: number; body?: unknown; headers?: Record<string, string> };

function door(answers: (Answer | Error)[], token?: TokenSource) {
  const asked: string[] = [];
  const request = (async (url: URL, init: RequestInit) => {
    const { authorization = "" } = init.headers as Record<string, string>;
    asked.push(`${init.method} ${url.pathname}${url.search}${authorization && ` ${authorization}`}`);
    const answer = answers.shift() as Answer | Error;
    if (answer instanceof Error) throw answer;
    const body = typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body ?? {});
    return new Response(body, { status: answer.status, headers: answer.headers ?? {} });
  }) as unknown as typeof fetch;
  const base = new URL("http://door.example/app/");
  return { asked, game: commands({ base, session: "s-1", tokens: new Tokens(token), request }) };
}

test("commands ask what the contract says", async () => {
  const { asked, game } = door([1, 2, 3, 4, 5, 6].map((n) => ({ status: 200, body: { n } })));
  assert.deepEqual(await game.start({ lang: "en" }), { n: 1 });
  await game.propose();
  await game.propose({ lang: "fr" });
  await game.choose("fake", { lang: "en" });
  await game.cancel();
  await game.state();
  assert.deepEqual(asked, [
    "GET /app/api/start?session_id=s-1&lang=en",
    "GET /app/api/propose?session_id=s-1",
    "GET /app/api/propose?session_id=s-1&lang=fr",
    "GET /app/api/choose?session_id=s-1&kind=fake&lang=en",
    "POST /app/api/cancel?session_id=s-1",
    "GET /app/api/state?session_id=s-1",
  ]);
});

test("refusals are told in the words of the door, and nothing is asked twice", async () => {
  const table: [Answer | Error, string, number, RegExp][] = [
    [{ status: 400, body: { error: "No game started" } }, "bad_request", 400, /^No game started$/],
    [{ status: 409, body: { error: "The session is over" } }, "bad_request", 409, /^The session is over$/],
    [{ status: 404, body: { error: "Session not found" } }, "not_found", 404, /^Session not found$/],
    [{ status: 403, body: { error: "Not yours" } }, "forbidden", 403, /^Not yours$/],
    [{ status: 401, body: { error: "A token is needed" } }, "unauthorized", 401, /token/],
    [{ status: 429, body: { error: "Too many commands" }, headers: { "retry-after": "12" } }, "limited", 429, /Too many/],
    [{ status: 502, body: { error: "GM unreachable" } }, "unavailable", 502, /^GM unreachable$/],
    [{ status: 503, body: "<html>" }, "unavailable", 503, /answered 503/],
    [{ status: 200, body: "<html>" }, "bad_url", 0, /not answered by Herald/],
    [new TypeError("fetch failed"), "unreachable", 0, /does not answer/],
    [new DOMException("late", "TimeoutError"), "unreachable", 0, /does not answer/],
  ];
  for (const [answer, code, status, text] of table) {
    const { asked, game } = door([answer]);
    await assert.rejects(game.propose(), (error) => {
      assert.ok(error instanceof HeraldError, String(error));
      assert.deepEqual([error.code, error.status], [code, status]);
      assert.match(error.message, text);
      if (status === 429) assert.equal(error.retryMs, 12_000);
      return true;
    });
    assert.equal(asked.length, 1);
  }
});

test("a token that has expired is replaced once", async () => {
  let calls = 0;
  const refused = { status: 401, body: { error: "The token has expired" } };
  const { asked, game } = door([refused, { status: 200 }, refused, refused], () => `a.b.${++calls}`);
  await game.state();
  assert.deepEqual(asked.map((line) => line.split(" ").at(-1)), ["a.b.1", "a.b.2"]);
  await assert.rejects(game.state(), { code: "unauthorized" });
  assert.equal(asked.length, 4);
});
