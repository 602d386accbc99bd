// Commands are run as a user would type them; what they answer, how they fail, how they are shown.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
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

test("being told to stop is passed on, and the command may finish what it does", async () => {
  const saved = join(folder, "saved");
  const saves = script(
    "saves.cjs",
    `process.on("SIGTERM", () => setTimeout(() => {
      require("node:fs").writeFileSync(${JSON.stringify(saved)}, "state");
      process.exit(130);
    }, 100));
    require("node:fs").writeFileSync(${JSON.stringify(saved)} + ".ready", "");
    setInterval(() => 0, 1000);`,
  );
  const running = runCommand({ doing: "training", script: saves, words: [] });
  await vi.waitUntil(() => existsSync(`${saved}.ready`), { timeout: 20_000 });
  process.emit("SIGTERM", "SIGTERM");
  await expect(running).rejects.toBeInstanceOf(Interrupted);
  expect(readFileSync(saved, "utf8")).toBe("state");
});

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
