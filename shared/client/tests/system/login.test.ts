// A door that asks for tokens.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { connect, HeraldError } from "@herald/client";
import { eventually, House } from "./house.ts";

const SECRET = "a secret of at least thirty-two bytes";
// Long enough to be renewed once (5 s at the earliest), short enough to be outlived by the test.
const LIFE_S = 7;
let house: House;
let url: string;

before(async () => {
  house = await House.start({
    toml: '[[ws-edge.listeners]]\nbuiltin = "arena"\naddress = "127.0.0.1:0"\nauth = "jwt"\n',
    edge: { HERALD_JWT__SECRET: SECRET, HERALD_JWT__LEEWAY: "1s", HERALD_JWT__GRACE: "1s" },
  });
  url = `http://127.0.0.1:${house.port}`;
});
after(() => house?.end());

/** A token for the two sessions of these tests. */
function token(seconds = LIFE_S, user = "ann"): string {
  const now = Math.floor(Date.now() / 1000);
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, sessions: ["table-websocket", "table-sse"], iat: now, exp: now + seconds })}`;
  return `${text}.${createHmac("sha256", SECRET).update(text).digest("base64url")}`;
}

describe("tokens", { concurrency: true }, () => {
  for (const transport of ["websocket", "sse"] as const) at(transport);
});

function at(transport: "websocket" | "sse"): void {
  const session = `table-${transport}`;
  const skip = transport === "websocket" && typeof WebSocket !== "function" && "no WebSocket in this Node";

  test(`${transport}: who may not come in is told so, in plain words`, { skip }, async () => {
    const refused = async (session: string, own?: string) => {
      const herald = connect({ url, session, transport, ...(own && { token: own }) });
      const closed = await herald.closed;
      return closed.reason === "refused" && [closed.error.code, closed.error.message];
    };
    assert.deepEqual(await refused(session, token(-60)), ["unauthorized", "the door wants a valid token (The token has expired)"]);
    assert.deepEqual(await refused("table-2", token()), ["forbidden", "this session is not yours to watch (This session is not yours to open)"]);
    if (transport === "sse") assert.deepEqual(await refused(session), ["unauthorized", "the door wants a valid token (A token is needed)"]);
  });

  test(`${transport}: a token is renewed in time, and nothing is missed meanwhile`, { skip, timeout: 30_000 }, async () => {
    let calls = 0;
    const herald = connect<{ "arena.n": { n: number } }>({
      url, session, transport, from: "live",
      // The first one has expired: it is refused, and replaced.
      token: () => token(calls++ ? LIFE_S : -60),
    });
    const seen: number[] = [];
    const states: string[] = [];
    herald.on("arena.n", ({ data }) => seen.push(data.n));
    herald.on("status", ({ state }) => states.push(state));
    await eventually("a connection", () => herald.status.state === "open");
    assert.equal(calls, 2);
    const engine = await house.engine();
    const until = Date.now() + 1000 * (LIFE_S + 3);
    let n = 0;
    for (; Date.now() < until; n++) {
      engine.publish(`arena.${session}.n`, { n });
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await eventually("all events", () => seen.length === n);
    assert.deepEqual(seen, Array.from({ length: n }, (_, at) => at));
    assert.ok(calls >= 3, `${calls} tokens`);
    const opened = states.filter((state) => state === "open").length;
    // A socket is told and stays; an event stream is opened anew, and may be about to be.
    assert.ok(transport === "websocket" ? opened === 1 : opened >= 2, states.join());
    await assert.rejects(herald.propose(), (error) => error instanceof HeraldError && error.code === "not_found");
    engine.close();
    herald.close();
  });
}
