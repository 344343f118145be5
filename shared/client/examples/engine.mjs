// An engine in Node: a die that the clients of a session roll.  node engine.mjs nats://127.0.0.1:4222 http://127.0.0.1:8002
// Needs the package @nats-io/transport-node, and a door with the root `app` (README.md of the project, "In Python and Node").

import { connect, headers } from "@nats-io/transport-node";

const [, , servers, door] = process.argv;
const nats = await connect({ servers, name: "dice" });
const head = (fields) => Object.entries(fields).reduce((all, [name, value]) => (all.set(name, value), all), headers());

/** Publishes by NATS. Acknowledged: from here on every client of the session gets it, or is told of a gap. */
async function roll(session, sides, who) {
  if (!Number.isInteger(sides) || sides < 2) throw new Error("a die has two sides or more");
  const event = { face: 1 + Math.floor(Math.random() * sides), sides, who };
  const stored = (await nats.request(`app.${session}.dice.rolled`, JSON.stringify(event), { timeout: 5000 })).json();
  if (stored.error) throw new Error(stored.error.description);
  return { seq: stored.seq, ...event };
}

/** Publishes by HTTP; under the same key once, however often it is sent. */
async function publish(session, topic, data, key) {
  const sent = { "content-type": "application/json", "idempotency-key": key };
  const body = JSON.stringify({ topic, data });
  const answer = await fetch(`${door}/sessions/${session}/events`, { method: "POST", headers: sent, body });
  if (answer.status !== 201) throw new Error(await answer.text());
}

/** Hears what clients say, and that they come. */
async function hear(message) {
  const [, , session, kind] = message.subject.split(".");
  const who = message.headers.get("Herald-User") || "somebody";
  try {
    if (kind === "join") await publish(session, "dice.joined", { who }, message.headers.get("Herald-Conn"));
    if (kind === "text") await roll(session, message.json().sides, who);
  } catch (error) {
    // To that client alone: the reply subject is its connection.
    nats.publish(message.reply, JSON.stringify({ error: error.message }), { headers: head({ "Herald-Topic": "dice.refused" }) });
  }
}

/** Answers an HTTP request. */
async function answer({ headers: asked, reply }) {
  if (!reply) return;
  const whole = { "Herald-Part": "0", "Herald-End": "1", "Herald-H-content-type": "application/json" };
  const say = (status, body) => nats.publish(reply, JSON.stringify(body), { headers: head({ "Herald-Status": `${status}`, ...whole }) });
  const [, session] = /^\/dice\/roll\/([A-Za-z0-9][\w-]{0,63})$/.exec(asked.get("Herald-Path")) ?? [];
  if (!session || asked.get("Herald-Method") !== "POST") return say(404, { error: "Not found: POST /dice/roll/SESSION" });
  // Who has given up does not hand out the body: then nothing is rolled.
  const body = asked.get("Herald-Body");
  if (body && (await nats.request(body, "", { headers: head({ "Herald-Part": "0" }) })).headers.has("Herald-Abort")) return;
  await roll(session, 6, asked.get("Herald-User") || "somebody").then((it) => say(201, it), (error) => say(503, { error: error.message }));
}

const take = (work) => (error, message) => void (error ? console.error(error) : work(message).catch(console.error));
nats.subscribe("in.app.*.*", { queue: "dice", callback: take(hear) });
nats.subscribe("http.dice", { queue: "dice", callback: take(answer) });
await nats.flush();
process.once("SIGTERM", () => nats.drain());
console.log("ready");
