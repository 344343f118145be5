// Runs the tests: `node scripts/test.mjs [unit] [system]`, or some of them: `unit/game`. The whole-system ones need HERALD_BINARIES,
// the folder of ws-edge, gm-bridge and sim, a nats-server (HERALD_NATS_SERVER, else the one of the PATH), and a Chromium.
// HERALD_SHOTS=FOLDER has them take pictures; HERALD_PAGE=dist tries what is built, in place of what is in the binary.

import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { runTests } from "../../../../shared/client/scripts/runner.mjs";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
process.exit(
  await runTests(process.argv.slice(2), build, {
    external: ["playwright-core", "vite", "axe-core"], alias: { "@herald/client/past": "../../../shared/client/src/past.ts", "@herald/client": "../../../shared/client/src/index.ts" },
    jsx: "automatic", jsxImportSource: "preact",
  }),
);
