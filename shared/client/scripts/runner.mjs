// Runs tests that are written in TypeScript: bundles those that are asked for, and has Node run them.

import { spawnSync } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";

/**
 * `argv`: `[unit] [system]`, or some of them: `system/node`; and flags of Node's test runner. In the working directory `tests/unit` and
 * `tests/system` are; `build` is esbuild's, of whoever asks, with `options`. Answers with the exit code.
 */
export async function runTests(argv, build, options) {
  const wanted = argv.filter((word) => !word.startsWith("-"));
  const names = argv.filter((word) => word.startsWith("--test-"));
  const parts = wanted.length ? wanted : process.env.HERALD_BINARIES ? ["unit", "system"] : ["unit"];
  const files = ["unit", "system"]
    .flatMap((folder) => readdirSync(`tests/${folder}`).map((name) => `${folder}/${name}`))
    .filter((name) => name.endsWith(".test.ts") && parts.some((part) => name.startsWith(part)))
    .map((name) => `tests/${name}`);
  rmSync("build", { recursive: true, force: true });
  await build({
    entryPoints: files, outdir: "build", outbase: ".", bundle: true, platform: "node", format: "esm", target: "node20", sourcemap: "inline", ...options,
  });
  // Node 20 has a WebSocket, but behind a flag.
  const flags = typeof WebSocket === "function" ? [] : ["--experimental-websocket"];
  // Two files at a time: the whole-system ones mostly wait.
  const runner = ["--enable-source-maps", "--test", "--test-concurrency=2", "--test-force-exit", "--test-reporter=spec"];
  const built = files.map((name) => `build/${name.replace(/\.ts$/, ".js")}`);
  return spawnSync(process.execPath, [...flags, ...runner, ...names, ...built], { stdio: "inherit" }).status ?? 1;
}
