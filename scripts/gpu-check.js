// `npm run gpu:check`: bundles bench/gpu-check.ts, as bin/soracc.js does with the compiler, and runs it.
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import * as esbuild from "esbuild";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const outfile = join(root, "node_modules", ".cache", "soracc", "gpu-check", "gpu-check.mjs");
mkdirSync(dirname(outfile), { recursive: true });
await esbuild.build({
  absWorkingDir: root,
  entryPoints: [join(root, "bench", "gpu-check.ts")],
  outfile,
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node20",
  packages: "external",
  sourcemap: true,
  logLevel: "warning",
});
process.env["SORACC_ROOT"] = root;
process.setSourceMapsEnabled(true);
/** @type {unknown} */
const loaded = await import(pathToFileURL(outfile).href);
const { main } = /** @type {{ main: (words: readonly string[], root: string) => Promise<number> }} */ (loaded);
process.exitCode = await main(process.argv.slice(2), root);
