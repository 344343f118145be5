// The door plays: what it is told to do, what it says of it, and what is done where it does not.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import type { connect, Order } from "@herald/client";
import { Player } from "../../src/inspect/player.ts";

/** A client of the door that does what a test says. */
class Fake {
  static all: Fake[] = [];
  orders: Order[] = [];
  closed = false;
  #handlers = new Map<string, (value: unknown) => void>();

  constructor(readonly options: { from?: unknown; speed?: number }) {
    Fake.all.push(this);
  }

  on(name: string, handler: (value: unknown) => void): void {
    this.#handlers.set(name, handler);
  }

  say(name: string, value: unknown): void {
    this.#handlers.get(name)?.(value);
  }

  replay(order: Order): void {
    this.orders.push(order);
  }

  close(): void {
    this.closed = true;
    this.say("status", { state: "closed" });
  }
}

function player(): Player {
  Fake.all = [];
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout"] });
  return new Player({ session: "s" }, ((options: object) => new Fake(options)) as unknown as typeof connect);
}
const said = (state: string, after: number) => Fake.all.at(-1)?.say("replay", { state, after, speed: 1 });
const placeOf = (one: Player) => one.door?.place;
const event = (seq: number) => Fake.all.at(-1)?.say(">", { seq });

test("it is opened where one is, and says how far it has come", () => {
  const one = player();
  one.play(7, 4);
  const [fake] = Fake.all as [Fake];
  assert.deepEqual([fake.options.from, fake.options.speed], [7, 4]);
  assert.deepEqual(one.door, { place: undefined, live: false });
  said("playing", 7);
  event(9);
  assert.deepEqual(one.door, { place: 9, live: false });
  one.play(9, 16);
  one.pause();
  assert.deepEqual(fake.orders, [{ speed: 16 }, { pause: true }]);
  // Where it is: it goes on. Elsewhere: it goes there, and what is still under way counts for nothing.
  one.play(9, 16);
  one.pause();
  one.play(2, 16);
  assert.deepEqual(fake.orders.slice(2), [{ pause: false, speed: 16 }, { pause: true }, { seek: 2, pause: false, speed: 16 }]);
  event(10);
  said("paused", 9);
  assert.equal(placeOf(one), undefined);
  said("playing", 2);
  event(3);
  assert.equal(placeOf(one), 3);
  fake.say("live", { after: 50 });
  assert.deepEqual(one.door, { place: 50, live: true });
  assert.equal(Fake.all.length, 1);
});

test("who is halted for long gives its place back, and gets another one", () => {
  const one = player();
  one.play(0, 1);
  said("playing", 0);
  one.pause();
  mock.timers.tick(59_999);
  assert.equal(Fake.all[0]?.closed, false);
  mock.timers.tick(1);
  assert.equal(Fake.all[0]?.closed, true);
  one.play(5, 2);
  assert.equal(Fake.all[1]?.options.from, 5);
  assert.notEqual(one.door, null, "that it was closed is no refusal");
});

test("a door that refuses, is full, or does not answer is not waited for", () => {
  for (const refuse of [
    (fake: Fake) => fake.say("status", { state: "closed", reason: "refused" }),
    (fake: Fake) => fake.say("status", { state: "waiting", error: { code: "limited" } }),
    (fake: Fake) => fake.say("replay", { state: "refused", after: 0, reason: "beyond" }),
    () => mock.timers.tick(4000),
  ]) {
    const one = player();
    one.play(3, 1);
    refuse(Fake.all[0] as Fake);
    assert.equal(one.door, null);
    assert.equal(Fake.all[0]?.closed, true);
    // It may do so the next time.
    one.play(3, 1);
    assert.equal(Fake.all.length, 2);
    assert.notEqual(one.door, null);
  }
  mock.timers.reset();
});
