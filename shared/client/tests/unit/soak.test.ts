// An hour of bad network in a second: a door with a log, and everything that can happen on the way, drawn by lot.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { A, FakeSocket, FakeStream, settle, watch } from "./support.ts";

const STEP_MS = 200;
const HOUR_MS = 3_600_000;

/** Numbers drawn by lot, the same ones each time. */
function dice(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 48271) % 2147483647;
    return state % below;
  };
}

for (const seed of [1, 2, 3]) {
  test(`an hour of cuts, silence, refusals and nonsense (${seed}): nothing lost, nothing doubled`, async (t) => {
    const rejections: unknown[] = [];
    const rejected = (reason: unknown) => void rejections.push(reason);
    process.on("unhandledRejection", rejected);
    t.after(() => process.off("unhandledRejection", rejected));
    const roll = dice(seed);
    const log: number[] = [];
    const { seqs, told, herald } = await watch(t, { from: "start", limit: 64, timeout: 5000 });
    mock.method(Math, "random", () => roll(1000) / 1000);
    t.after(() => mock.restoreAll());
    const read: number[] = [];
    let reading = true;
    const reader = herald.events();
    const consume = (async () => {
      for await (const { seq } of reader) {
        read.push(seq);
        while (!reading) await settle();
      }
    })();

    // What the door knows of each connection: how far it has written, and whether that gets through.
    const sent = new Map<FakeSocket | FakeStream, { after: number; beat: number; silent: boolean }>();
    let last = 0;
    for (let now = 0; now < HOUR_MS + 120_000; now += STEP_MS) {
      const quiet = now >= HOUR_MS;
      reading = quiet || roll(50) > 0;
      if (!quiet && roll(3) > 0) log.push((last += 1 + roll(5)));
      const [socket, stream] = [FakeSocket.last, FakeStream.all.at(-1)];
      if (socket.closed === undefined && socket.onmessage) {
        let state = sent.get(socket);
        if (!state) {
          const lot = quiet ? 9 : roll(12);
          if (lot === 0) socket.end(1006);
          else if (lot === 1) socket.end(1013, "too many connections; retry in 2 s");
          else if (lot > 2) {
            const after = Number(/after=(?:[0-9a-f]{8}-)?(\d+)/.exec(socket.query)?.[1]);
            sent.set(socket, (state = { after, beat: now, silent: false }));
            socket.hello(A, last);
          }
        }
        if (state && !state.silent) {
          let at = log.length;
          while (at > 0 && (log[at - 1] as number) > state.after) at--;
          for (; at < log.length; at++) {
            const [seq, prev] = [log[at] as number, log[at - 1] ?? 0];
            state.after = seq;
            // One in a thousand gets lost, one comes twice.
            const fate = quiet ? 9 : roll(1000);
            if (fate === 0) continue;
            socket.event(seq, prev);
            if (fate === 1) socket.event(seq, prev);
          }
          if (now - state.beat >= 25_000) {
            state.beat = now;
            socket.say("herald.beat", {});
          }
          const lot = quiet ? 999 : roll(200);
          if (lot < 3) socket.end(1006);
          else if (lot === 3) state.silent = true;
          else if (lot === 4) socket.text("nonsense");
          else if (lot === 5) {
            socket.say("herald.bye", { after: `${A}-${state.after}`, retry_ms: 300 });
            socket.end(1012, `restart after=${A}-${state.after}`);
          } else if (lot === 6) socket.end(4408, `resume after=${A}-${state.after}`);
        }
      }
      if (stream && !stream.aborted && !sent.has(stream)) {
        sent.set(stream, { after: 0, beat: 0, silent: false });
        stream.fail(new TypeError("fetch failed"));
      }
      mock.timers.tick(STEP_MS);
      await settle();
    }
    await settle();
    const connections = told.filter((state) => state === "open").length;
    t.diagnostic(`${log.length} events, ${connections} connections, ${told.filter((state) => state === "paused").length} pauses`);
    assert.ok(connections > 200 && log.length > 8000);
    assert.deepEqual(seqs, log);
    herald.close();
    await consume;
    assert.deepEqual(read, log);
    assert.ok(!told.some((word) => word.startsWith("gap")), "nothing had to be given up");
    assert.deepEqual(rejections, []);
  });
}
