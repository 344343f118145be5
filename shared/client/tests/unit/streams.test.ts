import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { connect } from "../../src/index.ts";
import { A, FakeSocket, FakeStream, pass, settle, watch } from "./support.ts";

const stream = () => FakeStream.last;

test("where sockets don't get through, events come by an event stream", async (t) => {
  const { herald, seqs, told } = await watch(t, { from: "start", token: "a.b.c" });
  FakeSocket.last.end(1006);
  await pass(400);
  assert.equal(stream().url.href, "http://door.example/sse/s?after=0");
  assert.deepEqual(stream().init.headers, { accept: "text/event-stream", authorization: "Bearer a.b.c" });
  stream().open();
  await stream().hello();
  await stream().event(3);
  await stream().event(3);
  await stream().text(": a comment\n\n");
  await stream().event(5);
  assert.deepEqual(seqs, [3, 5]);
  assert.deepEqual({ ...herald.status }, { state: "open", transport: "sse" });
  await pass(35_000);
  assert.equal(FakeSocket.all.length, 1, "one failure was enough to know: no second chance for the socket meanwhile");
  // Sent away by the door; by then sockets may get through.
  await stream().text(`retry: 700\nevent: herald.bye\ndata: {"after":"${A}-6","retry_ms":700}\n\n`);
  await stream().end();
  assert.ok(herald.status.state === "waiting" && herald.status.retryMs === 700);
  await pass(700);
  assert.equal(FakeSocket.last.query, `after=${A}-5`);
  FakeSocket.last.end(1006);
  await pass(800);
  assert.equal(stream().url.search, `?after=${A}-5`);
  assert.ok(told.includes("error unreachable"));
});

test("a door that is away is tried by turns, and where sockets have worked by them mostly", async (t) => {
  const tries = async (worked: boolean, count: number) => {
    const client = await watch(t, { timeout: 1e9 });
    if (worked) {
      FakeSocket.last.hello();
      await pass(5000);
    }
    const list: string[] = [];
    let way = "ws";
    for (let time = 0; time < count; time++) {
      if (way === "ws") FakeSocket.last.end(1006);
      else stream().fail(new TypeError("fetch failed"));
      await settle();
      assert.ok(client.herald.status.state === "waiting", client.herald.status.state);
      const sockets = FakeSocket.all.length;
      await pass(client.herald.status.retryMs);
      way = FakeSocket.all.length > sockets ? "ws" : "sse";
      list.push(way);
    }
    client.herald.close();
    mock.timers.reset();
    return list;
  };
  assert.deepEqual(await tries(false, 5), ["sse", "ws", "sse", "ws", "sse"]);
  assert.deepEqual(await tries(true, 7), ["ws", "ws", "ws", "sse", "ws", "sse", "ws"]);
});

test("an event stream that was taken for want of better makes way for a socket", async (t) => {
  const { herald } = await watch(t);
  FakeSocket.last.hello();
  for (let failures = 0; failures < 4; failures++) {
    FakeSocket.last.end(1006);
    assert.ok(herald.status.state === "waiting");
    await pass(herald.status.retryMs);
  }
  stream().open();
  await stream().hello();
  await stream().event(101);
  const before = FakeSocket.all.length;
  await pass(30_000);
  assert.equal(stream().aborted, true);
  assert.equal(FakeSocket.all.length, before + 1);
  assert.equal(FakeSocket.last.query, `after=${A}-101`);
  FakeSocket.last.hello();
  assert.deepEqual(herald.status, { state: "open", transport: "websocket" });
});

test("where there is no WebSocket, event streams are used, and asking for sockets is refused", async (t) => {
  const { WebSocket } = globalThis;
  Reflect.deleteProperty(globalThis, "WebSocket");
  t.after(() => WebSocket && Object.assign(globalThis, { WebSocket }));
  assert.throws(() => connect({ url: "http://x", session: "s", transport: "websocket" }), /pass one/);
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  t.after(() => mock.timers.reset());
  FakeStream.all = [];
  const { fakeFetch } = await import("./support.ts");
  const herald = connect({ url: "http://x", session: "s", fetch: fakeFetch });
  await settle();
  assert.equal(stream().url.href, "http://x/sse/s");
  herald.close();
  assert.equal(stream().aborted, true);
});

test("what an event stream is refused for is told in the words of the door", async (t) => {
  const table: [number, string | undefined, string, string][] = [
    [404, "No such session", "closed", "not_found"],
    [403, "Origin not allowed", "closed", "forbidden"],
    [400, "after: expected a cursor or a sequence", "closed", "bad_request"],
    [401, "A token is needed", "closed", "unauthorized"],
    [405, undefined, "closed", "bad_request"],
    [503, "NATS is not connected", "waiting", "unavailable"],
    [429, "Too many connections", "waiting", "limited"],
    [502, undefined, "waiting", "unavailable"],
  ];
  for (const [status, error, state, code] of table) {
    const { herald } = await watch(t, { transport: "sse" });
    stream().refuse(status, error, status === 429 ? { "retry-after": "9" } : {});
    await settle();
    const now = herald.status;
    assert.equal(now.state, state, String(status));
    assert.ok("error" in now && now.error.code === code && now.error.status === status);
    if (error) assert.ok(now.error.message.includes(error));
    if (status === 429) assert.ok(now.state === "waiting" && now.retryMs >= 9000);
    herald.close();
    mock.timers.reset();
  }
});

test("a page that is no door is told from one", async (t) => {
  const { herald } = await watch(t, { transport: "sse" });
  stream().open("text/html");
  await settle();
  assert.ok(herald.status.state === "closed" && herald.status.reason === "refused" && herald.status.error.code === "bad_url");
});

test("204 is the end of a session", async (t) => {
  const { herald } = await watch(t, { transport: "sse" });
  stream().refuse(204);
  await settle();
  assert.ok(herald.status.state === "closed" && herald.status.reason === "over");
});

test("where sockets have worked, what an event stream is told is not the last word", async (t) => {
  const { herald } = await watch(t);
  FakeSocket.last.hello();
  for (let failures = 0; failures < 4; failures++) {
    FakeSocket.last.end(1006);
    assert.ok(herald.status.state === "waiting");
    await pass(herald.status.retryMs);
  }
  stream().refuse(404, "Not found");
  await settle();
  assert.equal(herald.status.state, "waiting");
});

test("a snapshot by an event stream is a whole too", async (t) => {
  const { seqs, herald } = await watch(t, { transport: "sse", from: "snapshot" });
  assert.equal(stream().url.search, "?snapshot=1");
  stream().open();
  await stream().hello();
  await stream().text('data: {"event":"gm.phase","data":{},"seq":3,"ts":1}\n\n');
  assert.deepEqual(seqs, []);
  await stream().text(`event: herald.live\nid: ${A}-98\ndata: {"after":98}\n\n`);
  await stream().event(99);
  assert.deepEqual([seqs, herald.cursor], [[3, 99], `${A}-99`]);
});

test("a stream that breaks off is no door that is away", async (t) => {
  const { told } = await watch(t, { transport: "sse" });
  stream().fail(new TypeError("fetch failed"));
  await settle();
  await pass(400);
  stream().open();
  await stream().hello();
  await stream().break();
  assert.deepEqual(told, ["error unreachable", "waiting", "connecting", "open", "error broken", "waiting"]);
});

test("a stream says what is for one client alone, and by which words it is closed", async (t) => {
  const { herald, seqs } = await watch(t, { transport: "sse" });
  const heard: unknown[] = [];
  herald.on("message", (message) => heard.push(message));
  stream().open();
  await stream().hello();
  await stream().text('data: {"event":"table.hand","data":1}\n\n');
  await stream().event(101);
  assert.deepEqual([heard, seqs, herald.send("roll")], [[{ event: "table.hand", data: 1 }], [101], false]);
  await stream().text('event: herald.closed\ndata: {"code":4403,"reason":"You were removed"}\n\n');
  const { status } = herald;
  assert.ok(status.state === "closed" && status.reason === "refused" && /You were removed/.test(status.error.message));
});

test("a stream that falls silent is left, and one that makes no sense", async (t) => {
  const { herald } = await watch(t, { transport: "sse" });
  const first = stream();
  first.open();
  await first.hello();
  await pass(39_000);
  assert.equal(first.aborted, false);
  await pass(1000);
  assert.equal(first.aborted, true);
  stream().open();
  await stream().text("data: nonsense\n\n");
  assert.ok(herald.status.state === "waiting" && herald.status.error.code === "protocol");
});
