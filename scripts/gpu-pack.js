// `npm run gpu:pack`: dist/gpu-check.tar.xz, a folder for a machine that has a GPU, an NVIDIA driver and nothing else:
// this repository, the packages it runs on, and Node itself. There:
//     tar -xf gpu-check.tar.xz && cd gpu-check && ./node scripts/gpu-check.js --out results
// It runs on machines of the same kind as this one (processor family, C library).
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const MOST_BYTES = 60e6;
const FOLDERS = ["bench", "bin", "compiler", "contract", "models", "runtime", "scripts", "templates", "test/fixtures"];
const FILES = ["package.json", "package-lock.json", "LICENSE"];

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

/** Folders of the packages that an installation for users has. */
function packageFolders() {
  /** @type {unknown} */
  const lock = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
  const { packages } = /** @type {{ packages: Record<string, { dev?: boolean }> }} */ (lock);
  return Object.entries(packages).flatMap(([path, { dev }]) =>
    path === "" || dev === true || !existsSync(join(root, path)) ? [] : [path],
  );
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
