// A tab of Chromium in which nothing goes wrong unseen.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { chromium, type Browser, type BrowserContextOptions, type Page } from "playwright-core";
import { FLAGS } from "../../../../../shared/client/tests/system/browser.ts";

/** Where pictures of the page go; none are made without. */
const SHOTS = process.env.HERALD_SHOTS;
const AXE = readFileSync("node_modules/axe-core/axe.min.js", "utf8");

// What moves is not waited for, and is no colour.
export const DESKTOP: BrowserContextOptions = { viewport: { width: 1360, height: 900 }, locale: "en-GB", colorScheme: "light", reducedMotion: "reduce" };
export const PHONE: BrowserContextOptions = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true, locale: "fr-FR", colorScheme: "dark", reducedMotion: "reduce" };

export class Tab {
  readonly page: Page;
  /** What went wrong in it, and what its console says of that. */
  readonly errors: string[] = [];

  private constructor(page: Page) {
    this.page = page;
    page.setDefaultTimeout(20_000);
    page.on("pageerror", (error) => this.errors.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") this.errors.push(message.text());
    });
  }

  static async open(browser: Browser, url: string, options: BrowserContextOptions = DESKTOP): Promise<Tab> {
    const context = await browser.newContext({ ...options, permissions: ["clipboard-read", "clipboard-write"] });
    const tab = new Tab(await context.newPage());
    // What is built, in place of what is in the binary: for who works on the page.
    const built: Record<string, string> = { "/": "index.html", "/page/herald.js": "page/herald.js", "/page/herald.css": "page/herald.css" };
    for (const [path, name] of Object.entries(process.env.HERALD_PAGE ? built : {})) {
      await context.route(new URL(path, url).href, async (route) => {
        const { "content-length": _length, "content-encoding": _encoding, etag: _tag, ...headers } = (await route.fetch()).headers();
        await route.fulfill({ path: `${process.env.HERALD_PAGE}/${name}`, headers });
      });
    }
    await tab.page.goto(url);
    return tab;
  }

  /** What axe-core finds wrong for people who see, hear or move differently. */
  async accessible(what: string): Promise<void> {
    // By the browser's own tools: the page's policy lets no script in.
    await this.page.evaluate(AXE);
    const { violations } = await this.page.evaluate(() => (globalThis as unknown as { axe: { run(): Promise<{ violations: { id: string; nodes: { html: string; failureSummary: string }[] }[] }> } }).axe.run());
    const found = violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ html, failureSummary }) => `${html.slice(0, 160)} ${failureSummary}`).join(" | ")}`);
    assert.deepEqual(found, [], `${what}: axe`);
    const wide = await this.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.ok(wide <= 0, `${what}: ${wide} pixels wider than the screen`);
  }

  /** What the page's main thread did meanwhile, task by task, in ms: the work alone, and with all that kept it waiting. */
  async tasks(browser: Browser, act: () => Promise<void>): Promise<{ cpu: number; wall: number }[]> {
    await browser.startTracing(this.page, { categories: ["toplevel"] });
    await act();
    type Traced = { name: string; pid: number; tid: number; ts: number; dur?: number; tdur?: number; args: { name?: string } };
    const { traceEvents } = JSON.parse((await browser.stopTracing()).toString()) as { traceEvents: Traced[] };
    const main = new Set(traceEvents.filter(({ args }) => args?.name === "CrRendererMain").map(({ pid, tid }) => `${pid} ${tid}`));
    const tasks = traceEvents.filter(({ name, pid, tid }) => name === "ThreadControllerImpl::RunTask" && main.has(`${pid} ${tid}`));
    return tasks.map(({ dur = 0, tdur = dur }) => ({ cpu: tdur / 1000, wall: dur / 1000 }));
  }

  async shot(name: string, fullPage = false): Promise<void> {
    if (!SHOTS) return;
    mkdirSync(SHOTS, { recursive: true });
    await this.page.screenshot({ path: `${SHOTS}/${name}.png`, fullPage, animations: "disabled" });
  }

  /** Presses Tab until something has the focus. */
  async tabTo(selector: string, most = 60): Promise<void> {
    for (let times = 0; times < most; times++) {
      if (await this.page.evaluate((selector) => document.activeElement?.matches(selector) ?? false, selector)) return;
      await this.page.keyboard.press("Tab");
    }
    assert.fail(`${selector} is not reached by ${most} tabs`);
  }

  async end(): Promise<void> {
    await this.page.context().close();
  }
}

export function launch(executablePath: string): Promise<Browser> {
  // A page that comes from here, and not from the door, is of no network that the browser knows.
  const more = process.env.HERALD_PAGE ? ["--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets"] : [];
  return chromium.launch({ executablePath, args: [...FLAGS, ...more] });
}
