// Runs the tests: `node scripts/test.mjs [unit] [system]`, or some of them: `system/node`. The whole-system ones need
// HERALD_BINARIES, the folder of ws-edge, gm-bridge and sim, and a nats-server (HERALD_NATS_SERVER, else the one of the PATH).

import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
const wanted = process.argv.slice(2).filter((word) => !word.startsWith("-"));
const names = process.argv.slice(2).filter((word) => word.startsWith("--test-"));
const parts = wanted.length ? wanted : process.env.HERALD_BINARIES ? ["unit", "system"] : ["unit"];
const files = ["unit", "system"]
  .flatMap((folder) => readdirSync(`tests/${folder}`).map((name) => `${folder}/${name}`))
  .filter((name) => name.endsWith(".test.ts") && parts.some((part) => name.startsWith(part)))
  .map((name) => `tests/${name}`);
rmSync("build", { recursive: true, force: true });
await build({
  entryPoints: files, outdir: "build", outbase: ".", bundle: true, packages: "external", platform: "node", format: "esm",
  target: "node20", sourcemap: "inline",
  // The package by its name is what is built, not what is written.
  tsconfigRaw: "{}",
});
// Two files at a time: the whole-system ones mostly wait.
// Node 20 has a WebSocket, but behind a flag.
const flags = typeof WebSocket === "function" ? [] : ["--experimental-websocket"];
const argv = [...flags, "--enable-source-maps", "--test", "--test-concurrency=2", "--test-force-exit", "--test-reporter=spec", ...names];
const built = files.map((name) => `build/${name.replace(/\.ts$/, ".js")}`);
process.exit(spawnSync(process.execPath, [...argv, ...built], { stdio: "inherit" }).status ?? 1);
