// What a training binary says to input it cannot use: before anything is compiled, with a fix, never a stack.
import { copyFileSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { START } from "../../runtime/data/batches.ts";
import { saveCheckpoint } from "../../runtime/checkpoint/checkpoint.ts";
import { writeSafetensors } from "../../contract/safetensors.ts";
import { compileTiny, start, temporaryFolder, writeClips, type Ran } from "./tiny.ts";

const folder = temporaryFolder();
let binary = "";

const at = (...parts: readonly string[]): string => join(folder.path, ...parts);

beforeAll(async () => {
  binary = await compileTiny(folder.path);
  await writeClips(at("clips"));
  mkdirSync(at("empty"));
});
afterAll(folder.remove);

async function refused(words: readonly string[]): Promise<string> {
  const { exitCode, stderr }: Ran = await start(binary, words);
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/^ +fix: /m);
  expect(stderr).not.toMatch(/^\s+at /m);
  expect(stderr).not.toContain("runtime bug");
  return stderr;
}

test.each<[string, readonly string[], string]>([
  ["no folder", ["--steps", "1"], "option: --data is missing"],
  [
    "a folder that does not exist",
    ["--data", "nowhere", "--steps", "1"],
    "data: the data folder nowhere does not exist",
  ],
  ["an empty folder", ["--data", "empty", "--steps", "1"], "data: there are no videos in empty"],
  ["no length", ["--data", "clips"], "train: how long to train is not said"],
  ["two lengths", ["--data", "clips", "--steps", "1", "--epochs", "1"], "train: --steps and --epochs both say"],
  [
    "captions that do not exist",
    ["--data", "clips", "--steps", "1", "--captions", "no.jsonl"],
    "no.jsonl  captions: there is no such file",
  ],
  [
    "nothing to resume",
    ["--data", "clips", "--resume", "--name", "none"],
    "run: there is no run in runs/none to resume",
  ],
  [
    "a name that is no name",
    ["--data", "clips", "--steps", "1", "--name", "../up"],
    'run: "../up" cannot be the name of a run',
  ],
  [
    "a checkpoint without --resume",
    ["--data", "clips", "--steps", "1", "--checkpoint", "x"],
    "option: --checkpoint continues a run",
  ],
  [
    "samples of nothing",
    ["--data", "clips", "--steps", "1", "--sample-every", "1"],
    "option: --sample-prompt is missing",
  ],
  ["what was settled at compile time", ["--data", "clips", "--lr", "1e-3"], "soracc compile … --set train.rate=1e-3"],
  [
    "a published option with a wrong value",
    ["--video_dir", "clips", "--batch_size", "none"],
    'option: --batch_size is "none"',
  ],
])("train: %s", async (_what, words, message) => {
  expect(await refused(["train", ...words])).toContain(message);
});

test("train: captions that lead out of the folder, or nowhere, are told by line", async () => {
  mkdirSync(at("outside"));
  copyFileSync(at("clips", "red.mp4"), at("outside", "red.mp4"));
  mkdirSync(at("leaky"));
  copyFileSync(at("clips", "red.mp4"), at("leaky", "red.mp4"));
  symlinkSync(at("outside", "red.mp4"), at("leaky", "link.mp4"));
  for (const [file, reason] of [
    ["../outside/red.mp4", 'leads upwards with ".."'],
    [at("outside", "red.mp4"), "is an absolute path"],
    ["link.mp4", "is a link that leads out of the folder"],
    ["blue.mp4", "does not exist"],
  ] as const) {
    writeFileSync(
      at("leaky", "captions.jsonl"),
      `{"file": "red.mp4", "caption": "a"}\n${JSON.stringify({ file, caption: "b" })}\n`,
    );
    const message = await refused(["train", "--data", "leaky", "--steps", "1"]);
    expect(message).toContain("leaky/captions.jsonl:2  captions: ");
    expect(message).toContain(reason);
  }
});

test("train: videos that cannot be decoded are listed with reasons; without any other the run does not start", async () => {
  mkdirSync(at("damaged"));
  writeFileSync(at("damaged", "noise.mp4"), "this is no video");
  writeFileSync(at("damaged", "noise.txt"), "noise\n");
  const message = await refused(["train", "--data", "damaged", "--steps", "1", "--name", "damaged"]);
  expect(message).toContain("data: not one of 1 videos can be used");
  expect(message).toContain("noise.mp4");
});

test("train: a checkpoint of another model is refused with the tensors that differ", async () => {
  const checkpoints = at("runs", "foreign", "checkpoints");
  mkdirSync(checkpoints, { recursive: true });
  saveCheckpoint(join(checkpoints, "step-000003.safetensors"), {
    tensors: [{ name: "model.video_embedder.proj.weight", shape: [8, 3, 2, 2], data: new Float32Array(96) }],
    state: {
      ...{ model: "dit", config: {}, step: 3, seed: 0, position: START, scheduleSteps: 9, soracc: "0.1.0" },
      counters: { batch: 4, accumulate: 1 },
    },
  });
  const message = await refused(["train", "--data", "clips", "--name", "foreign", "--resume"]);
  expect(message).toContain('this checkpoint of "dit" does not fit the model');
  expect(message).toContain("model.video_embedder.proj.weight  model [32, 3, 4, 4], file [8, 3, 2, 2]");
  expect(readdirSync(checkpoints)).toEqual(["step-000003.safetensors"]);
});

test.each<[string, readonly string[], string]>([
  ["no weights", ["--prompt", "a"], "option: --checkpoint is missing"],
  ["no prompt", ["--checkpoint", "w.safetensors"], "option: there is no prompt"],
  [
    "an empty file of prompts",
    ["--checkpoint", "w.safetensors", "--prompts", "none.txt"],
    "prompts: there is no prompt in this file",
  ],
  ["weights that are not there", ["--checkpoint", "no.safetensors", "--prompt", "a"], "there is no such file"],
  [
    "weights of another model",
    ["--checkpoint", "w.safetensors", "--prompt", "a"],
    "this weights file does not fit the model",
  ],
  [
    "a file that is no video",
    ["--checkpoint", "w.safetensors", "--prompt", "a", "-o", "a.txt"],
    "which names no kind of video",
  ],
  [
    "a sampler it does not have",
    ["--checkpoint", "w.safetensors", "--prompt", "a", "--sampler", "ddpm"],
    "sampler: this model has no sampler ddpm",
  ],
  [
    "another text encoder",
    ["--checkpoint", "w.safetensors", "--text_model", "clip"],
    "--text_model has no effect here",
  ],
])("sample: %s", async (_what, words, message) => {
  writeSafetensors(at("w.safetensors"), [{ name: "some.weight", dtype: "F32", shape: [1], data: new Float32Array(1) }]);
  writeFileSync(at("none.txt"), "\n\n");
  expect(await refused(["sample", ...words])).toContain(message);
});

test("unknown options and commands are named, with the nearest that exists", async () => {
  for (const [words, message] of [
    [["train", "--stepz", "3"], "--steps"],
    [["trane"], "train"],
    [["train", "--steps", "-3"], "A whole number of at least 1"],
  ] as const) {
    const { exitCode, stderr } = await start(binary, words);
    expect(exitCode).toBe(1);
    expect(stderr).toContain(message);
  }
});
