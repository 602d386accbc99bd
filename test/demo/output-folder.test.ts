// The demo writes into a folder of its own and into no other.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { claimOutputFolder } from "../../compiler/demo/output-folder.ts";

let root = "";
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "soracc-demo-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

test("a new folder is made, an empty one is taken", () => {
  const made = claimOutputFolder(join(root, "a", "b"));
  expect(existsSync(made.path)).toBe(true);
  mkdirSync(join(root, "empty"));
  expect(claimOutputFolder(join(root, "empty")).path).toBe(join(root, "empty"));
});

test("a second run replaces what the first one made, and nothing else", () => {
  const first = claimOutputFolder(join(root, "out"));
  mkdirSync(join(first.runs, "demo"), { recursive: true });
  writeFileSync(first.result, "{}");
  writeFileSync(join(first.path, "notes.txt"), "mine");
  claimOutputFolder(first.path);
  expect([existsSync(first.runs), existsSync(first.result)]).toEqual([false, false]);
  expect(readFileSync(join(first.path, "notes.txt"), "utf8")).toBe("mine");
});

test("a folder of somebody else is refused and left as it is", () => {
  const clips = join(root, "clips");
  mkdirSync(clips);
  writeFileSync(join(clips, "holiday.mp4"), "");
  expect(() => claimOutputFolder(root)).toThrow(
    /soracc demo did not make it\n {2}fix: choose another folder with --out/,
  );
  expect(existsSync(join(clips, "holiday.mp4"))).toBe(true);
  expect(() => claimOutputFolder(join(clips, "holiday.mp4"))).toThrow(/did not make it/);
});

test("a folder that cannot be made says why", () => {
  writeFileSync(join(root, "file"), "");
  expect(() => claimOutputFolder(join(root, "file", "out"))).toThrow(/cannot be written to \(ENOTDIR\)/);
});
