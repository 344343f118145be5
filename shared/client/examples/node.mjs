// Plays one turn and tells what happens:  node examples/node.mjs [URL]
// Needs a door: ./scripts/up in the project's folder. Run `npm ci && npm run build` in this one first.

import { connect } from "@herald/client";

const url = process.argv[2] ?? "http://127.0.0.1:8000";
const herald = connect({ url, session: crypto.randomUUID(), from: "start" });

herald.on("status", (status) => console.log(`[${status.state}]`, "error" in status ? status.error.message : ""));
herald.on("gap", ({ from, to }) => console.log(`[gap] events ${from} to ${to} are gone`));
herald.on("gm.proposal", ({ data: { data } }) => {
  for (const kind of ["real", "fake", "satirical"]) console.log(`${kind}: ${data[kind].text}`);
});
herald.on("arena.agent.*.output", ({ data }) => console.log(`${data.agent_name}: ${data.content.slice(0, 100)}`));
herald.on("gm.indices_update", ({ data }) => console.log("indices:", data.data.indices));

const results = herald.events("gm.result");
await herald.start({ lang: "en" });
await herald.propose({ lang: "en" });
await results.next();
await herald.choose("fake", { lang: "en" });
await results.next();
console.log(`turn ${(await herald.state()).turn} may begin`);
herald.close();
