#!/usr/bin/env node
// The launcher: turns the TypeScript of this package into JavaScript once, then starts it. There is no build step.
//
// What the started code can count on:
//   SORACC_ROOT       the package root, where templates/ and models/ are (import.meta.url points into the cache)
//   SORACC_LANGUAGE   file URL of the module behind `import … from "soracc"`. It shares its chunks with the compiler,
//                     so a model that imports this URL builds nodes in the compiler's own intern table.
//   main(commandLine) exported by compiler/cli.ts, gets the arguments after `soracc`, resolves to the exit code
// SORACC_DEBUG=1 adds stacks, with TypeScript positions, to whatever fails here.
//
//   SORACC_BUILD      a name of this state of the compiler and its templates, for what it made and kept
// A bundle is named by the path, size and modification time of every source file, so a warm start reads no source.
import { createHash, randomBytes } from "node:crypto";
import * as files from "node:fs";
import nodeModule from "node:module";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = dirname(dirname(files.realpathSync(fileURLToPath(import.meta.url))));
const sourceFolders = ["compiler", "contract", "runtime", "templates"];
// Bundled are packages of many small files, which take longer to find than to run: chevrotain and zod. Packages that are
// native, or older than import, stay where they are.
const packages = ["cli-progress", "commander", "esbuild", "gifenc", "handlebars", "koffi", "pino", "pngjs"];
const debug = process.env["SORACC_DEBUG"] === "1";

/** Something the user can put right: printed without a stack. */
class LaunchError extends Error {}

/** @param {unknown} cause */
const messageOf = (cause) => (cause instanceof Error ? cause.message : String(cause));

function checkPlatform() {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    throw new LaunchError(
      `Node 20.19 or newer is needed, this is ${process.versions.node}\n  fix: install a newer Node from https://nodejs.org`,
    );
  }
  if (process.platform === "win32") {
    throw new LaunchError(
      "Windows is not supported natively\n  fix: run soracc inside WSL (the Windows Subsystem for Linux): wsl --install",
    );
  }
}

/** The node_modules folders that Node would search for a file in the package root, nearest first. */
function moduleFolders() {
  const found = [];
  for (let folder = root; ; folder = dirname(folder)) {
    const candidate = join(folder, "node_modules");
    if (!folder.endsWith("node_modules") && files.existsSync(candidate)) found.push(candidate);
    if (dirname(folder) === folder) return found;
  }
}

/** @param {readonly string[]} folders */
function checkInstalled(folders) {
  if (folders.some((folder) => files.existsSync(join(folder, "esbuild", "package.json")))) return;
  throw new LaunchError(
    `the packages soracc needs are not installed\n  fix: cd ${root} && npm ci --ignore-scripts\n       (npm test and npm run demo do this by themselves)`,
  );
}

/** Hash of what `stat` knows about the sources; contents are not read. */
function fingerprint() {
  const hash = createHash("sha256");
  const version = files.readFileSync(join(root, "package.json"));
  hash.update(`${root}\n${process.versions.node}\n`).update(version);
  hash.update(describe(join(root, "bin", "soracc.js")));
  const pending = sourceFolders.map((folder) => join(root, folder));
  for (let folder = pending.pop(); folder !== undefined; folder = pending.pop()) {
    if (!files.existsSync(folder)) continue;
    const entries = files.readdirSync(folder, { withFileTypes: true });
    entries.sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const entry of entries) {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) pending.push(path);
      else hash.update(describe(path));
    }
  }
  return hash.digest("hex").slice(0, 20);
}

/** @param {string} path */
function describe(path) {
  const { size, mtimeMs } = files.statSync(path);
  return `${path} ${String(size)} ${String(mtimeMs)}\n`;
}

/**
 * The folder that holds the bundles: inside node_modules, or in the user's cache when that is read-only (a package
 * installed by another user).
 *
 * @param {readonly string[]} folders
 */
function bundleFolder(folders) {
  const own = join(root, "node_modules", ".cache", "soracc");
  try {
    files.mkdirSync(own, { recursive: true });
    files.accessSync(own, files.constants.W_OK);
    return own;
  } catch {
    const configured = process.env["XDG_CACHE_HOME"];
    const cache = configured === undefined || configured === "" ? join(homedir(), ".cache") : configured;
    const place = createHash("sha256").update(root).digest("hex").slice(0, 12);
    let folder = join(cache, "soracc", "launcher", place);
    // Out there Node would not find our packages. Nested folders, each with a link to one real node_modules, give the
    // search the same order it has in the package root.
    for (const target of [...folders].reverse()) {
      folder = join(folder, "in");
      files.mkdirSync(folder, { recursive: true });
      linkOnce(target, join(folder, "node_modules"));
    }
    return folder;
  }
}

/**
 * @param {string} target
 * @param {string} link
 */
function linkOnce(target, link) {
  try {
    if (files.readlinkSync(link) === target) return;
    files.unlinkSync(link);
  } catch {
    // no link yet
  }
  try {
    files.symlinkSync(target, link, "dir");
  } catch (cause) {
    if (!files.existsSync(link)) throw cause; // otherwise another process made it just now
  }
}

/**
 * Bundles into a private folder and renames it into place: whoever comes second finds a complete bundle and drops its own.
 *
 * @param {string} folder
 * @param {string} name
 */
async function bundle(folder, name) {
  const entry = join(root, "compiler", "cli.ts");
  if (!files.existsSync(entry)) {
    throw new LaunchError(`${entry} is missing\n  fix: this copy of soracc is incomplete, install it again`);
  }
  const language = join(root, "compiler", "language", "index.ts");
  const esbuild = await import("esbuild");
  const building = join(folder, `building-${String(process.pid)}-${randomBytes(4).toString("hex")}`);
  try {
    await esbuild.build({
      absWorkingDir: root,
      entryPoints: { cli: entry, ...(files.existsSync(language) ? { language } : {}) },
      outdir: building,
      outExtension: { ".js": ".mjs" },
      chunkNames: "chunks/[name]-[hash]",
      bundle: true,
      splitting: true, // `soracc --help` loads the commands' names only, the rest comes with `await import(…)`
      format: "esm",
      platform: "node",
      target: "node20",
      external: packages, // those that are not bundled
      alias: { soracc: language },
      sourcemap: true,
      sourcesContent: false,
      keepNames: true,
      logLevel: "silent",
    });
    files.renameSync(building, join(folder, name));
  } catch (cause) {
    files.rmSync(building, { recursive: true, force: true });
    if (files.existsSync(join(folder, name, "cli.mjs"))) return;
    if (cause instanceof Error && "errors" in cause) {
      const failure = /** @type {import("esbuild").BuildFailure} */ (cause);
      const messages = await esbuild.formatMessages(failure.errors, { kind: "error", color: false });
      throw new LaunchError(`soracc's own sources do not build\n${messages.join("")}`);
    }
    throw cause;
  }
  prune(folder, name);
}

/**
 * Drops bundles of older sources. A running command still loads chunks of its own bundle, so the recent ones stay.
 *
 * @param {string} folder
 * @param {string} current
 */
function prune(folder, current) {
  const hour = 3_600_000;
  const bundles = files
    .readdirSync(folder)
    .filter((name) => name !== current && /^(?:[0-9a-f]{20}|building-.*)$/.test(name))
    .map((name) => ({ path: join(folder, name), lastStart: lastStart(join(folder, name)) }))
    .sort((a, b) => b.lastStart - a.lastStart);
  for (const { path, lastStart } of bundles.slice(4)) {
    if (Date.now() - lastStart < hour) continue;
    try {
      files.rmSync(path, { recursive: true, force: true });
    } catch {
      // another process is removing it, or owns it: a leftover costs disk, not correctness
    }
  }
}

/** @param {string} path */
function lastStart(path) {
  return files.statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

async function launch() {
  checkPlatform();
  const folders = moduleFolders();
  checkInstalled(folders);
  const folder = bundleFolder(folders);
  const name = fingerprint();
  const ready = join(folder, name);
  if (files.existsSync(join(ready, "cli.mjs"))) {
    try {
      files.utimesSync(ready, new Date(), new Date()); // marks it as in use, see prune
    } catch {
      // a shared cache owned by someone else: it is theirs to prune
    }
  } else {
    if (process.stderr.isTTY) process.stderr.write("soracc: preparing (first start of this version)\n");
    await bundle(folder, name);
  }
  process.env["SORACC_ROOT"] = root;
  process.env["SORACC_BUILD"] = name;
  process.env["SORACC_LANGUAGE"] = pathToFileURL(join(ready, "language.mjs")).href;
  if (debug) process.setSourceMapsEnabled(true);
  // Node 22 and newer can keep compiled code next to the bundle.
  const { enableCompileCache } = /** @type {{ enableCompileCache?: (folder: string) => void }} */ (nodeModule);
  enableCompileCache?.(join(folder, "code"));
  /** @type {unknown} */
  const loaded = await import(pathToFileURL(join(ready, "cli.mjs")).href);
  const { main } = /** @type {{ main?: (commandLine: readonly string[]) => Promise<number> }} */ (loaded);
  if (main === undefined) throw new Error("compiler/cli.ts exports no main");
  process.exitCode = await main(process.argv.slice(2));
}

try {
  await launch();
} catch (cause) {
  if (cause instanceof LaunchError) {
    process.stderr.write(`soracc: ${cause.message}\n`);
  } else {
    process.stderr.write(
      `soracc: compiler bug: ${messageOf(cause)}\n  This should have been a proper message. Please report it with the command you ran and the output of SORACC_DEBUG=1.\n`,
    );
  }
  if (debug && cause instanceof Error) process.stderr.write(`${cause.stack ?? ""}\n`);
  process.exitCode = 1;
}
