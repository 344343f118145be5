// Runs the tests: `node scripts/test.mjs [unit] [system]`, or some of them: `system/node`. The whole-system ones need
// HERALD_BINARIES, the folder of ws-edge, gm-bridge and sim, and a nats-server (HERALD_NATS_SERVER, else the one of the PATH).

import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { runTests } from "./runner.mjs";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
// The package by its name is what is built, not what is written.
process.exit(await runTests(process.argv.slice(2), build, { packages: "external", tsconfigRaw: "{}" }));
