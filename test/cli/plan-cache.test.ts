// Plans of earlier compilations: found again, and only where they are the same.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { repository, start, temporaryFolder, TINY } from "../training/tiny.ts";

const folder = temporaryFolder();
afterAll(folder.remove);

const at = (...parts: readonly string[]): string => join(folder.path, ...parts);

mkdirSync(at("parts"));
copyFileSync(join(repository, "models", "dit.sora.ts"), at("dit.sora.ts"));
copyFileSync(join(repository, "models", "parts", "dit-block.ts"), at("parts", "dit-block.ts"));

async function compile(output: string, ...choices: readonly string[]): Promise<boolean> {
  const words = ["compile", at("dit.sora.ts"), "-o", at(output), "--json", ...choices];
  const launcher = [join(repository, "bin", "soracc.js"), ...words];
  const { stdout, stderr, exitCode } = await start(process.execPath, launcher, at(), { SORACC_CACHE: at("cache") });
  expect(stderr).toBe("");
  expect(exitCode).toBe(0);
  return (JSON.parse(stdout) as { kept: boolean }).kept;
}

const tiny = TINY.flatMap((setting) => ["--set", setting]);

test("a second compilation takes the plan of the first, and the binary is the same", async () => {
  expect(await compile("first", ...tiny)).toBe(false);
  expect(await compile("second", ...tiny)).toBe(true);
  expect(readFileSync(at("second"), "utf8")).toBe(readFileSync(at("first"), "utf8"));
});

test("other choices, another text of the model or of what it imports make another plan", async () => {
  expect(await compile("other", ...tiny, "--precision", "bf16")).toBe(false);
  expect(await compile("other", ...tiny, "--trace", at("trace"))).toBe(false);
  const part = at("parts", "dit-block.ts");
  writeFileSync(part, readFileSync(part, "utf8").replace("mlpRatio *", "2 * mlpRatio *"));
  expect(await compile("other", ...tiny)).toBe(false);
  expect(await compile("other", ...tiny)).toBe(true);
});

test.each(["void Date.now();", "void process.env.HOME;", 'import { cpus } from "node:os";\ncpus();'])(
  "a model that reads more than its own text is made anew: %s",
  async (lines) => {
    const own = readFileSync(join(repository, "models", "dit.sora.ts"), "utf8");
    writeFileSync(at("dit.sora.ts"), `${own}\n${lines}\n`);
    expect(await compile("open", ...tiny)).toBe(false);
    expect(await compile("open", ...tiny)).toBe(false);
  },
);
