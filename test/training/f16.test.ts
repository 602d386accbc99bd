// Runs in f16: the scale of the loss finds its place, is told, and comes back from a checkpoint.
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadCheckpoint, saveCheckpoint } from "../../runtime/checkpoint/checkpoint.ts";
import { compileTiny, readLog, start, temporaryFolder, writeClips, type LogLine, type Ran } from "./tiny.ts";

const folder = temporaryFolder();
// A scale that no gradient survives, and one that is tried again after every five steps.
const FIRST = 2 ** 30;
const SETTINGS = [`train.lossScale=${FIRST}`, "train.scaleInterval=5"];

const checkpoint = (run: string, step: number): string =>
  join(folder.path, "runs", run, "checkpoints", `step-${String(step).padStart(6, "0")}.safetensors`);
const train = (binary: string, ...words: readonly string[]): Promise<Ran> =>
  start(join(folder.path, binary), ["train", "--data", "clips", ...words]);
const logOf = (run: string): LogLine[] => readLog(join(folder.path, "runs", run));
const stepsOf = (run: string): LogLine[] => logOf(run).filter(({ event }) => event === "step");

/** A run folder that ends at one checkpoint of another run, as if the machine had gone down after it. */
function cutShort(run: string, from: string, step: number): void {
  mkdirSync(dirname(checkpoint(run, step)), { recursive: true });
  copyFileSync(checkpoint(from, step), checkpoint(run, step));
}

let whole: Ran;
beforeAll(async () => {
  await compileTiny(folder.path, "half", SETTINGS, "f16");
  await compileTiny(folder.path, "single");
  await writeClips(join(folder.path, "clips"));
  whole = await train("half", "--steps", "80", "--name", "whole", "--save-every", "2", "--keep", "99");
  expect(whole.exitCode).toBe(0);
});
afterAll(folder.remove);

describe("a run in f16", () => {
  test("lowers the loss", () => {
    const losses = stepsOf("whole").map(({ loss }) => loss!);
    const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
    expect(losses).toHaveLength(80);
    expect(mean(losses.slice(-15))).toBeLessThan(0.85 * mean(losses.slice(0, 15)));
  });

  test("reports the scale, which falls while steps overflow and is raised again after five that do not", () => {
    const log = logOf("whole");
    let [scale, skipped, finite] = [FIRST, 0, 0];
    for (const { step, gradientNorm, lossScale, skippedSteps } of stepsOf("whole")) {
      const isFinite = typeof gradientNorm === "number"; // the log spells what is not as text
      finite = isFinite ? (finite + 1) % 5 : 0;
      scale = isFinite ? (finite === 0 ? 2 * scale : scale) : scale / 2;
      if (!isFinite) skipped++;
      expect([step, lossScale, skippedSteps]).toEqual([step, scale, skipped]);
    }
    expect(skipped).toBeGreaterThan(3);
    expect(log.filter(({ event }) => event === "skipped")).toHaveLength(skipped);
    expect(log.at(-1)).toMatchObject({ event: "finished", step: 80, skipped });
    expect(log[0]).toMatchObject({ event: "start", precision: "f16" });
    expect(whole.stderr).toMatch(
      /step 1 is skipped: loss [\d.]+, gradient norm \S+; the loss scale is now 536870912\n/,
    );
    expect(whole.stderr).toMatch(new RegExp(`loss scale ${scale}  skipped ${skipped}$`));
  });

  test("changes nothing in a skipped step", () => {
    const [first, second] = [2, 4].map((step) => loadCheckpoint(checkpoint("whole", step)));
    expect(second!.state!.counters).toMatchObject({ skippedSteps: 4, skipped: 4, lossScale: FIRST / 16 });
    for (const name of first!.shapes.keys()) {
      expect(first!.read(name)).toEqual(second!.read(name));
      if (name.startsWith("optimizer.")) expect(first!.read(name).every((value) => value === 0)).toBe(true);
    }
    first!.close();
    second!.close();
  });
});

describe("a continued run in f16", () => {
  test.each([
    ["while steps overflow", 2],
    ["between two changes of the scale", 8],
    ["later", 50],
  ])("is the run that was never stopped, byte for byte: %s", async (_, step) => {
    const run = `from-${step}`;
    cutShort(run, "whole", step);
    const { exitCode } = await train("half", "--name", run, "--resume", "--threads", "1", "--save-every", "2");
    expect(exitCode).toBe(0);
    const facts = ({ step, loss, lossScale, skippedSteps }: LogLine): unknown[] => [
      step,
      loss,
      lossScale,
      skippedSteps,
    ];
    expect(stepsOf(run).map(facts)).toEqual(stepsOf("whole").slice(step).map(facts));
    expect(readFileSync(checkpoint(run, 80)).equals(readFileSync(checkpoint("whole", 80)))).toBe(true);
    const { counters } = loadedState("whole", 8);
    expect(counters["finiteSteps"]).toBeGreaterThan(0); // so that the second case has something to carry over
  });

  test("also when gradients are accumulated: one decision for all small batches", async () => {
    const words = ["--batch", "2", "--accumulate", "3", "--save-every", "3", "--keep", "9"];
    await train("half", "--steps", "9", "--name", "parts", ...words, "--threads", "2");
    cutShort("parts-halves", "parts", 3);
    await train("half", "--name", "parts-halves", "--resume", "--threads", "1");
    expect(readFileSync(checkpoint("parts-halves", 9)).equals(readFileSync(checkpoint("parts", 9)))).toBe(true);
    expect(loadedState("parts", 3).counters).toMatchObject({ skippedSteps: 3, lossScale: FIRST / 8 });
  });
});

const loadedState = (run: string, step: number) => {
  const loaded = loadCheckpoint(checkpoint(run, step));
  loaded.close();
  return loaded.state!;
};

describe("another precision", () => {
  test("a float32 run can go on in f16, from the first scale", async () => {
    await train("single", "--steps", "3", "--name", "single");
    const before = loadedState("single", 3);
    expect(Object.keys(before.counters)).not.toContain("lossScale");
    expect(before.recipe).not.toHaveProperty("lossScale");
    const { exitCode, stderr } = await train("half", "--name", "single", "--resume", "--steps", "4");
    expect(exitCode).toBe(0);
    expect(stderr).toContain('another recipe than the checkpoint\'s: precision "f32" -> "f16", lossScale none -> ');
    expect(stepsOf("single").at(-1)).toMatchObject({ step: 4, lossScale: FIRST / 2, skippedSteps: 1 });
  });

  test("and back", async () => {
    cutShort("back", "whole", 50);
    const { exitCode, stderr } = await train("single", "--name", "back", "--resume", "--steps", "51");
    expect(exitCode).toBe(0);
    expect(stderr).toContain('another recipe than the checkpoint\'s: precision "f16" -> "f32"\n');
    expect(stepsOf("back").at(-1)).not.toHaveProperty("lossScale");
    expect(loadedState("back", 51).counters).not.toHaveProperty("lossScale");
  });
});

test("a loss that stays infinite ends a run: no scale helps", async () => {
  const file = loadCheckpoint(checkpoint("whole", 80));
  const tensors = [...file.shapes].map(([name, shape]) => {
    const data = file.read(name);
    return { name, shape, data: name.endsWith("mlp.fc1.weight") ? data.fill(NaN) : data };
  });
  saveCheckpoint(join(folder.path, "broken.safetensors"), { tensors, state: file.state! });
  file.close();
  const { exitCode, stderr } = await train("half", "--steps", "50", "--name", "nan", "--weights", "broken.safetensors");
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(
    /step 1 is skipped: loss NaN, gradient norm NaN; the loss scale is now \d+; its clips: .*\.mp4/,
  );
  expect(stderr).toContain("train: 20 steps in a row had no finite loss or gradient, the last was step 20");
});
