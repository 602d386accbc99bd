// Brings node_modules to what package-lock.json says; runs before `npm test` and `npm run demo`.
// Plain JavaScript with no dependencies: it has to work when nothing is installed yet.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

/** @typedef {{ version?: string, integrity?: string, optional?: boolean, link?: boolean }} LockedPackage */

/**
 * @param {string} file
 * @returns {Record<string, LockedPackage>}
 */
function lockedPackages(file) {
  /** @type {unknown} */
  const lock = JSON.parse(readFileSync(file, "utf8"));
  if (typeof lock !== "object" || lock === null || !("packages" in lock)) return {};
  return /** @type {Record<string, LockedPackage>} */ (lock.packages);
}

/**
 * The first reason why the installed packages are not the locked ones; undefined when they are.
 * npm records what it installed in node_modules/.package-lock.json, in the lockfile's own format.
 *
 * @param {string} root
 * @returns {string | undefined}
 */
export function firstMismatch(root) {
  const installedFile = join(root, "node_modules", ".package-lock.json");
  if (!existsSync(installedFile)) return "node_modules is missing";
  /** @type {Record<string, LockedPackage>} */
  let installed;
  try {
    installed = lockedPackages(installedFile);
  } catch {
    return "node_modules is incomplete";
  }
  const wanted = lockedPackages(join(root, "package-lock.json"));
  for (const [path, locked] of Object.entries(wanted)) {
    if (path === "" || locked.link) continue;
    const name = path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);
    const present = installed[path];
    if (present === undefined) {
      if (locked.optional) continue; // binaries for other platforms are never installed here
      return `${name} is missing`;
    }
    if (present.version !== locked.version) {
      return `${name} is ${present.version ?? "unversioned"}, the lockfile says ${locked.version ?? "unversioned"}`;
    }
    if (present.integrity !== locked.integrity) return `${name} has other contents than the lockfile says`;
    if (!existsSync(join(root, path, "package.json"))) return `the folder of ${name} is missing`;
  }
  const stray = Object.keys(installed).find((path) => wanted[path] === undefined);
  return stray === undefined ? undefined : `${stray.replace(/^node_modules\//, "")} is not in the lockfile`;
}

/** @returns {number} the exit code */
function setUp() {
  const root = dirname(dirname(fileURLToPath(import.meta.url)));
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    console.error(`setup: soracc needs Node 20.19 or newer, this is ${process.versions.node}`);
    return 1;
  }
  const reason = firstMismatch(root);
  if (reason === undefined) {
    console.log("setup: node_modules matches package-lock.json, nothing to install");
    return 0;
  }
  console.log(`setup: ${reason}; running npm ci --ignore-scripts`);
  // Development packages are asked for by name because NODE_ENV=production would leave them out.
  const options = ["ci", "--ignore-scripts", "--include=dev", "--include=optional", "--no-audit", "--no-fund"];
  const npm = process.env["npm_execpath"];
  const viaNode = npm !== undefined && basename(npm) === "npm-cli.js";
  const { status, error } = spawnSync(viaNode ? process.execPath : "npm", viaNode ? [npm, ...options] : options, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (status === 0) return 0;
  console.error(
    error === undefined
      ? "setup: npm ci failed for the reason above; once it is fixed, run: npm ci --ignore-scripts"
      : `setup: npm could not be started (${error.message}); install npm, then run: npm ci --ignore-scripts`,
  );
  return status === null || status === 0 ? 1 : status;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href)
  process.exitCode = setUp();
