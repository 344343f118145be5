// Runs the tests: `node scripts/test.mjs [unit] [system]`, or some of them. The whole-system ones need HERALD_BINARIES, the folder of
// ws-edge and lobby, a nats-server (HERALD_NATS_SERVER, else the one of the PATH), and a Chromium. HERALD_SHOTS=FOLDER has them take pictures.

import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { runTests } from "../../../../shared/client/scripts/runner.mjs";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
process.exit(await runTests(process.argv.slice(2), build, { external: ["playwright-core", "axe-core"] }));
