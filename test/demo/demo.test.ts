// The whole demo against a stand-in for compiler and training binary: what is asked of them, in which order, and what
// becomes of their answers. The stand-in "samples" by copying training clips of the right colour.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PNG } from "pngjs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { choose } from "../../compiler/demo/choose.ts";
import { demo, type DemoRequest, resultRecord } from "../../compiler/demo/demo.ts";
import { sentenceOf } from "../../compiler/demo/subject.ts";

const STAND_IN = `
const files = require("node:fs");
const { join, dirname } = require("node:path");
const words = process.argv.slice(2);
const valueOf = (name) => words[words.indexOf(name) + 1];
files.appendFileSync(join(dirname(process.argv[1]), "asked.jsonl"), JSON.stringify(words) + "\\n");
if (words[0] === "compile") files.copyFileSync(process.argv[1], valueOf("-o"));
if (words[0] === "train") {
  if (valueOf("--seed") === "13") process.exit(1);
  const run = join(valueOf("--runs"), valueOf("--name"));
  files.mkdirSync(run, { recursive: true });
  files.writeFileSync(join(run, "data"), valueOf("--data"));
  console.log("a line before the answer");
  console.log(JSON.stringify({ run, ended: "finished", step: Number(valueOf("--steps")), loss: 0.25, checkpoint: run }));
}
if (words[0] === "sample") {
  const data = files.readFileSync(join(valueOf("--checkpoint"), "data"), "utf8");
  const clips = files.readFileSync(join(data, "captions.jsonl"), "utf8").trim().split("\\n").map((line) => JSON.parse(line));
  const prompts = files.readFileSync(valueOf("--prompts"), "utf8").trim().split("\\n");
  const output = valueOf("-o");
  files.mkdirSync(output);
  const videos = prompts.map((prompt, index) => {
    const [, colour] = prompt.split(" ");
    const clip = clips.find(({ captions }) => captions[0].includes(colour));
    const file = join(output, index + ".mp4");
    files.copyFileSync(join(data, clip.file), file);
    return { prompt, file };
  });
  console.log(JSON.stringify({ videos }));
}
`;

let root = "";
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "soracc-demo-"));
  mkdirSync(join(root, "bin"));
  writeFileSync(join(root, "bin", "soracc.js"), STAND_IN);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const lines: string[] = [];
const request = (changes: Partial<DemoRequest>): DemoRequest => ({
  ...{ seed: 3, steps: 7, clips: 40, out: join(root, "out"), root },
  say: (line) => void lines.push(line),
  ...changes,
});

test("every stage is run, timed and told, and every sample is measured", async () => {
  const result = await demo(request({}));
  const { heldOut } = choose(3, 40);
  expect(result.stages.map(({ name }) => name)).toEqual(["clips", "compile", "train", "sample", "measure"]);
  expect(result.samples.map(({ subject }) => subject)).toEqual(heldOut);
  expect(result.totals).toMatchObject({ samples: 16, colour: 16, oneObject: 16 });
  expect(result.totals.direction).toBeLessThan(16);
  for (const { direction, subject } of result.samples)
    expect(direction.right).toBe(direction.seen === subject.direction);

  const { folder } = result;
  const sheet = PNG.sync.read(readFileSync(folder.sheet));
  expect([sheet.width, sheet.height]).toEqual([4 + 8 * 100, 4 + 16 * 100]);
  expect(readdirSync(folder.clips)).toHaveLength(41);
  expect(readFileSync(folder.prompts, "utf8")).toBe(heldOut.map((subject) => `${sentenceOf(subject)}\n`).join(""));
  expect(JSON.parse(readFileSync(folder.result, "utf8"))).toEqual(resultRecord(result));

  const told = lines.filter((line) => /^\d\/5 /.test(line));
  expect(told).toHaveLength(5);
  for (const line of told) expect(line).toMatch(/\(\d+ s\)$/);
  expect(told[0]).toMatch(/^1\/5 clips .*16 held out; 16 read back, all measure right/);
  expect(told[2]).toMatch(/^3\/5 train +7 steps, last loss 0.2500/);
});

test("the seed and the number of steps reach training and sampling", () => {
  const asked = (folder: string): string[][] =>
    readFileSync(join(root, folder, "asked.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as string[]);
  expect(asked("bin")[0]).toEqual(expect.arrayContaining(["compile", "--preset", "demo"]));
  const [train, sample] = asked("out");
  expect(train?.join(" ")).toMatch(/^train .*--steps 7 --seed 3 /);
  expect(sample?.join(" ")).toMatch(/^sample .*--weights ema .*--seed 3 /);
});

test("a stage that fails ends the demo", async () => {
  await expect(demo(request({ seed: 13, out: join(root, "fails") }))).rejects.toThrow(/^demo: training failed/);
  expect(existsSync(join(root, "fails", "samples"))).toBe(false);
});
