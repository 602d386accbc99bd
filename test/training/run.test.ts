// A run from a folder of clips to a checkpoint and videos, and every way it can be stopped and continued.
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { writeSafetensors } from "../../contract/safetensors.ts";
import { loadCheckpoint, saveCheckpoint } from "../../runtime/checkpoint/checkpoint.ts";
import { probe } from "../../runtime/data/ffmpeg.ts";
import { findVideoTools } from "../../runtime/data/ffmpeg-find.ts";
import { compileTiny, lossesOf, readLog, start, temporaryFolder, writeClips, type Ran } from "./tiny.ts";

const folder = temporaryFolder();
let binary = "";

const checkpoint = (run: string, step: number): string =>
  join(folder.path, "runs", run, "checkpoints", `step-${String(step).padStart(6, "0")}.safetensors`);

const train = (...words: readonly string[]): Promise<Ran> => start(binary, ["train", "--data", "clips", ...words]);

/** A run folder that ends at one checkpoint of another run, as if the machine had gone down after it. */
function cutShort(run: string, from: string, step: number): void {
  mkdirSync(dirname(checkpoint(run, step)), { recursive: true });
  copyFileSync(checkpoint(from, step), checkpoint(run, step));
}

beforeAll(async () => {
  binary = await compileTiny(folder.path);
  await writeClips(join(folder.path, "clips"));
  const { exitCode, stderr } = await train("--steps", "60", "--name", "whole", "--save-every", "20", "--keep", "9");
  expect(stderr).toContain("text: built-in hashed n-grams, 32 wide");
  expect(exitCode).toBe(0);
});
afterAll(folder.remove);

describe("a whole run", () => {
  test("the loss falls", () => {
    const losses = [...lossesOf(join(folder.path, "runs", "whole")).values()];
    const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
    expect(losses).toHaveLength(60);
    expect(mean(losses.slice(-15))).toBeLessThan(0.85 * mean(losses.slice(0, 15)));
  });

  test("its record begins with what was run and ends with how", () => {
    const log = readLog(join(folder.path, "runs", "whole"));
    expect(log[0]).toMatchObject({ event: "start", model: "dit", steps: 60, seed: 0, batch: 4, samples: 8 });
    expect(log.at(-1)).toMatchObject({ event: "finished", step: 60, skipped: 0 });
    expect(log.filter(({ event }) => event === "checkpoint").map(({ step }) => step)).toEqual([20, 40, 60]);
  });

  test("the averaged weights differ from the plain ones", () => {
    const file = loadCheckpoint(checkpoint("whole", 60));
    const name = "final_layer.linear.weight";
    expect(file.read(`ema.${name}`)).not.toEqual(file.read(`model.${name}`));
    file.close();
  });

  test("another seed gives another run", async () => {
    await train("--steps", "2", "--name", "seeded", "--seed", "1");
    expect(lossesOf(join(folder.path, "runs", "seeded")).get(1)).not.toBe(
      lossesOf(join(folder.path, "runs", "whole")).get(1),
    );
  });

  test("is not overwritten, and says so when it is finished", async () => {
    const again = await train("--steps", "60", "--name", "whole");
    expect(again.exitCode).toBe(1);
    expect(again.stderr).toContain("run: there is already a run in runs/whole");
    const resumed = await train("--name", "whole", "--resume");
    expect(resumed.exitCode).toBe(0);
    expect(resumed.stdout).toContain("the run whole is finished: all 60 of its steps are done");
  });
});

describe("a continued run", () => {
  test("has the losses and the parameters of one that was never stopped, whatever the threads", async () => {
    cutShort("halves", "whole", 20);
    const { exitCode } = await train("--name", "halves", "--resume", "--threads", "1", "--save-every", "20");
    expect(exitCode).toBe(0);
    const whole = lossesOf(join(folder.path, "runs", "whole"));
    const halves = lossesOf(join(folder.path, "runs", "halves"));
    expect([...halves]).toEqual([...whole].slice(20));
    expect(readFileSync(checkpoint("halves", 60)).equals(readFileSync(checkpoint("whole", 60)))).toBe(true);
  });

  test("also when gradients are accumulated", async () => {
    const words = ["--batch", "2", "--accumulate", "3", "--save-every", "2", "--keep", "9"];
    await train("--steps", "5", "--name", "parts", ...words, "--threads", "2");
    cutShort("parts-halves", "parts", 2);
    const { exitCode } = await train("--name", "parts-halves", "--resume", "--threads", "1");
    expect(exitCode).toBe(0);
    expect(readFileSync(checkpoint("parts-halves", 5)).equals(readFileSync(checkpoint("parts", 5)))).toBe(true);
  });

  test("can be made longer, not shorter", async () => {
    cutShort("longer", "whole", 40);
    const longer = await train("--name", "longer", "--resume", "--steps", "62");
    expect(longer.exitCode).toBe(0);
    expect(longer.stderr).toContain("now ends at step 62; it was laid out for 60");
    const shorter = await train("--name", "longer", "--resume", "--steps", "10");
    expect(shorter.exitCode).toBe(1);
    expect(shorter.stderr).toContain("resume: 10 steps are asked for, and the run has done 62");
  });
});

describe("a run that is stopped", () => {
  test("by Ctrl-C saves, says how to go on, and goes on", async () => {
    const running = start(binary, ["train", "--data", "clips", "--name", "stopped", "--steps", "1000000"]);
    const log = join(folder.path, "runs", "stopped", "log.jsonl");
    while (!existsSync(log) || !readFileSync(log, "utf8").includes('"step":3')) await sleep(20);
    running.kill("SIGINT");
    const { exitCode, stderr } = await running;
    expect(exitCode).toBe(130);
    expect(stderr).toContain("continue with: ./tiny train --data clips --name stopped --resume");
    const last = readLog(dirname(log)).at(-1);
    expect(last).toMatchObject({ event: "interrupted" });
    expect(existsSync(checkpoint("stopped", last?.step ?? -1))).toBe(true);
    const going = await train("--name", "stopped", "--resume", "--steps", String((last?.step ?? 0) + 1));
    expect(going.exitCode).toBe(0);
  });

  test("by a full disk fails and keeps the checkpoint it had", async () => {
    cutShort("full", "whole", 40);
    const before = readFileSync(checkpoint("full", 40));
    const words = ["train", "--data", "clips", "--name", "full", "--resume"].join(" ");
    // A limit on the size of files stands in for a disk without room.
    const { exitCode, stderr } = await start("/bin/bash", ["-c", `ulimit -f 200; exec ./tiny ${words}`], folder.path);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("checkpoint: the disk is full");
    expect(stderr).not.toMatch(/^\s+at /m);
    expect(readdirSync(dirname(checkpoint("full", 40)))).toEqual(["step-000040.safetensors"]);
    expect(readFileSync(checkpoint("full", 40)).equals(before)).toBe(true);
  });

  test("by a loss that stays infinite names steps and clips", async () => {
    const whole = loadCheckpoint(checkpoint("whole", 60));
    const tensors = [...whole.shapes].map(([name, shape]) => {
      const data = whole.read(name);
      return { name, shape, data: name.endsWith("mlp.fc1.weight") ? data.fill(NaN) : data };
    });
    saveCheckpoint(join(folder.path, "broken.safetensors"), { tensors, state: whole.state! });
    whole.close();
    const { exitCode, stderr } = await train("--steps", "50", "--name", "nan", "--weights", "broken.safetensors");
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/step 1 is skipped: loss NaN, gradient norm NaN; its clips: .*\.mp4/);
    expect(stderr).toContain("train: 20 steps in a row had no finite loss or gradient, the last was step 20");
  });
});

describe("sampling", () => {
  const sample = (...words: readonly string[]): Promise<Ran> => start(binary, ["sample", ...words]);

  test("makes a video of the size of the training clips", async () => {
    const { exitCode, stderr } = await sample(
      "--checkpoint",
      "runs/whole",
      "--prompt",
      "a red square",
      "-o",
      "red.mp4",
    );
    expect(exitCode).toBe(0);
    expect(stderr).toContain("averaged weights (EMA) of step 60");
    const facts = await probe(join(folder.path, "red.mp4"), findVideoTools());
    expect(facts).toMatchObject({ width: 16, height: 16, frames: 4, framesPerSecond: 8 });
  });

  test("is decided by its seed, and does not overwrite", async () => {
    const same = ["--checkpoint", "runs/whole", "--prompt", "a red square", "--frames", "2"];
    await sample(...same, "-o", "a.gif", "--seed", "5");
    await sample(...same, "-o", "b.gif", "--seed", "5", "--threads", "1");
    await sample(...same, "-o", "c.gif", "--seed", "6");
    const [a, b, c] = ["a", "b", "c"].map((name) => readFileSync(join(folder.path, `${name}.gif`)));
    expect(a?.equals(b!)).toBe(true);
    expect(a?.equals(c!)).toBe(false);
    const again = await sample(...same, "-o", "a.gif");
    expect(again.exitCode).toBe(1);
    expect(again.stderr).toContain("output: a.gif exists");
  });

  test("takes published weights, which know no size", async () => {
    const whole = loadCheckpoint(checkpoint("whole", 60));
    const tensors = [...whole.shapes].flatMap(([name, shape]) =>
      name.startsWith("model.")
        ? [{ name: name.slice("model.".length), dtype: "F32" as const, shape, data: whole.read(name) }]
        : [],
    );
    writeSafetensors(join(folder.path, "published.safetensors"), tensors);
    whole.close();
    const prompt = ["--prompt", "a red square"];
    const lacking = await sample("--checkpoint", "published.safetensors", ...prompt);
    expect(lacking.stderr).toContain("fix: give --width, --height, --fps and --seconds");
    const size = ["--width", "16", "--height", "8", "--fps", "4", "--seconds", "0.5"];
    await sample("--checkpoint", "published.safetensors", ...prompt, ...size, "-o", "published.gif");
    await sample("--checkpoint", "runs/whole", "--weights", "model", ...prompt, ...size, "-o", "own.gif");
    const [published, own] = ["published", "own"].map((name) => readFileSync(join(folder.path, `${name}.gif`)));
    expect(published?.equals(own!)).toBe(true);
  });

  test("takes many prompts, a batch at a time, and published option names", async () => {
    const { exitCode, stdout } = await sample(
      ...["--ckpt", "runs/whole", "--text", "a red square", "--text", "a blue square", "--prompt", "a green one"],
      ...["--cfg-scale", "2", "--num-sampling-steps", "3", "--sec", "0.25", "--batch", "2", "-o", "many", "--json"],
    );
    expect(exitCode).toBe(0);
    const { videos } = JSON.parse(stdout) as { videos: { file: string }[] };
    expect(videos.map(({ file }) => file)).toEqual([
      "many/01-a-red-square.mp4",
      "many/02-a-blue-square.mp4",
      "many/03-a-green-one.mp4",
    ]);
    expect(readdirSync(join(folder.path, "many"))).toHaveLength(3);
  });

  test("while training writes videos into the run", async () => {
    const words = ["--sample-every", "2", "--sample-prompt", "a red square"];
    const { exitCode } = await train("--steps", "2", "--name", "sampled", ...words);
    expect(exitCode).toBe(0);
    expect(readdirSync(join(folder.path, "runs", "sampled", "samples"))).toEqual(["step-000002-01-a-red-square.mp4"]);
  });
});

test("bench times the step, and the kernels of it", async () => {
  const { exitCode, stdout } = await start(binary, ["bench", "--frames", "2", "--steps", "3", "--profile", "--json"]);
  expect(exitCode).toBe(0);
  const result = JSON.parse(stdout) as { tokensPerSecond: number; kernels: { share: number }[] };
  expect(result.tokensPerSecond).toBeGreaterThan(0);
  expect(result.kernels.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(1);
});
