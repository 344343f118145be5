// Makes the pictures of the docs, small: `node scripts/pictures.mjs FOLDER`, of those that the tests took (HERALD_SHOTS=FOLDER).

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const WIDTHS = { "play-turn-desktop-light": 600, "inspect-desktop-dark": 600, "play-news-phone-dark": 240, "inspect-phone-light": 240 };
const into = fileURLToPath(new URL("../pictures", import.meta.url));
mkdirSync(into, { recursive: true });
const browser = await chromium.launch({ executablePath: process.env.HERALD_CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const page = await browser.newPage();
for (const [name, width] of Object.entries(WIDTHS)) {
  const source = `data:image/png;base64,${readFileSync(`${process.argv[2]}/${name}.png`, "base64")}`;
  const text = await page.evaluate(async ({ source, width }) => {
    const image = new Image();
    image.src = source;
    await image.decode();
    const canvas = new OffscreenCanvas(width, Math.round((image.height * width) / image.width));
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    const blob = await canvas.convertToBlob({ type: "image/webp", quality: 0.8 });
    return Array.from(new Uint8Array(await blob.arrayBuffer()), (byte) => String.fromCharCode(byte)).join("");
  }, { source, width });
  writeFileSync(`${into}/${name}.webp`, Buffer.from(text, "latin1"));
}
await browser.close();
