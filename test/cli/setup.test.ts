import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { firstMismatch } from "../../scripts/setup.js";

type Packages = Record<string, { version: string; integrity?: string; optional?: boolean }>;

let root = "";

function lock(packages: Packages): void {
  writeFileSync(
    join(root, "package-lock.json"),
    JSON.stringify({ packages: { "": { version: "0.1.0" }, ...packages } }),
  );
}

function install(packages: Packages): void {
  for (const path of Object.keys(packages)) {
    mkdirSync(join(root, path), { recursive: true });
    writeFileSync(join(root, path, "package.json"), "{}");
  }
  mkdirSync(join(root, "node_modules"), { recursive: true });
  writeFileSync(join(root, "node_modules", ".package-lock.json"), JSON.stringify({ packages }));
}

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "soracc-setup-"));
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

const zod = { "node_modules/zod": { version: "4.0.0", integrity: "sha512-a" } };
const nested = { "node_modules/a/node_modules/@b/c": { version: "1.0.0", integrity: "sha512-c" } };
const otherPlatform = { "node_modules/@esbuild/other": { version: "1.0.0", integrity: "sha512-b", optional: true } };

test("a fresh clone has no node_modules", () => {
  lock(zod);
  expect(firstMismatch(root)).toBe("node_modules is missing");
});

test("what the lockfile says is installed, binaries for other platforms aside", () => {
  lock({ ...zod, ...nested, ...otherPlatform });
  install({ ...zod, ...nested });
  expect(firstMismatch(root)).toBeUndefined();
});

test("an interrupted installation is not taken for a whole one", () => {
  lock(zod);
  install(zod);
  writeFileSync(join(root, "node_modules", ".package-lock.json"), '{ "packages": {');
  expect(firstMismatch(root)).toBe("node_modules is incomplete");
});

test.each<[string, Packages, string]>([
  ["another version", { "node_modules/zod": { version: "3.9.0" } }, "zod is 3.9.0, the lockfile says 4.0.0"],
  [
    "other contents",
    { "node_modules/zod": { version: "4.0.0", integrity: "sha512-x" } },
    "zod has other contents than the lockfile says",
  ],
  ["a missing package", {}, "zod is missing"],
  ["a package too many", { ...zod, "node_modules/left": { version: "1.0.0" } }, "left is not in the lockfile"],
])("names %s", (_what, installed, reason) => {
  lock(zod);
  install(installed);
  expect(firstMismatch(root)).toBe(reason);
});

test("names a nested package by its own name, and one whose folder was deleted", () => {
  lock(nested);
  install(nested);
  rmSync(join(root, "node_modules", "a"), { recursive: true });
  expect(firstMismatch(root)).toBe("the folder of @b/c is missing");
});
