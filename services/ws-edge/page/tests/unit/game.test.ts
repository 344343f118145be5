import assert from "node:assert/strict";
import { test } from "node:test";
import { begun, completed, INDICES, KINDS, NOTHING, reduce, STAGES, type Game } from "../../src/game.ts";
import { news } from "../../src/announcer.tsx";
import { en } from "../../src/words/en.ts";
import { entries, recorded, start, stream } from "../recorded.ts";

const all = recorded();
const states = (() => {
  let game: Game = begun(start());
  return all.map((entry) => (game = reduce(game, entry)));
})();
const after = (event: string, nth = 0) => {
  const places = all.flatMap((entry, at) => (entry.event === event ? [at] : []));
  return states[places[nth] as number] as Game;
};

test("a game that has begun knows its gauges and its public", () => {
  const game = begun(start());
  assert.deepEqual([game.turn, game.maxTurns, game.public.length, game.moods.length], [1, 10, 4, 1]);
  assert.equal(game.moods[0]?.indices.credibilite, 30);
});

test("who comes later knows the gauges of the first turn by asking, and later by the events alone", () => {
  const seen = all.slice(0, all.findIndex(({ event }) => event === "gm.images")).reduce(reduce, NOTHING);
  const told = begun(start());
  const whole = completed(seen, told);
  assert.deepEqual([whole.turn, whole.moods.length, whole.public.length, whole.news], [1, 1, 4, seen.news]);
  assert.equal(completed(seen, null), seen);
  const later = all.reduce(reduce, NOTHING);
  assert.equal(completed(later, told), later);
});

test("a proposal puts three news on the table, then their posters", () => {
  const proposal = after("gm.proposal");
  assert.ok(KINDS.every((kind) => proposal.news?.[kind].text && proposal.news[kind].body && INDICES.every((index) => typeof proposal.news?.[kind].stat_impact[index] === "number")));
  assert.equal(proposal.posters, null);
  assert.match(after("gm.images").posters?.paths.fake ?? "", /^\/api\/images\/[0-9a-f-]+\/fake\.png$/);
  assert.equal(after("gm.result").action, null);
});

test("while the Game Master thinks, its action goes through its stages in their order", () => {
  for (const kind of ["propose", "choose"] as const) {
    const stages = states.flatMap(({ action }) => (action?.kind === kind ? [action.stage] : []));
    const order: readonly string[] = STAGES[kind];
    const passed = stages.filter((stage, at) => stage !== stages[at - 1]);
    // Twice: two turns.
    assert.deepEqual(passed, [...order, ...order], kind);
  }
  const written = states.map(({ action }) => action?.written ?? 0);
  assert.ok(Math.max(...written) > 100);
});

test("a debate tells who is there, who speaks, who dies and who is cloned", () => {
  const round = after("arena.round.start");
  assert.deepEqual([round.round, round.chosen, round.said.length], [1, "fake", 0]);
  const game = after("arena.state.global");
  const dead = game.debaters.filter(({ state }) => state === "dead");
  assert.deepEqual(dead.map(({ name }) => name), ["Grigori"]);
  assert.equal(game.debaters.length, 5);
  assert.equal(game.debaters.find(({ name }) => name === "Dmitri")?.parent, "Pavel");
  assert.ok(game.debaters.every(({ name }) => !/^[0-9a-f]{8}$/.test(name)));
  const said = (kind: string) => game.said.filter((one) => one.kind === kind);
  assert.deepEqual([said("take").length, said("phase").length, said("death").length, said("clone").length], [16, 4, 1, 1]);
  const votes = game.said.flatMap((one) => (one.kind === "take" && one.votes.length ? [one] : []));
  assert.ok(votes.length === 4 && votes.every(({ votes, text }) => votes.length === 3 && !text && votes.every((name) => /^[A-Z]/.test(name))));
  assert.ok(states.some(({ debaters }) => debaters.some(({ state }) => state === "thinking")));
});

test("a turn moves opinion, and the next one begins with a table that is clear", () => {
  const turn = after("gm.turn_update");
  assert.deepEqual([turn.turn, turn.settled, turn.moods.length], [2, true, 2]);
  assert.deepEqual(turn.moods.map(({ turn }) => turn), [0, 1]);
  assert.ok(turn.moods[1]?.indices.rage !== turn.moods[0]?.indices.rage && turn.strategy?.analysis && turn.verdict);
  const next = states[all.findIndex(({ seq }) => seq > (all.find(({ event }) => event === "gm.turn_update")?.seq ?? 0) && true) + 1] as Game;
  assert.ok(next.settled || next.news === null);
  const second = after("gm.proposal", 1);
  assert.deepEqual([second.chosen, second.verdict, second.settled, second.action?.kind], [null, "", false, "propose"]);
  assert.equal(states.at(-1)?.turn, 3);
  assert.equal(states.at(-1)?.moods.length, 3);
});

test("an end shows what the Game Master wanted; a new proposal is a new game", () => {
  const reveal = { manipulation_history: [], score: { total_turns: 2, successful_manipulations: 1, rate_percent: 50, verdict: "Led." } };
  const raw: [string, unknown][] = [
    ["gm.game_over_reveal", { type: "game_over_reveal", data: reveal }], ["gm.end", { type: "end", data: { lose: true, dec: 99 } }],
    ["gm.result", { type: "result", data: "ok" }],
  ];
  const over = entries(raw, 5000).reduce(reduce, states.at(-1) as Game);
  assert.deepEqual([over.end?.lose, over.reveal?.score.verdict, over.action], [true, "Led.", null]);
  const again = entries(stream("gm-propose.turn1.sse"), 6000).reduce(reduce, over);
  assert.deepEqual([again.end, again.reveal, again.news !== null], [null, null, true]);
  const turn = entries([["gm.turn_update", { type: "turn_update", data: { turn: 2, max_turns: 10 } }]], 7000).reduce(reduce, again);
  assert.deepEqual([turn.turn, turn.moods.length], [2, 1], "a game that begins anew has no past of opinion but its own");
});

test("what fails ends the action, and says why until the next one", () => {
  for (const name of ["propose-badjson", "propose-http429", "choose-without-proposal"]) {
    const game = entries(stream(`gm-error.${name}.sse`)).reduce(reduce, NOTHING);
    assert.ok(game.action === null && game.failure?.error, name);
  }
  const failed = entries([["gm.phase", { phase: "generating_titles" }], ["gm.error", { error: "Cancelled", detail: "superseded" }]]).reduce(reduce, NOTHING);
  assert.deepEqual([failed.action, failed.failure?.error, failed.failure?.detail], [null, "Cancelled", "superseded"]);
  const again = entries([["gm.phase", { phase: "generating_titles" }]], 100).reduce(reduce, failed);
  assert.ok(again.failure === null && again.action?.kind === "propose");
});

test("no state is ever changed: each stays what it was", () => {
  const copies = states.map((state) => JSON.stringify(state));
  states.reduce((game, _, at) => reduce(game, all[at] as never), begun(start()));
  states.forEach((state, at) => assert.equal(JSON.stringify(state), copies[at]));
});

test("what makes no sense changes nothing and harms nobody", () => {
  const odd: unknown[] = [null, 0, "x", [], {}, { data: null }, { data: 5 }, { data: [] }, { data: {} }, { phase: {}, text: 5, agent_id: [], rankings: [null, 1, {}] },
    { data: { agents: 5, reactions: {}, indices: null, turn: "x", real: 1 } }, { agents: [null, 5, { id: 5 }], graveyard: [1] }];
  const names = [...new Set(all.map(({ event }) => event)), "gm.proposal", "gm.end", "gm.unknown", "arena.agent..output", "arena.agent.x.output", "app.chat", "x", ""];
  let game: Game = states[Math.floor(states.length / 2)] as Game;
  for (const event of names) {
    for (const data of odd) {
      game = reduce(game, { event, data, seq: 9999, ts: 1, lag: null });
      assert.ok(game.said.length <= 200 && game.debaters.length <= 64);
    }
  }
});

test("turning points are said aloud, and nothing else", () => {
  const said = states.flatMap((state, at) => (at ? [news(states[at - 1] as Game, state, en)] : [])).filter(Boolean);
  assert.ok(said.includes(en.announce.news) && said.includes(en.announce.turn(2)) && said.includes(en.arena.died("Grigori")));
  assert.ok(said.length < 40, `${said.length}`);
});
