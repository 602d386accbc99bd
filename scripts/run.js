// `node scripts/run.js FILE.ts WORDS…`: bundles a program of this repository, as bin/soracc.js does with the compiler, and
// runs its main(words, root), which resolves to the exit code.
import { mkdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import * as esbuild from "esbuild";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [file = "", ...words] = process.argv.slice(2);
const outfile = join(root, "node_modules", ".cache", "soracc", "run", `${basename(file, ".ts")}.mjs`);
mkdirSync(dirname(outfile), { recursive: true });
await esbuild.build({
  absWorkingDir: root,
  entryPoints: [join(root, file)],
  outfile,
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node20",
  packages: "external",
  alias: { soracc: join(root, "compiler", "language", "index.ts") },
  sourcemap: true,
  logLevel: "warning",
});
process.env["SORACC_ROOT"] = root;
process.setSourceMapsEnabled(true);
/** @type {unknown} */
const loaded = await import(pathToFileURL(outfile).href);
const { main } = /** @type {{ main: (words: readonly string[], root: string) => Promise<number> }} */ (loaded);
process.exitCode = await main(words, root);
