import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { A, FakeSocket, pass, settle, watch } from "./support.ts";

/** A page around the client. */
function page(t: TestContext) {
  const handlers = new Map<string, (event: { type: string }) => void>();
  const target = {
    addEventListener: (name: string, handler: () => void) => void handlers.set(name, handler),
    removeEventListener: (name: string) => void handlers.delete(name),
  };
  const document = { visibilityState: "visible" };
  Object.assign(globalThis, { document, ...target });
  t.after(() => {
    for (const name of ["document", "addEventListener", "removeEventListener"]) Reflect.deleteProperty(globalThis, name);
  });
  return {
    handlers,
    fire: async (name: string, visibility = "visible") => {
      document.visibilityState = visibility;
      handlers.get(name)?.({ type: name });
      await settle();
    },
  };
}

test("a page that is looked at again waits no longer", async (t) => {
  const { fire } = page(t);
  const { herald } = await watch(t, { transport: "websocket" });
  for (let attempt = 0; attempt < 8; attempt++) {
    FakeSocket.last.end(1006);
    assert.ok(herald.status.state === "waiting");
    if (attempt < 7) await pass(herald.status.retryMs);
  }
  const before = FakeSocket.all.length;
  await fire("visibilitychange", "hidden");
  assert.equal(FakeSocket.all.length, before);
  await fire("visibilitychange");
  assert.equal(FakeSocket.all.length, before + 1);
});

test("a page that slept looks whether its connection lives", async (t) => {
  const { fire } = page(t);
  await watch(t);
  FakeSocket.last.hello();
  await pass(20_000);
  await fire("visibilitychange");
  await fire("pageshow");
  assert.equal(FakeSocket.all.length, 1, "it was heard of lately");
  await pass(8000);
  await fire("visibilitychange");
  assert.equal(FakeSocket.all.length, 2);
  assert.equal(FakeSocket.last.query, `after=${A}-100`);
});

test("a network that is back leads elsewhere: the connection is made anew", async (t) => {
  const { fire, handlers } = page(t);
  const { herald, told } = await watch(t);
  FakeSocket.last.hello();
  FakeSocket.last.event(101);
  await fire("online");
  assert.equal(FakeSocket.last.query, `after=${A}-101`);
  FakeSocket.last.hello();
  assert.deepEqual(told, ["open", "connecting", "open"]);
  // One that is gone is noticed at once, and not by silence.
  await fire("offline");
  FakeSocket.last.end(1006);
  assert.equal(herald.status.state, "waiting");
  await fire("online");
  assert.equal(FakeSocket.last.query, `after=${A}-101`);
  herald.close();
  assert.equal(handlers.size, 0, "nothing of it stays");
});
