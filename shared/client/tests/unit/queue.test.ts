import assert from "node:assert/strict";
import { test } from "node:test";
import { Queue } from "../../src/queue.ts";

function queue(limit = 4) {
  const told: [boolean, boolean][] = [];
  return { told, queue: new Queue<number>(limit, (own, left) => told.push([own.behind, left])) };
}

test("what is pushed is read in order, sooner or later", async () => {
  const { queue: numbers } = queue(10);
  const first = numbers.next();
  const second = numbers.next();
  for (let number = 0; number < 10; number++) numbers.push(number);
  assert.deepEqual([await first, await second], [{ done: false, value: 0 }, { done: false, value: 1 }]);
  numbers.end();
  const rest = [];
  for await (const number of numbers) rest.push(number);
  assert.deepEqual(rest, [2, 3, 4, 5, 6, 7, 8, 9]);
});

test("it says when it is full, and when there is room again", async () => {
  const { queue: numbers, told } = queue();
  for (let number = 0; number < 4; number++) numbers.push(number);
  assert.equal(numbers.full, true);
  await numbers.next();
  assert.deepEqual(told, [], "not yet");
  await numbers.next();
  assert.deepEqual(told, [[false, false]]);
});

test("who leaves is no reason to wait any more", async () => {
  const { queue: numbers, told } = queue();
  for (let number = 0; number < 4; number++) numbers.push(number);
  for await (const number of numbers) if (number === 0) break;
  assert.deepEqual(told.at(-1), [false, true]);
  numbers.push(9);
  assert.deepEqual(await numbers.next(), { done: true, value: undefined });
});

test("an end comes behind what waits, an error once, and a close at once", async () => {
  const { queue: numbers } = queue();
  numbers.push(1);
  numbers.end(new Error("refused"));
  assert.deepEqual(await numbers.next(), { done: false, value: 1 });
  await assert.rejects(numbers.next(), /refused/);
  assert.deepEqual(await numbers.next(), { done: true, value: undefined });

  const { queue: others } = queue();
  others.push(1);
  others.end(undefined, true);
  assert.deepEqual(await others.next(), { done: true, value: undefined });

  const { queue: waiting } = queue();
  const [failed, done] = [waiting.next(), waiting.next()];
  waiting.end(new Error("refused"));
  await assert.rejects(failed, /refused/);
  assert.deepEqual(await done, { done: true, value: undefined });
});
