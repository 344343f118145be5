import assert from "node:assert/strict";
import { test } from "node:test";
import { begun, NOTHING, reduce, type Game } from "../../src/game.ts";
import { Log } from "../../src/log.ts";
import { lines } from "../../src/terminal.ts";
import { recorded, start } from "../recorded.ts";

const all = recorded();
const filled = (log = new Log()) => {
  for (const entry of all) log.append(entry);
  return log;
};

test("any state that was is found again", () => {
  const log = filled();
  let game: Game = NOTHING;
  assert.deepEqual(log.gameAt(0), game);
  all.forEach((entry, at) => {
    game = reduce(game, entry);
    assert.deepEqual(log.gameAt(at + 1), game, `after ${at + 1}`);
    assert.equal(log.at(at), entry);
  });
  assert.equal(log.gameAt(log.end), log.game);
  assert.deepEqual([...log.entries()], all);
  assert.deepEqual([...log.entries(250, 520)], all.slice(250, 520));
});

test("the oldest are forgotten, and what they made of the game is not", () => {
  for (const [most, chars] of [[300, Infinity], [Infinity, 60_000]] as const) {
    const log = filled(new Log(most, chars));
    assert.ok(log.first > 0 && log.end === all.length && log.end - log.first < 300 + 256, `${log.first}`);
    assert.deepEqual(log.game, filled().game);
    assert.deepEqual(log.gameAt(log.first + 10), filled().gameAt(log.first + 10));
    assert.deepEqual(log.gameAt(0), log.oldest);
    assert.equal(log.at(log.first - 1), undefined);
    assert.equal([...log.entries()].length, log.end - log.first);
  }
});

test("a moment is an index", () => {
  const log = filled();
  all.forEach(({ ts }, at) => {
    assert.equal(log.endAt(ts), at + 1);
    assert.equal(log.endAt(ts - 1), at);
  });
  assert.equal(new Log().endAt(5), 0);
});

test("a game that begins behind an event begins there, also when the page is loaded again", () => {
  const half = 100;
  const seq = all[half - 1]?.seq as number;
  const live = new Log();
  for (const entry of all.slice(0, half)) live.append(entry);
  live.begin(seq, start());
  assert.deepEqual(live.game, begun(start()));
  for (const entry of all.slice(half)) live.append(entry);
  const loaded = new Log();
  loaded.begin(seq, start());
  for (const entry of all) loaded.append(entry);
  for (const log of [live, loaded]) {
    assert.deepEqual(log.gameAt(half + 1), reduce(begun(start()), all[half] as never));
    assert.deepEqual(log.gameAt(half - 1), filled().gameAt(half - 1));
    assert.deepEqual(log.game, all.slice(half).reduce(reduce, begun(start())));
  }
});

test("the Game Master's text is lines, not pieces", () => {
  const log = filled();
  const said = lines(log, log.end);
  assert.ok(said.every((line, at) => line.kind !== "text" || said[at - 1]?.kind !== "text"));
  assert.ok(said.some(({ kind, text }) => kind === "call" && text.startsWith("> read_game_memory")));
  assert.ok(said.length > 20 && lines(log, 0).length === 0);
  const first = lines(log, 60).find(({ kind }) => kind === "text");
  assert.ok((first?.text.length ?? 0) > 20);
});
