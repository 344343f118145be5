// A page of Debian's Chromium (or another one) with the client in it, served from an origin of its own.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { chromium, type Page } from "playwright-core";

// Root has no sandbox, and a machine without a network nobody to call.
export const FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-quic", "--disable-background-networking"];

/** The path of a Chromium; undefined where there is none. */
export function found(): string | undefined {
  const names = [process.env.HERALD_CHROMIUM, "chromium", "chromium-browser", "google-chrome"];
  for (const name of names) {
    if (!name) continue;
    try {
      return execFileSync("sh", ["-c", 'command -v "$0"', name], { encoding: "utf8" }).trim();
    } catch {
      continue;
    }
  }
  return undefined;
}

export interface Tab {
  page: Page;
  /** What went wrong in it and nobody caught. */
  errors: string[];
  end(): Promise<void>;
}

/** Opens an empty page that can `import("/herald.min.js")`; `files` are served beside it. */
export async function open(executablePath: string, files: Record<string, string> = {}): Promise<Tab> {
  const types: Record<string, string> = { js: "text/javascript", html: "text/html; charset=utf-8" };
  const served: Record<string, string> = {
    "/": "<!doctype html><title>client</title>",
    "/herald.min.js": readFileSync("dist/herald.min.js", "utf8"),
    ...files,
  };
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? "/", "http://x").pathname;
    const text = served[path];
    response.writeHead(text === undefined ? 404 : 200, { "content-type": types[path.split(".").at(-1) ?? ""] ?? types.html });
    response.end(text);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const browser = await chromium.launch({ executablePath, args: FLAGS });
  const page = await browser.newPage();
  const errors: string[] = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  return {
    page,
    errors,
    end: async () => {
      await browser.close();
      server.closeAllConnections();
      server.close();
    },
  };
}
