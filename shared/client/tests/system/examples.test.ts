// Each example runs.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { build } from "esbuild";
import { found, open } from "./browser.ts";
import { fresh } from "./faults.ts";
import { eventually, House } from "./house.ts";

const path = found();
const skip = path ? false : "no Chromium found: install Debian's chromium, or name one by HERALD_CHROMIUM";
let house: House;
let url: string;

before(async () => {
  house = await House.start({});
  url = `http://127.0.0.1:${house.port}`;
});
after(() => house?.end());

test("the Node script plays a turn", { timeout: 60_000 }, async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ["examples/node.mjs", url], { timeout: 50_000 });
  for (const line of [/^\[open\]/m, /^real: /m, /^indices: /m, /^turn 2 may begin/m]) assert.match(stdout, line);
});

test("the package installs, and the first lines of its README run", { timeout: 60_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "herald-user-"));
  try {
    const npm = (...argv: string[]) => promisify(execFile)("npm", [...argv, "--silent", "--offline", "--no-audit", "--no-fund"], { timeout: 50_000 });
    // What is to be packed is built already.
    const { stdout } = await npm("pack", "--ignore-scripts", "--pack-destination", folder);
    await npm("install", "--prefix", folder, join(folder, stdout.trim().split("\n").at(-1) as string));
    const [, text] = /```js\n(.*?)```/s.exec(readFileSync("README.md", "utf8")) as unknown as [string, string];
    writeFileSync(join(folder, "first.mjs"), text.replace("http://127.0.0.1:8000", url));
    const child = spawn(process.execPath, ["first.mjs"], { cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
    let said = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
    try {
      await eventually("its news", () => /^open/m.test(said) && (/^(?!connecting|open|waiting)\S+ .{9}/m.test(said) || assert.fail(said)));
    } finally {
      child.kill("SIGKILL");
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("the page plays a turn", { skip, timeout: 60_000 }, async () => {
  const files = { "/examples/page.html": readFileSync("examples/page.html", "utf8"), "/dist/herald.min.js": readFileSync("dist/herald.min.js", "utf8") };
  const { page, errors, end } = await open(path as string, files);
  try {
    await page.goto(new URL(`/examples/page.html?url=${url}&session=${fresh()}`, page.url()).href);
    await page.locator("#status", { hasText: "open" }).waitFor();
    await Promise.all([page.waitForResponse(/\/api\/start/), page.locator("#start").click()]);
    await page.locator("#propose").click();
    await page.locator("#news button").nth(2).waitFor();
    await page.locator("#log", { hasText: "gm.result" }).waitFor();
    await page.locator("#news button").nth(1).click();
    await page.locator("#log", { hasText: "gm.turn_update" }).waitFor();
    assert.deepEqual(errors, []);
  } finally {
    await end();
  }
});

test("the React application plays a turn", { skip, timeout: 60_000 }, async () => {
  const { outputFiles } = await build({
    entryPoints: ["examples/react.tsx"], bundle: true, write: false, format: "esm", jsx: "automatic",
    define: { "process.env.NODE_ENV": '"development"' },
  });
  const html = '<!doctype html><title>React</title><body><script type="module" src="/react.js"></script>';
  const { page, errors, end } = await open(path as string, { "/react.html": html, "/react.js": outputFiles[0]?.text ?? "" });
  try {
    await page.goto(new URL(`/react.html?url=${url}&session=${fresh()}`, page.url()).href);
    await page.locator("#status", { hasText: "open" }).waitFor();
    await page.locator("#propose").click();
    const news = page.locator(".news:enabled");
    await news.nth(2).waitFor();
    const before = Number(await page.locator("#events").textContent());
    assert.ok(before > 0);
    await news.nth(1).click();
    await page.waitForFunction((before) => Number(document.querySelector("#events")?.textContent) > before + 10, before);
    assert.deepEqual(errors, []);
  } finally {
    await end();
  }
});
