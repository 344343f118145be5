// Replays behind a bad network, by lot: whatever is ordered and whenever a connection breaks, what is shown is what the log says next.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import type { Order, Replay } from "../../src/index.ts";
import { A, FakeSocket, settle, watch } from "./support.ts";

const STEP_MS = 100;
const STEPS = 12_000;

/** Numbers drawn by lot, the same ones each time. */
function dice(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 48271) % 2147483647;
    return state % below;
  };
}

/** What the door knows of a connection. */
interface Playing {
  at: number;
  state: "playing" | "paused" | "live";
  /** How many orders it has read. */
  read: number;
}

for (const seed of [1, 2, 3]) {
  test(`twenty minutes of orders and cuts (${seed}): every place is gone to, and nothing is lost or doubled behind it`, async (t) => {
    const roll = dice(seed);
    mock.method(Math, "random", () => roll(1000) / 1000);
    t.after(() => mock.restoreAll());
    const log: number[] = [];
    for (let seq = 1; log.length < 3000; seq += 1 + roll(3)) log.push(seq);
    const last = log.at(-1) as number;
    const after = (seq: number) => log.find((one) => one > seq);
    const { herald, told } = await watch(t, { speed: 4, transport: "websocket", timeout: 3000 });

    // Where it is to go on: behind the last that was shown, or where it was sent.
    let place = 0;
    const sought: number[] = [];
    let shown = 0;
    herald.on(">", ({ seq }) => {
      assert.equal(seq, after(place), "the next one");
      place = seq;
      shown++;
    });
    herald.on("replay", ({ state, after }) => {
      if (state === "refused" || after === place) return;
      // Elsewhere, but only where it was sent: what was ordered before has been followed, or overtaken.
      const at = sought.lastIndexOf(after);
      assert.ok(at >= 0, `${state} after ${after}, at ${place}`);
      sought.splice(0, at);
      place = after;
    });
    herald.on("live", ({ after }) => void (place = after));

    const doors = new Map<FakeSocket, Playing>();
    const say = (socket: FakeSocket, { state, at }: Playing) => socket.say("herald.replay", { state, speed: 4, after: at } satisfies Replay);
    const follow = (socket: FakeSocket, door: Playing) => {
      const order = (JSON.parse(socket.sent[door.read++] as string) as { data: Order }).data;
      if (order.seek !== undefined) [door.at, door.state] = [Number(order.seek), door.state === "live" ? "playing" : door.state];
      if (order.pause !== undefined && door.state !== "live") door.state = order.pause ? "paused" : "playing";
      if (order.live) {
        [door.at, door.state] = [last, "live"];
        socket.say("herald.live", { after: last });
      }
      say(socket, door);
    };
    let [orders, cuts] = [0, 0];
    for (let step = 0; step < STEPS + 2000; step++) {
      const quiet = step >= STEPS;
      if (step === STEPS) {
        sought.push(log[10] as number);
        herald.replay({ seek: log[10] as number, pause: false });
      }
      const lot = quiet ? 999 : roll(400);
      if (lot < 12) {
        const seek = lot < 10 ? (log[roll(log.length)] as number) : 0;
        sought.push(seek);
        orders++;
        herald.replay({ seek, ...(roll(3) ? {} : { pause: roll(2) > 0 }) });
      } else if (lot < 24) herald.replay({ pause: lot < 17 });
      else if (lot < 30) herald.replay({ speed: 1 + roll(16) });
      else if (lot === 30) herald.replay({ live: true });
      const socket = FakeSocket.last;
      if (socket.closed === undefined && socket.onmessage) {
        let door = doors.get(socket);
        if (!door && (quiet || roll(3) > 0)) {
          const plays = socket.query.includes("speed");
          const at = Number(/after=(?:[0-9a-f]{8}-)?(\d+)/.exec(socket.query)?.[1] ?? last);
          // By the query: it was sent there before it was opened.
          doors.set(socket, (door = { at, state: plays ? "playing" : "live", read: 0 }));
          socket.hello(A, last);
          if (plays) say(socket, door);
          else if (at === last) place = last;
        }
        if (door) {
          if (step % 100 === 0) socket.say("herald.beat", {});
          // Events are under way when an order comes.
          for (let n = quiet ? 20 : roll(4); n > 0 && door.state === "playing"; n--) {
            const next = after(door.at);
            if (next === undefined) {
              door.state = "live";
              socket.say("herald.live", { after: door.at });
            } else {
              socket.event(next, log[log.indexOf(next) - 1] ?? 0);
              door.at = next;
            }
          }
          while (door.read < socket.sent.length && (quiet || roll(2))) follow(socket, door);
          if (!quiet && roll(120) === 0) {
            cuts++;
            socket.end(1006);
          }
        }
      }
      mock.timers.tick(STEP_MS);
      await settle();
    }
    t.diagnostic(`${shown} events shown, ${orders} places sought, ${cuts} cuts, ${told.filter((state) => state === "open").length} connections`);
    assert.ok(orders > 200 && cuts > 40 && shown > 5000);
    assert.equal(place, last, "it has come to now");
    assert.ok(!told.some((word) => word.startsWith("gap")), "nothing had to be given up");
    // An event was never missing: the connections that ended were cut.
    assert.equal(told.filter((word) => word.startsWith("error")).length, cuts);
  });
}
