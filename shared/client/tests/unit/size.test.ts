import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

const LIMIT = 6000;

test("the bundle is smaller than 6 kB, and needs nothing else", () => {
  const text = readFileSync("dist/herald.min.js");
  const size = gzipSync(text, { level: 9 }).length;
  console.log(`dist/herald.min.js: ${text.length} bytes, ${size} gzipped (limit ${LIMIT})`);
  assert.ok(size < LIMIT, `${size} bytes`);
  assert.doesNotMatch(text.toString(), /\bimport\b|\brequire\(/);
  const { dependencies, sideEffects } = JSON.parse(readFileSync("package.json", "utf8"));
  assert.deepEqual([dependencies, sideEffects], [undefined, false]);
});

test("what the bundle calls otherwise is no name of the package", () => {
  const inner = /INNER = \[(.*)\]/.exec(readFileSync("scripts/build.mjs", "utf8"))?.[1]?.match(/\w+/g) ?? [];
  assert.ok(inner.length > 10);
  const said = ["client", "events", "errors", "arena"].map((name) => readFileSync(`dist/${name}.d.ts`, "utf8")).join("\n");
  const code = said.replace(/\/\*[\s\S]*?\*\//g, "");
  for (const name of inner) {
    assert.doesNotMatch(code, new RegExp(`^\\s*(readonly )?${name}[?(:]`, "m"), `${name} is one that others see`);
  }
});

test("the types name no file that is not there", () => {
  const names = readdirSync("dist");
  for (const name of names.filter((name) => name.endsWith(".d.ts"))) {
    for (const [, neighbour] of readFileSync(`dist/${name}`, "utf8").matchAll(/from "\.\/([\w-]+)\.js"/g)) {
      assert.ok(names.includes(`${neighbour}.d.ts`), `${name}: ${neighbour}`);
    }
    assert.doesNotMatch(readFileSync(`dist/${name}`, "utf8"), /\.ts"/, name);
  }
});
