/**
 * From where to where does a run go? Settled from what the user asked for and, when a run continues, from its last
 * checkpoint: what would change the numbers of a run that has begun is refused, not mixed in.
 */
import { Diagnostic } from "../../contract/diagnostic.ts";
import { philox4x32 } from "../../contract/philox.ts";
import { latestCheckpoint, listCheckpoints, type CheckpointFile } from "../checkpoint/checkpoint-folder.ts";
import type { CheckpointState, DataPosition } from "../checkpoint/checkpoint-state.ts";
import { loadCheckpoint, type LoadedCheckpoint } from "../checkpoint/checkpoint.ts";
import { START } from "../data/batches.ts";
import type { Sample } from "../data/dataset.ts";
import type { RunFolder } from "../observe/run-folder.ts";

export interface Asked {
  readonly steps?: number | undefined;
  readonly epochs?: number | undefined;
  readonly batch?: number | undefined;
  readonly accumulate?: number | undefined;
  readonly seed?: number | undefined;
}

export interface Course {
  /** Steps done before. */
  readonly start: number;
  /** The step at which training and the schedule of its rate end. */
  readonly end: number;
  readonly seed: number;
  /** Clips per small batch, and small batches per step. */
  readonly batch: number;
  readonly accumulate: number;
  readonly position: DataPosition;
  readonly skipped: number;
  /** What a user should know about the change. */
  readonly notes: readonly string[];
}

export interface Defaults {
  readonly batch: number;
}

/** What can be said before the data is read. `state` is that of the checkpoint to continue. @throws Diagnostic */
export function checkAsked(asked: Asked, state: CheckpointState | undefined): void {
  const { steps, epochs } = asked;
  if (steps !== undefined && epochs !== undefined) {
    throw new Diagnostic({
      kind: "train",
      message: "--steps and --epochs both say how long to train",
      fix: "leave one of them out",
    });
  }
  if (state !== undefined) {
    begunWith(asked, state);
    if (steps !== undefined) checkLength(steps, state);
    return;
  }
  if (steps !== undefined || epochs !== undefined) return;
  throw new Diagnostic({
    kind: "train",
    message: "how long to train is not said",
    fix: "give --steps N or --epochs N",
  });
}

/** A run that begins. */
export function newCourse(asked: Asked, samples: readonly Sample[], defaults: Defaults): Course {
  const batch = asked.batch ?? defaults.batch;
  const accumulate = asked.accumulate ?? 1;
  const end = lengthOf(asked, samples, batch * accumulate) ?? 0;
  return { start: 0, end, seed: asked.seed ?? 0, batch, accumulate, position: START, skipped: 0, notes: [] };
}

/** A run that goes on. @throws Diagnostic when what is asked contradicts what was begun */
export function resumedCourse(
  asked: Asked,
  samples: readonly Sample[],
  state: CheckpointState,
  recipe: Readonly<Record<string, unknown>>,
): Course {
  const before = begunWith(asked, state);
  const { counters } = state;
  const end = lengthOf(asked, samples, before.batch * before.accumulate) ?? state.scheduleSteps;
  checkLength(end, state);
  const notes: string[] = [];
  if (end !== state.scheduleSteps) {
    notes.push(`the schedule of the learning rate now ends at step ${end}; it was laid out for ${state.scheduleSteps}`);
  }
  const changed = Object.keys(recipe).filter((key) => !equal(recipe[key], state.recipe?.[key]));
  if (state.recipe !== undefined && changed.length > 0) {
    const changes = changed.map((key) => `${key} ${spell(state.recipe?.[key])} -> ${spell(recipe[key])}`);
    notes.push(`this binary trains by another recipe than the checkpoint's: ${changes.join(", ")}`);
  }
  const { samples: count, data } = dataCounters(samples);
  if (counters["data"] !== undefined && counters["data"] !== data) {
    notes.push(
      `the data has changed since the checkpoint (${counters["samples"] ?? "?"} captions then, ${count} now): ` +
        "losses will not be those of an uninterrupted run",
    );
  }
  const { step: start, position } = state;
  return { start, end, ...before, position, skipped: counters["skipped"] ?? 0, notes };
}

const spell = (value: unknown): string => (value === undefined ? "none" : JSON.stringify(value));

const equal = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

/** What the numbers of a run depend on from its first step. @throws Diagnostic when something else is asked for */
function begunWith(asked: Asked, { counters, seed }: CheckpointState): Pick<Course, "batch" | "accumulate" | "seed"> {
  const before = {
    batch: counters["batch"] ?? asked.batch ?? 1,
    accumulate: counters["accumulate"] ?? asked.accumulate ?? 1,
    seed,
  };
  for (const name of ["batch", "accumulate", "seed"] as const) {
    const wanted = asked[name];
    if (wanted === undefined || wanted === before[name]) continue;
    throw new Diagnostic({
      kind: "resume",
      message: `this run was begun with --${name} ${before[name]}, and continues with it, not with ${wanted}`,
      fix: `leave --${name} out, or start another run with --name`,
    });
  }
  return before;
}

function checkLength(end: number, { step }: CheckpointState): void {
  if (end >= step) return;
  throw new Diagnostic({
    kind: "resume",
    message: `${end} steps are asked for, and the run has done ${step}`,
    fix: `give more than ${step} steps, or start another run with --name`,
  });
}

function lengthOf({ steps, epochs }: Asked, samples: readonly Sample[], perStep: number): number | undefined {
  return epochs === undefined ? steps : Math.ceil((epochs * samples.length) / perStep);
}

/** How many samples there are, and a number that changes with any of them: kept in checkpoints. */
export function dataCounters(samples: readonly Sample[]): { readonly samples: number; readonly data: number } {
  let data = 0;
  samples.forEach(({ clip, caption }, index) => {
    const text = `${clip.file}\n${caption}\n${clip.tokens}`;
    for (let i = 0; i < text.length; i++) data = (Math.imul(data, 31) + text.charCodeAt(i)) >>> 0;
    [data] = philox4x32([data, index, 0, 0], [0, 0]);
  });
  return { samples: samples.length, data };
}

/** The checkpoint a run continues from, still to be closed. @throws Diagnostic */
export function checkpointToResume(run: RunFolder, chosen: string | undefined): LoadedCheckpoint {
  const latest = latestCheckpoint(run.checkpoints);
  const path = chosen ?? latest?.path;
  if (path === undefined) {
    throw new Diagnostic({
      kind: "resume",
      message: `the run in ${run.path} has saved no checkpoint yet`,
      fix: "start it without --resume under another --name, or remove that folder",
    });
  }
  const checkpoint = loadCheckpoint(path);
  const wrong = checkpoint.state === undefined ? weightsAlone(path, run) : goesBack(checkpoint.state.step, latest, run);
  if (wrong === undefined) return checkpoint;
  checkpoint.close();
  throw wrong;
}

/** Steps that are done already would be done again beside their own checkpoints, and pruning would mix the two up. */
function goesBack(step: number, latest: CheckpointFile | undefined, run: RunFolder): Diagnostic | undefined {
  if (latest === undefined || latest.step <= step) return undefined;
  const later = listCheckpoints(run.checkpoints).filter((one) => one.step > step);
  return new Diagnostic({
    kind: "resume",
    message: `this checkpoint is of step ${step}, and the run has later ones`,
    details: later.map((one) => one.path),
    fix: "move the later ones to another folder, then resume again",
  });
}

function weightsAlone(path: string, run: RunFolder): Diagnostic {
  const others = listCheckpoints(run.checkpoints).map((one) => one.path);
  return new Diagnostic({
    kind: "resume",
    message: "this file holds weights alone: no step, no optimizer, no place in the data",
    where: { file: path },
    details: others.length === 0 ? [] : [`checkpoints  ${others.join(", ")}`],
    fix: "resume from a checkpoint that training wrote, or start a run from these weights with --weights",
  });
}
