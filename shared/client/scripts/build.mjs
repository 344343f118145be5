// Builds dist/: the bundle, the same minified, and the types.

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { minifySync } from "rolldown/utils";

/** Names of our own parts that nobody else sees: short ones do. See tests/unit/size.test.ts. */
const INNER = ["act", "base", "begin", "behind", "drop", "end", "frame", "full", "greeted", "heard", "hello", "jump", "move", "query", "renewable", "request", "tokens"];

const root = fileURLToPath(new URL("..", import.meta.url));
process.chdir(root);
rmSync("dist", { recursive: true, force: true });

const common = { bundle: true, format: "esm", target: "es2022", sourcemap: true };
// Two entries that share what they have in common, errors above all.
await build({ ...common, entryPoints: ["src/index.ts", "src/past.ts"], splitting: true, outdir: "dist", chunkNames: "shared-[hash]" });
const [bundle] = (await build({ ...common, entryPoints: ["src/index.ts"], write: false, outfile: "dist/herald.min.js", sourcemap: false, mangleProps: new RegExp(`^(${INNER.join("|")})$`) })).outputFiles;
const { code, errors } = minifySync("herald.js", bundle.text, { module: true, compress: { target: "es2022" }, mangle: { toplevel: true } });
if (errors.length) throw new Error(errors[0].message);
writeFileSync("dist/herald.min.js", code);

execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json"], { stdio: "inherit" });
for (const name of readdirSync("dist").filter((name) => name.endsWith(".d.ts"))) {
  // The types name their neighbours as Node would find them.
  const text = readFileSync(`dist/${name}`, "utf8").replace(/(["'])(\.\/[\w-]+)\.ts\1/g, "$1$2.js$1");
  writeFileSync(`dist/${name}`, text);
}
