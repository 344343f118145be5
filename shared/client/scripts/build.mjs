// Builds dist/: the bundle, the same minified, and the types.

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
process.chdir(root);
rmSync("dist", { recursive: true, force: true });

const common = { entryPoints: ["src/index.ts"], bundle: true, format: "esm", target: "es2022", sourcemap: true };
await build({ ...common, outfile: "dist/index.js" });
await build({ ...common, outfile: "dist/herald.min.js", minify: true, sourcemap: false });

execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json"], { stdio: "inherit" });
for (const name of readdirSync("dist").filter((name) => name.endsWith(".d.ts"))) {
  // The types name their neighbours as Node would find them.
  const text = readFileSync(`dist/${name}`, "utf8").replace(/(["'])(\.\/[\w-]+)\.ts\1/g, "$1$2.js$1");
  writeFileSync(`dist/${name}`, text);
}
