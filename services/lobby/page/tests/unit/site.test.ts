// What is served, as files: small, whole, and from nowhere else.

import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

const names = readdirSync("site", { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => `${entry.parentPath}/${entry.name}`);

test("the page is small, and all of it is here", () => {
  const texts = names.filter((name) => /\.(html|js|css|svg)$/.test(name));
  const size = texts.reduce((sum, name) => sum + readFileSync(name).length, 0);
  console.log(`the page: ${size} bytes in ${texts.length} files, without its pictures`);
  assert.ok(size < 40_000, `${size} bytes`);
  for (const name of texts) {
    const text = readFileSync(name, "utf8");
    const places = (text.match(/https?:\/\/[^"'`\s)]+/g) ?? []).filter((url) => !url.startsWith("http://www.w3.org/"));
    assert.deepEqual(places, [], name);
    // Texts of players are no markup, in no way of writing it.
    assert.doesNotMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|style=|\son[a-z]+=/, name);
    for (const [, path = ""] of text.matchAll(/(?:src|href|from)[= ]"(?!#)([^"]+)"/g)) {
      assert.ok(existsSync(`site/${path}`), `${name}: ${path}`);
    }
  }
});

test("what the script looks for is in the page", () => {
  const page = readFileSync("site/index.html", "utf8");
  const script = readFileSync("site/lobby.js", "utf8");
  const ids = [...script.matchAll(/(?:\$\("#|input\("|inSession\(")([a-z]+)/g)].map(([, id]) => id);
  assert.ok(ids.length > 20);
  for (const id of ids) assert.ok(page.includes(`id="${id}"`), `#${id}`);
});
