// What is committed is what the sources make: `cargo build` needs no Node, and nobody needs to believe us.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { build } from "vite";
import { en } from "../../src/words/en.ts";
import { fr } from "../../src/words/fr.ts";

/** Path and content of each file of a folder. */
function files(folder: string): Map<string, string> {
  const names = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = names.map((entry) => `${entry.parentPath}/${entry.name}`).sort();
  return new Map(paths.map((path) => [path.slice(folder.length + 1), readFileSync(path, "utf8")]));
}

test("dist/ is what the sources make", { timeout: 120_000 }, async () => {
  await build({ configFile: "vite.config.js", logLevel: "error", build: { outDir: "build/anew" } });
  const [kept, anew] = [files("dist"), files("build/anew")];
  assert.deepEqual([...kept.keys()], [...anew.keys()]);
  for (const [path, text] of anew) assert.ok(kept.get(path) === text, `dist/${path} is not what is built: run \`npm run build\` and commit it`);
});

test("the page is small, and all of it is here", () => {
  let all = 0;
  for (const [path, text] of files("dist")) {
    const size = gzipSync(text, { level: 9 }).length;
    console.log(`dist/${path}: ${Buffer.byteLength(text)} bytes, ${size} gzipped`);
    all += size;
    // Names of languages, and of what is an example, are no places.
    const places = (text.match(/https?:\/\/[^"'`\s)]+/g) ?? []).filter((url) => !/^http:\/\/www\.w3\.org\/|\.example$/.test(url));
    assert.deepEqual(places, [], path);
  }
  console.log(`the whole page: ${all} bytes gzipped`);
  assert.ok(all < 100_000);
});

test("the two languages say the same things, each in its own words", () => {
  const leaves = (value: unknown, path = ""): [string, unknown][] =>
    typeof value === "object" && value !== null ? Object.entries(value).flatMap(([key, item]) => leaves(item, `${path}.${key}`)) : [[path, value]];
  const [one, other] = [new Map(leaves(en)), new Map(leaves(fr))];
  assert.deepEqual([...one.keys()], [...other.keys()]);
  const same = [...one].filter(([path, value]) => typeof value === "string" && value && value === other.get(path)).map(([path]) => path);
  // Words that are the same in both.
  assert.deepEqual(same.filter((path) => !/\.(session|confiance|pause|rage|seq|phases\.4)$/.test(path)), []);
});
