import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const client = (name) => fileURLToPath(new URL(`../../../shared/client/src/${name}.ts`, import.meta.url));

export default defineConfig({
  // Behind a proxy that cuts a path off, too.
  base: "./",
  resolve: { alias: { "@herald/client/past": client("past"), "@herald/client": client("index") } },
  build: {
    target: "es2022",
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    outDir: "dist",
    emptyOutDir: true,
    // Everything is a file of its own: the page's policy allows nothing within it.
    assetsInlineLimit: 0,
    modulePreload: false,
    cssCodeSplit: false,
    // Names that stay: see src/page.rs.
    rollupOptions: {
      output: { entryFileNames: "page/herald.js", chunkFileNames: "page/[name].js", assetFileNames: "page/herald[extname]" },
    },
  },
});
