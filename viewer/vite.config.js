import { readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { defineConfig } from "vite";

const here = new URL(".", import.meta.url);

/** The licences of everything that is bundled, since the page carries copies of it. */
function licences() {
  const { packages } = JSON.parse(readFileSync(new URL("package-lock.json", here), "utf8"));
  const bundled = Object.entries(packages).filter(([path, facts]) => path && !facts.dev);
  const texts = bundled.map(([path, facts]) => {
    const folder = new URL(`${path}/`, here);
    const file = readdirSync(folder).find((name) => /^licen[cs]e/i.test(name));
    const text = file ? readFileSync(new URL(file, folder), "utf8").trim() : "";
    const name = path.replace(/^.*node_modules\//, "");
    return `${name} ${facts.version}, ${facts.license ?? "see below"}\n\n${text}`;
  });
  return texts.join(`\n\n${"-".repeat(72)}\n\n`) + "\n";
}

/** Keep everything but index.html compressed: a third of the size; the server sends it as it is. */
function compress(folder, files) {
  for (const file of files.filter((name) => name.startsWith("assets/"))) {
    const path = join(folder, file);
    writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 9 }));
    rmSync(path);
  }
}

export default defineConfig({
  base: "./",
  build: {
    outDir: "../src/mrlift/viewer/assets",
    emptyOutDir: true,
    target: "es2022",
    chunkSizeWarningLimit: 1000, // NiiVue with its fonts and colour maps
    // NiiVue imports the codecs of OME-Zarr when it meets such a file; the server sends NIfTI only.
    rollupOptions: { external: [/^numcodecs/] },
  },
  plugins: [
    {
      name: "licences",
      generateBundle() {
        this.emitFile({ type: "asset", fileName: "assets/licences.txt", source: licences() });
      },
    },
    { name: "compress", writeBundle: ({ dir }, bundle) => compress(dir, Object.keys(bundle)) },
  ],
});
