// Commands are run as a user would type them; what they answer, how they fail, how they are shown.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Interrupted, runCommand, shellText } from "../../compiler/demo/child-command.ts";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "soracc-child-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function script(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

test("the answer is what the command printed", async () => {
  const echo = script("echo.cjs", "console.log(JSON.stringify(process.argv.slice(2)))");
  const words = ["train", "--data", "a b"];
  expect(JSON.parse(await runCommand({ doing: "training", script: echo, words }))).toEqual(words);
});

test("a command that fails ends the demo with its name and how to type it", async () => {
  const fails = script("fails.cjs", "process.exitCode = 3");
  await expect(runCommand({ doing: "training", script: fails, words: ["train"] })).rejects.toThrow(
    /^demo: training failed, for the reason given above\n {2}the command was: \S*fails.cjs train\n {2}fix: /,
  );
});

test.each(["process.exitCode = 130", "process.kill(process.pid, 'SIGINT'); setInterval(() => 0, 1000)"])(
  "a command that was interrupted is no failure: %s",
  async (text) => {
    const stopped = script("stopped.cjs", text);
    await expect(runCommand({ doing: "training", script: stopped, words: [] })).rejects.toBeInstanceOf(Interrupted);
  },
);

test("commands are shown so that they can be typed", () => {
  const here = (name: string): string => join(process.cwd(), name);
  expect(shellText({ script: here("bin/soracc.js"), words: ["compile", "m.sora.ts"] })).toBe(
    "npx soracc compile m.sora.ts",
  );
  expect(shellText({ script: here("demo-out/dit"), words: ["train"] })).toBe("demo-out/dit train");
  expect(shellText({ script: here("dit"), words: ["sample", "--prompt", "it's red"] })).toBe(
    String.raw`./dit sample --prompt 'it'\''s red'`,
  );
});
