import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { FakeSocket, FakeStream, jwt, pass, settle, watch } from "./support.ts";

const offered = () => FakeSocket.last.protocols;
const now = 1_700_000_000;

test("a token is offered with each socket, and in no URL", async (t) => {
  await watch(t, { token: "a.b.c" });
  assert.deepEqual(offered(), ["herald.v1", "herald.token.a.b.c"]);
  assert.ok(!FakeSocket.last.url.includes("a.b.c"));
});

test("a token that is refused is final, a function is asked for a fresh one", async (t) => {
  const fixed = await watch(t, { token: "a.b.c" });
  FakeSocket.last.end(4401, "The token has expired");
  assert.ok(fixed.herald.status.state === "closed" && fixed.herald.status.reason === "refused");
  assert.match(fixed.herald.status.error.message, /The token has expired/);
  mock.timers.reset();

  let calls = 0;
  const { herald } = await watch(t, { token: () => `a.b.${++calls}` });
  FakeSocket.last.end(4401);
  await pass(400);
  assert.deepEqual(offered(), ["herald.v1", "herald.token.a.b.2"]);
  FakeSocket.last.hello();
  // It was let in: a later refusal is counted anew.
  for (let refusal = 0; refusal < 3; refusal++) {
    FakeSocket.last.end(4401);
    assert.ok(herald.status.state === "waiting", String(refusal));
    await pass(herald.status.retryMs);
  }
  FakeSocket.last.end(4401);
  assert.equal(herald.status.state, "closed");
  assert.equal(calls, 5);
});

test("a fresh token is shown before the old one expires", async (t) => {
  let calls = 0;
  const token = () => jwt({ iat: now + calls * 80, exp: now + 100 + calls++ * 80 });
  const { told } = await watch(t, { token });
  FakeSocket.last.hello();
  const beats = setIntervalOf(25_000);
  await pass(79_000);
  assert.deepEqual([calls, FakeSocket.last.sent.length], [1, 0]);
  await pass(1000);
  const frame = JSON.parse(FakeSocket.last.sent[0] as string);
  assert.deepEqual([calls, frame.event, FakeSocket.all.length], [2, "herald.token", 1]);
  assert.equal(JSON.parse(atob(frame.data.token.split(".")[1])).exp, now + 180);
  await pass(80_000);
  assert.deepEqual([calls, FakeSocket.last.sent.length], [3, 2]);
  assert.deepEqual(told, ["open"]);
  beats();
});

/** Has the door's heartbeat go on. */
function setIntervalOf(ms: number): () => void {
  let stopped = false;
  const beat = () => {
    if (stopped) return;
    FakeSocket.last.say("herald.beat", {});
    setTimeout(beat, ms);
  };
  setTimeout(beat, ms);
  return () => {
    stopped = true;
  };
}

test("an event stream is opened anew with the fresh token", async (t) => {
  let calls = 0;
  await watch(t, { transport: "sse", token: () => jwt({ iat: now, exp: now + 20, n: calls++ }) });
  FakeStream.last.open();
  await FakeStream.last.hello();
  await pass(16_000);
  assert.deepEqual([calls, FakeStream.all.length], [2, 2]);
});

test("a login that is away is asked again, while the connection goes on", async (t) => {
  let calls = 0;
  const token = () => {
    if (++calls === 2) throw new Error("login is away");
    return jwt({ iat: now, exp: now + 20, calls });
  };
  const { told } = await watch(t, { token });
  FakeSocket.last.hello();
  await pass(16_000);
  assert.deepEqual(told, ["open", "error token"]);
  await pass(5000);
  assert.deepEqual([calls, FakeSocket.last.sent.length, FakeSocket.all.length], [3, 1, 1]);
});

test("a login that fails or never answers keeps nobody from trying", async (t) => {
  const { herald, told } = await watch(t, { token: () => Promise.reject(new Error("login is away")) });
  assert.ok(herald.status.state === "waiting" && /login is away/.test(herald.status.error.message));
  await pass(400);
  await settle();
  assert.deepEqual(told.slice(0, 4), ["error token", "waiting", "connecting", "error token"]);
  herald.close();
  mock.timers.reset();

  // Also where the door said before when to come back: that was another time.
  let asked = 0;
  const flaky = await watch(t, { token: () => { if (asked++) throw new Error("login is away"); return jwt({}); } });
  FakeSocket.last.hello();
  mock.method(Math, "random", () => 0.5);
  for (let round = 0; round < 2; round++) {
    FakeSocket.last.say("herald.bye", { after: "000000aa-100", retry_ms: 50 });
    FakeSocket.last.end(4401);
  }
  const pauses: number[] = [];
  for (let attempt = 0; attempt < 4; attempt++) {
    assert.ok(flaky.herald.status.state === "waiting");
    pauses.push(flaky.herald.status.retryMs);
    await pass(flaky.herald.status.retryMs);
  }
  assert.deepEqual(pauses, [50, 200, 400, 800]);
  mock.restoreAll();
  flaky.herald.close();
  mock.timers.reset();

  let calls = 0;
  const token = () => (++calls === 1 ? new Promise<string>(() => {}) : "a.b.c");
  const hanging = await watch(t, { token, timeout: 2000, transport: "websocket" });
  await pass(2000);
  assert.equal(hanging.herald.status.state, "waiting");
  await pass(400);
  assert.deepEqual(offered(), ["herald.v1", "herald.token.a.b.c"]);
});
