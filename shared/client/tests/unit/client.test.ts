import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { connect, HeraldError } from "../../src/index.ts";
import { A, B, FakeSocket, pass, settle, take, watch } from "./support.ts";

const socket = () => FakeSocket.last;

test("events come with their names, places and cursors", async (t) => {
  const { herald, told } = await watch(t);
  const heard: unknown[] = [];
  herald.on("gm.phase", ({ data, seq, ts, cursor }) => heard.push([data.phase, seq, ts, cursor]));
  herald.on("arena.agent.*.status", ({ event }) => heard.push(event));
  assert.equal(socket().url, "ws://door.example/ws/s");
  assert.deepEqual(socket().protocols, ["herald.v1"]);
  socket().hello();
  socket().event(101, 90);
  socket().event(105, 101, "arena.agent.f4.status");
  assert.deepEqual(heard, [["101", 101, 1010, `${A}-101`], "arena.agent.f4.status"]);
  assert.deepEqual([herald.cursor, herald.status], [`${A}-105`, { state: "open", transport: "websocket" }]);
  assert.deepEqual(told, ["open"]);
});

test("what breaks off goes on where it was, without a double", async (t) => {
  const { seqs, told, herald } = await watch(t, { from: "start" });
  assert.equal(socket().query, "after=0");
  socket().hello();
  socket().event(3, 0);
  socket().event(7, 3);
  socket().end(1006);
  assert.equal(herald.status.state, "waiting");
  await pass(400);
  assert.equal(socket().query, `after=${A}-7`);
  socket().hello();
  socket().event(7, 3);
  socket().event(9, 7);
  assert.deepEqual(seqs, [3, 7, 9]);
  assert.deepEqual(told, ["open", "error broken", "waiting", "connecting", "open"]);
});

test("what began live and broke off before its first event missed nothing", async (t) => {
  await watch(t);
  socket().hello(A, 41);
  socket().end(1006);
  await pass(400);
  assert.equal(socket().query, `after=${A}-41`);
});

test("what is late does no harm", async (t) => {
  const { seqs, told } = await watch(t);
  const first = socket();
  const { onmessage, onclose } = first;
  first.hello();
  first.end(1006);
  await pass(400);
  socket().hello();
  onmessage?.({ data: JSON.stringify({ event: "gm.x", data: 1, seq: 500, ts: 1, prev: 0 }) });
  onclose?.({ code: 4403, reason: "" });
  socket().event(101);
  assert.deepEqual(seqs, [101]);
  assert.equal(told.at(-1), "open");
});

test("the door says when to come back", async (t) => {
  const { herald } = await watch(t);
  socket().hello();
  socket().event(101);
  socket().say("herald.bye", { after: `${A}-104`, retry_ms: 1750 });
  socket().end(1012, `restart after=${A}-104`);
  assert.equal(herald.status.state === "waiting" && herald.status.retryMs, 1750);
  await pass(1500);
  assert.equal(FakeSocket.all.length, 1);
  await pass(250);
  assert.equal(socket().query, `after=${A}-101`, "what it has seen, not what it is said to have");
});

test("a limit is respected, and pauses grow while it lasts", async (t) => {
  const { herald } = await watch(t, { transport: "websocket" });
  mock.method(Math, "random", () => 0.5);
  t.after(() => mock.restoreAll());
  const pauses: number[] = [];
  const refuse = async (code: number, reason = "") => {
    socket().end(code, reason);
    assert.ok(herald.status.state === "waiting");
    pauses.push(herald.status.retryMs);
    await pass(herald.status.retryMs);
  };
  await refuse(1013, "too many connections; retry in 7 s");
  await refuse(1013);
  await refuse(1008);
  for (let times = 0; times < 8; times++) await refuse(1006);
  assert.deepEqual(pauses, [7200, 1400, 1800, 1600, 3200, 6400, 10_000, 10_000, 10_000, 10_000, 10_000]);
  // What lived for a while is no failure.
  socket().hello();
  await pass(5000);
  pauses.length = 0;
  await refuse(1006);
  assert.deepEqual(pauses, [200]);
  // What was greeted and sent away at once is one.
  socket().hello();
  await refuse(1006);
  assert.deepEqual(pauses, [200, 400]);
});

test("a refusal is final, and told to everybody who waits", async (t) => {
  for (const [code, word] of [[4403, "forbidden"], [4404, "not_found"]] as const) {
    const { herald, told } = await watch(t);
    const reader = herald.events();
    const failed = assert.rejects(reader.next(), { name: "HeraldError", code: word });
    socket().end(code, "This session is not yours to open");
    const closed = await herald.closed;
    assert.ok(closed.reason === "refused" && closed.error.status === code);
    assert.match(closed.error.message, /This session is not yours to open/);
    await failed;
    await pass(60_000);
    assert.deepEqual([FakeSocket.all.length, told.at(-1)], [1, "closed"]);
    await assert.rejects(herald.events().next(), HeraldError);
    mock.timers.reset();
  }
});

test("a session that is over ends everything behind its last event", async (t) => {
  for (const over of [
    () => socket().say("herald.bye", { over: true, after: `${A}-102` }),
    () => socket().end(4411, `over after=${A}-102`),
  ]) {
    const { herald, seqs, told } = await watch(t);
    const reader = herald.events();
    socket().hello();
    socket().event(101);
    socket().event(102);
    over();
    const closed = await herald.closed;
    assert.equal(closed.reason, "over");
    const read = [];
    for await (const { seq } of reader) read.push(seq);
    assert.deepEqual([read, seqs], [[101, 102], [101, 102]]);
    await pass(60_000);
    assert.deepEqual([FakeSocket.all.length, told], [1, ["open", "closed"]], "no error: it is how it should end");
    mock.timers.reset();
  }
});

test("closed, it says nothing any more", async (t) => {
  const { herald, seqs, told } = await watch(t);
  const reader = herald.events();
  socket().hello();
  socket().event(101);
  herald.close();
  herald.close();
  assert.equal(socket().closed, 1000);
  socket().event(102);
  socket().end(1006);
  await pass(60_000);
  assert.deepEqual([seqs, told, FakeSocket.all.length], [[101], ["open", "closed"], 1]);
  assert.deepEqual(await reader.next(), { done: true, value: undefined });
  assert.deepEqual(await herald.closed, { state: "closed", reason: "closed" });
});

test("who closes it in a handler hears nothing more, and nothing is left of it", async (t) => {
  const cases: [what: string, happens: () => unknown][] = [
    ["waiting", () => socket().end(1006)],
    ["error broken", () => socket().end(4410, `after=${A}-150`)],
    ["connecting", async () => {
      socket().end(1006);
      await pass(400);
    }],
    ["open", async () => {
      socket().end(1006);
      await pass(400);
      socket().say("herald.gap", { from: 1, to: 9, reason: "epoch" });
      socket().hello(B);
    }],
    ["gap 101-150 trimmed", () => socket().end(4410, `after=${A}-150`)],
  ];
  for (const [what, happens] of cases) {
    let asked = 0;
    const { herald, told } = await watch(t, { transport: "websocket", token: () => `t.${asked++}.x` });
    socket().hello();
    const before = asked;
    let last: number | undefined;
    const close = () => {
      if (told.at(-1) !== what || last !== undefined) return;
      last = told.length;
      herald.close();
    };
    for (const name of ["status", "gap", "error"] as const) herald.on(name, close);
    await happens();
    await pass(20_000);
    assert.ok(last !== undefined, `${what}: ${told.join(", ")}`);
    assert.deepEqual(told.slice(last), ["closed"], what);
    assert.ok(asked <= before + 1, `${what}: ${asked - before} tokens`);
    if (what === "connecting") assert.equal(asked, before, "no token is asked for");
    mock.timers.reset();
  }
});

test("a door that does not answer is given up, and tried again", async (t) => {
  const { herald, told } = await watch(t, { timeout: 3000, transport: "websocket" });
  await pass(3000);
  assert.equal(socket().closed, 1000);
  assert.deepEqual(told, ["error unreachable", "waiting"]);
  await pass(400);
  assert.equal(FakeSocket.all.length, 2);
  socket().end(1006);
  assert.ok(herald.status.state === "waiting" && herald.status.error.code === "unreachable");
});

test("a door that falls silent is left", async (t) => {
  const { told } = await watch(t);
  socket().hello();
  for (let beat = 0; beat < 4; beat++) {
    await pass(25_000);
    socket().say("herald.beat", {});
  }
  assert.deepEqual(told, ["open"]);
  await pass(39_000);
  assert.deepEqual(told, ["open"]);
  await pass(600);
  assert.deepEqual(told.slice(0, 3), ["open", "error broken", "waiting"]);
  await pass(400);
  assert.equal(socket().query, `after=${A}-100`);
});

test("what is missing is asked for, and announced where it is gone", async (t) => {
  const { seqs, told } = await watch(t);
  socket().hello();
  socket().event(101);
  for (let times = 0; times < 3; times++) {
    socket().event(104, 103);
    assert.deepEqual([seqs, told.at(-1)], [[101], "waiting"]);
    await pass(2000);
    assert.equal(socket().query, `after=${A}-101`);
    socket().hello();
  }
  socket().event(104, 103);
  assert.deepEqual([seqs, told.at(-1)], [[101, 104], "gap 102-103 lost"]);
});

test("gaps are told where they are, and by a close too", async (t) => {
  const { herald, told } = await watch(t);
  socket().hello();
  socket().say("herald.gap", { from: 101, to: 120, reason: "trimmed" });
  socket().event(121, 0);
  assert.deepEqual(told, ["open", "gap 101-120 trimmed"]);
  // The log began anew: its gap counts with the greeting of the new one.
  socket().say("herald.gap", { from: 1, to: 2, reason: "epoch" });
  assert.equal(herald.cursor, `${A}-121`);
  socket().hello(B, 9);
  assert.equal(herald.cursor, `${B}-2`);
  socket().end(4410, `after=${B}-50`);
  assert.deepEqual(told.slice(2), ["gap 1-2 epoch", "error broken", "gap 3-50 trimmed", "waiting"]);
  await pass(400);
  assert.equal(socket().query, `after=${B}-50`);
});

test("a snapshot is shown as a whole, or not yet", async (t) => {
  const { herald, seqs, told } = await watch(t, { from: "snapshot" });
  const flags: unknown[] = [];
  herald.on("gm.phase", ({ snapshot, cursor }) => flags.push([snapshot, cursor]));
  const part = (seq: number) => socket().say("gm.phase", { type: "phase", phase: "" }, { seq, ts: 1, snapshot: true });
  socket().hello();
  part(3);
  socket().end(1006);
  await pass(400);
  assert.equal(socket().query, "snapshot=1");
  socket().hello();
  part(3);
  part(9);
  assert.deepEqual(seqs, []);
  socket().say("herald.live", { after: 98 });
  socket().event(99, 9);
  assert.deepEqual(seqs, [3, 9, 99]);
  assert.deepEqual(flags, [[true, undefined], [true, undefined], [undefined, `${A}-99`]]);
  assert.equal(told.at(-1), "live 98");
  socket().end(1006);
  await pass(800);
  assert.equal(socket().query, `after=${A}-99`);
});

test("who closes it in the middle of a snapshot sees no more of it", async (t) => {
  const { herald, told } = await watch(t, { from: "snapshot" });
  const seen: number[] = [];
  herald.on("gm.phase", ({ seq }) => {
    seen.push(seq);
    herald.close();
  });
  socket().hello();
  for (const seq of [3, 9]) socket().say("gm.phase", { type: "phase", phase: "" }, { seq, ts: 1, snapshot: true });
  socket().say("herald.live", { after: 98 });
  assert.deepEqual([seen, told.at(-1)], [[3], "closed"]);
});

test("a reader that is behind makes the connection wait, and loses nothing", async (t) => {
  const { herald, told } = await watch(t, { limit: 4 });
  const reader = herald.events("gm.>");
  const other = herald.events("arena.>");
  socket().hello();
  for (let seq = 101; seq <= 110; seq++) socket().event(seq);
  assert.deepEqual(told, ["open", "paused"]);
  assert.equal(socket().closed, 1000);
  await take(reader, 1);
  assert.equal(FakeSocket.all.length, 1);
  assert.deepEqual((await take(reader, 1))[0]?.seq, 102);
  await settle();
  assert.equal(socket().query, `after=${A}-104`);
  socket().hello(A, 110);
  for (let seq = 105; seq <= 106; seq++) socket().event(seq);
  assert.equal(told.at(-1), "paused", "it is full again");
  assert.deepEqual((await take(reader, 4)).map(({ seq }) => seq), [103, 104, 105, 106]);
  await settle();
  socket().hello(A, 110);
  // One that leaves holds up nobody.
  for (let seq = 107; seq <= 110; seq++) socket().event(seq);
  assert.equal(told.at(-1), "paused");
  await reader.return?.();
  await settle();
  assert.equal(socket().query, `after=${A}-110`);
  assert.equal(FakeSocket.all.length, 4);
  await other.return?.();
});

test("frames that make no sense end a connection, not the client", async (t) => {
  for (const bad of ["", "{", "null", "[]", '{"event":5}', '{"event":"gm.x","data":1,"seq":"x"}', '{"event":"herald.hello","data":{}}',
    '{"event":"herald.hello","data":{"epoch":"000000aa","head":"x"}}', '{"event":"herald.gap","data":{"from":1}}',
    '{"event":"herald.gap","data":{"from":1,"to":-1,"reason":"trimmed"}}', '{"event":"herald.live","data":{"after":null}}', new Uint8Array(3)]) {
    const { seqs, told } = await watch(t);
    socket().hello();
    socket().event(101);
    socket().text(bad);
    assert.deepEqual(told, ["open", "error protocol", "waiting"], String(bad));
    await pass(400);
    socket().hello();
    socket().event(102);
    assert.deepEqual(seqs, [101, 102]);
    mock.timers.reset();
  }
  const { told } = await watch(t);
  socket().event(101);
  assert.equal(told[0], "error protocol", "an event before the greeting");
});

test("what is new in the protocol is no reason to stop", async (t) => {
  const { seqs, told } = await watch(t);
  socket().hello();
  socket().say("herald.news", {});
  socket().event(101);
  assert.deepEqual([seqs, told], [[101], ["open"]]);
});

test("an engine says something to one client, and is told something by it", async (t) => {
  const { herald, seqs, told } = await watch(t);
  const heard: unknown[] = [];
  herald.on("message", (message) => heard.push(message));
  herald.on("uplink", (state) => heard.push(state));
  assert.equal(herald.send("too early"), false);
  socket().hello();
  socket().event(101);
  socket().text('{"event":"table.hand","data":{"cards":[1]}}');
  socket().event(102, 101);
  assert.equal(herald.send("roll"), true);
  assert.deepEqual(socket().sent, ["roll"]);
  socket().say("herald.uplink", { state: "slowed", reason: "rate", retry_ms: 50 });
  assert.deepEqual(heard, [{ event: "table.hand", data: { cards: [1] } }, { state: "slowed", reason: "rate", retry_ms: 50 }]);
  assert.deepEqual([seqs, told, herald.cursor], [[101, 102], ["open"], `${A}-102`]);
  socket().end(1006);
  assert.equal(herald.send("too late"), false);
});

test("no time that the door says makes a busy loop", async (t) => {
  for (const ms of [1e12, -5, "soon", null]) {
    const { herald } = await watch(t, { transport: "websocket" });
    socket().say("herald.hello", { epoch: A, head: 100, heartbeat_ms: ms });
    await pass(1000);
    socket().say("herald.bye", { after: `${A}-100`, retry_ms: ms });
    socket().end(1012);
    assert.ok(herald.status.state === "waiting" && herald.status.retryMs <= 3_600_000, String(ms));
    await pass(1000);
    assert.ok(FakeSocket.all.length <= 2);
    mock.timers.reset();
  }
});

test("options that make no sense are refused at once, in plain words", () => {
  const bad: [object, string, RegExp][] = [
    [{ session: "" }, "bad_request", /session/],
    [{ session: "a.b" }, "bad_request", /session/],
    [{ session: "x".repeat(65) }, "bad_request", /session/],
    [{ url: "nonsense" }, "bad_url", /no URL/],
    [{ url: "ftp://x" }, "bad_url", /http/],
    [{ url: undefined }, "bad_url", /no URL/],
    [{ from: "yesterday" }, "bad_request", /from/],
  ];
  for (const [options, code, text] of bad) {
    assert.throws(
      () => connect({ url: "http://x", session: "s", WebSocket: FakeSocket, ...options } as never),
      (error) => error instanceof HeraldError && error.code === code && text.test(error.message),
      JSON.stringify(options),
    );
  }
});

test("URLs may be written in several ways", async (t) => {
  for (const [url, expected] of [
    ["https://play.example", "wss://play.example/ws/s"],
    ["ws://127.0.0.1:8000/", "ws://127.0.0.1:8000/ws/s"],
    ["http://h/app", "ws://h/app/ws/s"],
    ["http://h/app/?x=1#y", "ws://h/app/ws/s"],
  ] as const) {
    await watch(t, { url });
    assert.equal(socket().url, expected);
    mock.timers.reset();
  }
  await watch(t, { paths: { socket: "/dice/{session}/live" } });
  assert.equal(socket().url, "ws://door.example/dice/s/live");
});

test("several sessions are none of each other's business", async (t) => {
  const one = await watch(t);
  const first = socket();
  const two = connect({ url: "http://door.example", session: "t", WebSocket: FakeSocket });
  t.after(() => two.close());
  const seqs: number[] = [];
  two.on("gm.>", ({ seq }) => seqs.push(seq));
  await settle();
  const second = socket();
  assert.equal(second.url, "ws://door.example/ws/t");
  first.hello();
  second.hello();
  first.event(101);
  second.event(102, 100);
  first.end(4403);
  second.event(103);
  assert.deepEqual([one.seqs, seqs, one.herald.status.state, two.status.state], [[101], [102, 103], "closed", "open"]);
});
