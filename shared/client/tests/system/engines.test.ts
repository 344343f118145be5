// Each example of an engine: it publishes by NATS and by HTTP, hears its clients, answers one of them, and HTTP.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, test } from "node:test";
import { fresh } from "./faults.ts";
import { eventually, House } from "./house.ts";

// The folder of nats-py, which ./scripts/test brings.
const python = process.env.HERALD_NATS_PY;
const DOOR = `
[[ws-edge.listeners]]
name = "app"
address = "127.0.0.1:0"

[[ws-edge.listeners.routes]]
path = "/ws/{sid}"
stream = "APP"
roots = ["app"]
uplink = {}

[[ws-edge.listeners.forwards]]
name = "ingest"
service = "ingest"
paths = ["/sessions/*"]

[[ws-edge.listeners.forwards]]
name = "dice"
service = "dice"
paths = ["/dice/*"]
commands = true
`;
let house: House;

before(async () => {
  house = await House.start({ toml: DOOR, ingest: true });
});
after(() => house?.end());

interface Frame {
  event: string;
  data: { face: number; sides: number; who: string; error: string };
  seq?: number;
}

const engines = [
  { name: "Node", command: [process.execPath, "examples/engine.mjs"], env: {}, skip: false },
  { name: "Python", command: ["python3", "examples/engine.py"], env: { PYTHONPATH: python ?? "" }, skip: !python && "nats-py is not there: HERALD_NATS_PY" },
];
for (const { name, command, env, skip } of engines) {
  const noSocket = typeof WebSocket !== "function" && "no WebSocket in this Node";
  test(`the engine in ${name} plays dice`, { skip: skip || noSocket, timeout: 60_000 }, async () => {
    const door = `http://127.0.0.1:${house.port}`;
    const [program, ...argv] = command as [string, ...string[]];
    const child = spawn(program, [...argv, house.nats, door], { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } });
    let said = "";
    for (const out of [child.stdout, child.stderr]) out.setEncoding("utf8").on("data", (text: string) => (said += text));
    const ended = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
    try {
      await eventually("the engine", () => /^ready/m.test(said) || assert.fail(said));
      const session = fresh();
      const frames: Frame[] = [];
      const seen = (event: string, is = (_: Frame) => true) =>
        eventually(event, () => frames.find((frame) => frame.event === event && is(frame)) ?? assert.fail(`${JSON.stringify(frames)} ${said}`), 15_000);
      const socket = new WebSocket(door.replace("http", "ws") + `/ws/${session}`, "herald.v1");
      socket.addEventListener("message", ({ data }) => frames.push(JSON.parse(data as string)));
      // That somebody has come is heard, and published by HTTP.
      const joined = await seen("app.dice.joined");
      assert.deepEqual(joined.data, { who: "somebody" });
      // What is said is heard, and published by NATS.
      socket.send(JSON.stringify({ sides: 20 }));
      const { data, seq } = await seen("app.dice.rolled");
      assert.ok(data.sides === 20 && data.face >= 1 && data.face <= 20 && Number(seq) > Number(joined.seq), JSON.stringify(data));
      // Nonsense is answered to who said it, by no event.
      socket.send("nonsense");
      const refused = await seen("app.dice.refused");
      assert.ok(refused.data.error && refused.seq === undefined);
      // HTTP is answered, and what it did is seen.
      const rolled = await fetch(`${door}/dice/roll/${session}`, { method: "POST" });
      const body = (await rolled.json()) as { seq: number; face: number; sides: number };
      assert.ok(rolled.status === 201 && body.sides === 6, JSON.stringify(body));
      const shown = await seen("app.dice.rolled", (frame) => frame.seq === body.seq);
      assert.equal(shown.data.face, body.face);
      for (const [method, path] of [["GET", `/dice/roll/${session}`], ["POST", "/dice/roll/a.b"], ["POST", "/dice/x"]] as const) {
        const answer = await fetch(door + path, { method });
        assert.equal(answer.status, 404, `${method} ${path}`);
        assert.match(((await answer.json()) as { error: string }).error, /^Not found/);
      }
      assert.equal(frames.filter((frame) => frame.event === "app.dice.joined").length, 1);
      socket.close();
      child.kill("SIGTERM");
      assert.equal(await ended, 0, said);
      assert.equal((await fetch(`${door}/dice/roll/${session}`, { method: "POST" })).status, 503);
    } finally {
      child.kill("SIGKILL");
    }
  });
}
