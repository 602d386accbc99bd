// `npm run gpu:pack`: dist/gpu-check.tar.xz, a folder for a machine that has a GPU, an NVIDIA driver and nothing else:
// this repository, the packages it runs on, and Node itself. There:
//     tar -xf gpu-check.tar.xz && cd gpu-check && ./node scripts/run.js bench/gpu-check.ts --out results
// It runs on machines of the same kind as this one (processor family, C library).
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const MOST_BYTES = 60e6;
const FOLDERS = ["bench", "bin", "compiler", "contract", "models", "runtime", "scripts", "templates", "test", "types"];
const FILES = ["package.json", "package-lock.json", "LICENSE", "tsconfig.json", "vitest.config.ts"];
const TOOLS = ["vitest", "fast-check"]; // what the tests of kernels take beside the packages of an installation

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/**
 * @param {string} command
 * @param {readonly string[]} words
 * @returns {string}
 */
function ask(command, words) {
  const { status, stdout, stderr, error } = spawnSync(command, words, {
    cwd: root,
    encoding: "utf8",
    env: { ...process.env, XZ_OPT: "-6 -T0" },
    maxBuffer: 2 ** 26,
  });
  if (status === 0) return stdout;
  console.error(
    `gpu:pack: ${command} ${error === undefined ? `fails: ${stderr.trim()}` : "cannot be started; install it"}`,
  );
  process.exit(1);
}

/** Files of the repository, also those that are not committed yet; none that git ignores or that were removed. */
function ownFiles() {
  const listed = ask("git", [
    "ls-files",
    "-z",
    "--cached",
    "--others",
    "--exclude-standard",
    "--",
    ...FOLDERS,
    ...FILES,
  ]);
  return [...new Set(listed.split("\0"))].filter((name) => name !== "" && existsSync(join(root, name)));
}

/** Folders of the packages of an installation and of TOOLS, with what they need, as far as they are here. */
function packageFolders() {
  /** @typedef {Record<string, string>} Names */
  /** @typedef {{ dependencies?: Names, optionalDependencies?: Names, peerDependencies?: Names }} Entry */
  /** @type {unknown} */
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
  const { packages } = /** @type {{ packages: Record<string, Entry> }} */ (lock);
  /** @type {Set<string>} */
  const needed = new Set();
  /** A package is looked for in the folder of the one that needs it, and then further up, as Node does.
   * @param {string} from
   * @param {string} name
   * @returns {void} */
  const add = (from, name) => {
    const path = `${from === "" ? "" : `${from}/`}node_modules/${name}`;
    if (!(path in packages)) {
      if (from !== "") add(from.slice(0, from.lastIndexOf("node_modules/")).replace(/\/$/, ""), name);
      return;
    }
    if (needed.has(path) || !existsSync(join(root, path))) return;
    needed.add(path);
    const { dependencies, optionalDependencies } = packages[path] ?? {};
    for (const next of Object.keys({ ...dependencies, ...optionalDependencies })) add(path, next);
  };
  for (const name of [...Object.keys(packages[""]?.dependencies ?? {}), ...TOOLS]) add("", name);
  return [...needed];
}

const staging = mkdtempSync(join(tmpdir(), "soracc-gpu-"));
try {
  for (const name of [...ownFiles(), ...packageFolders()]) {
    cpSync(join(root, name), join(staging, "gpu-check", name), { recursive: true });
  }
  cpSync(process.execPath, join(staging, "gpu-check", "node"));
  const archive = join(root, "dist", "gpu-check.tar.xz");
  mkdirSync(dirname(archive), { recursive: true });
  ask("tar", ["-cJf", archive, "-C", staging, "gpu-check"]);
  const { size } = statSync(archive);
  console.log(`${archive}: ${(size / 1e6).toFixed(1)} MB`);
  if (size > MOST_BYTES) {
    console.error(`gpu:pack: that is more than ${MOST_BYTES / 1e6} MB`);
    process.exitCode = 1;
  }
} finally {
  rmSync(staging, { recursive: true, force: true });
}
