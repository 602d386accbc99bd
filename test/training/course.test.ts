// From where to where a run goes, without running it; and what the network is told besides the video.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { Port } from "../../contract/plan.ts";
import { checkpointPath } from "../../runtime/checkpoint/checkpoint-folder.ts";
import type { CheckpointState } from "../../runtime/checkpoint/checkpoint-state.ts";
import { saveCheckpoint } from "../../runtime/checkpoint/checkpoint.ts";
import type { Sample } from "../../runtime/data/dataset.ts";
import { openRun } from "../../runtime/observe/run-folder.ts";
import { conditionSources } from "../../runtime/program/conditions.ts";
import { checkpointToResume, dataCounters, newCourse, resumedCourse } from "../../runtime/train/course.ts";
import { temporaryFolder } from "./tiny.ts";

const folder = temporaryFolder();
afterAll(folder.remove);

const sample = (caption: string): Sample => ({
  clip: {
    ...{ file: "a.mp4", path: "/a.mp4", frames: 2, rows: 1, columns: 2, tokens: 4 },
    ...{ height: 4, width: 8, framesPerSecond: 8, durationSeconds: 0.25 },
  },
  caption,
  where: { file: "captions.jsonl", line: 1 },
});
const samples = ["one", "two", "three", "four", "five"].map(sample);

const state: CheckpointState = {
  ...{ model: "dit", config: {}, recipe: { rate: 1e-3, clip: 1 }, step: 30, seed: 7, scheduleSteps: 100 },
  position: { epoch: 1, index: 2 },
  counters: { batch: 2, accumulate: 3, skipped: 4, ...dataCounters(samples) },
  soracc: "0.1.0",
};

describe("the course of a run", () => {
  test("an epoch is every caption once, rounded up to whole steps", () => {
    expect(newCourse({ epochs: 2, batch: 3 }, samples, { batch: 8 })).toMatchObject({ end: 4, batch: 3, start: 0 });
    expect(newCourse({ epochs: 2, accumulate: 2 }, samples, { batch: 8 })).toMatchObject({ end: 1, batch: 8 });
  });

  test("a resumed run takes what it was begun with from the checkpoint", () => {
    const course = resumedCourse({}, samples, state, { rate: 1e-3, clip: 1 });
    expect(course).toEqual({
      ...{ start: 30, end: 100, seed: 7, batch: 2, accumulate: 3, position: { epoch: 1, index: 2 }, skipped: 4 },
      notes: [],
    });
  });

  test.each(["batch", "accumulate", "seed"] as const)("another --%s is refused", (name) => {
    expect(() => resumedCourse({ [name]: 9 }, samples, state, {})).toThrow(
      new RegExp(`this run was begun with --${name} \\d, and continues with it, not with 9`),
    );
  });

  test("other data, another length and another recipe are told", () => {
    const { notes } = resumedCourse({ steps: 120 }, [...samples, sample("six")], state, { rate: 1e-4, clip: 1 });
    expect(notes).toEqual([
      "the schedule of the learning rate now ends at step 120; it was laid out for 100",
      "this binary trains by another recipe than the checkpoint's: rate 0.001 -> 0.0001",
      "the data has changed since the checkpoint (5 captions then, 6 now): losses will not be those of an uninterrupted run",
    ]);
  });

  test("going back is refused while there are later checkpoints", () => {
    const run = openRun("back", { root: join(folder.path, "runs") });
    mkdirSync(run.checkpoints, { recursive: true });
    for (const step of [10, 20]) {
      saveCheckpoint(checkpointPath(run.checkpoints, step), { tensors: [], state: { ...state, step } });
    }
    const latest = checkpointToResume(run, undefined);
    expect(latest.state?.step).toBe(20);
    latest.close();
    expect(() => checkpointToResume(run, checkpointPath(run.checkpoints, 10))).toThrow(
      /is of step 10, and the run has later ones\n.*step-000020/,
    );
  });
});

describe("what goes with a padded batch", () => {
  // Two clips, 2 x 1 x 2 and 1 x 3 x 1 patches; two words and one.
  const sources = conditionSources({
    ...{ batch: 2, tokens: 4, videoLengths: [4, 3], grids: [2, 1, 2, 1, 3, 1] },
    ...{ textTokens: 2, textDim: 1, textLengths: [2, 1] },
    text: Float32Array.of(1, 2, 3, 0),
    pooled: Float32Array.of(5, 6),
  });
  const port = (axes: number): Port => ({
    name: "text",
    dtype: "f32",
    axes: Array.from({ length: axes }, (_, i) => ({ name: `axis${i}`, size: 1 })),
    buffer: 0,
  });
  const valuesOf = (name: string, axes = 2): number[] => Array.from(sources[name]!(port(axes)).values);

  test("masks are ones as far as a sample reaches", () => {
    expect(valuesOf("video_mask")).toEqual([1, 1, 1, 1, 1, 1, 1, 0]);
    expect(valuesOf("text_mask")).toEqual([1, 1, 1, 0]);
  });

  test("positions are frame, row and column of each patch", () => {
    expect(valuesOf("positions")).toEqual([
      ...[0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 0, 1],
      ...[0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0],
    ]);
  });

  test("text is pooled or a row per word, as the port has it", () => {
    expect(valuesOf("text", 2)).toEqual([5, 6]);
    expect(valuesOf("text", 3)).toEqual([1, 2, 3, 0]);
    expect(() => sources["text"]!(port(4))).toThrow(/text has 4 axes/);
  });
});
