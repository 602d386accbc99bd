/**
 * A training run from start to end: the data first, since that is what goes wrong most; then the machine; then steps,
 * with a record of each, checkpoints now and then, and a place to come back to whatever happens.
 */
import type { Plan } from "../../contract/plan.ts";
import { loadCheckpoint, type LoadedCheckpoint } from "../checkpoint/checkpoint.ts";
import { createBatchOrder } from "../data/batches.ts";
import { openDataset, type Dataset } from "../data/dataset.ts";
import { describeProgram, findVideoTools, type VideoTools } from "../data/ffmpeg-find.ts";
import { createLoader } from "../data/loader.ts";
import { builtInTextEncoder, type TextEncoder } from "../data/text.ts";
import type { Device, LoadedPlan } from "../devices/device.ts";
import { formatDuration, startProgress } from "../observe/progress.ts";
import { openLog, type RunLog } from "../observe/log.ts";
import { openRun, type RunFolder } from "../observe/run-folder.ts";
import { loadPrograms } from "../program/load.ts";
import { recipeOf, requireRawPixels, textDimOf, videoFormOf, type VideoForm } from "../program/facts.ts";
import { bindFilled, createStates, programNamed, scalarGiven, type States } from "../program/fill.ts";
import { chooseSampler, samplingPrograms } from "../sample/sampler.ts";
import { checkAsked, checkpointToResume, newCourse, resumedCourse, type Asked, type Course } from "./course.ts";
import { trainLoop, type Ending } from "./loop.ts";
import { hasLossScale } from "./loss-scale.ts";
import { checkFits, loadSection, plainFacts, restore, stateNamed } from "./training-state.ts";

export interface TrainRequest extends Asked {
  readonly data: string;
  readonly captions?: string | undefined;
  readonly name: string;
  /** Where runs live. */
  readonly runs: string;
  readonly resume: boolean;
  /** With `resume`: this checkpoint instead of the latest. */
  readonly checkpoint?: string | undefined;
  /** A file of weights to start from. */
  readonly weights?: string | undefined;
  readonly saveEvery: number;
  readonly keep: number;
  readonly logEvery: number;
  readonly sampleEvery?: number | undefined;
  readonly samplePrompts: readonly string[];
  readonly maxTokens?: number | undefined;
  readonly maxFrames?: number | undefined;
}

export interface TrainContext {
  readonly plan: Plan;
  readonly soracc: string;
  readonly openDevice: () => Promise<Device>;
  /** A line for the user, beside the progress. */
  readonly say: (line: string) => void;
}

export interface TrainOutcome extends Ending {
  readonly run: RunFolder;
}

/** @throws Diagnostic for everything a user can put right */
export async function train(request: TrainRequest, context: TrainContext): Promise<TrainOutcome> {
  const { plan, say } = context;
  const form = videoFormOf(
    "accumulate",
    programNamed(plan.programs, "accumulate").inputs.find(({ name }) => name === "x"),
  );
  requireRawPixels(form);
  const textDim = textDimOf(plan, "accumulate");
  const tools = findVideoTools();
  const run = openRun(request.name, { root: request.runs, resume: request.resume });
  const checkpoint = request.resume ? checkpointToResume(run, request.checkpoint) : undefined;
  try {
    checkAsked(request, checkpoint?.state);
    if (checkpoint !== undefined) checkFits(checkpoint, plan, ["model", "ema", "optimizer.m", "optimizer.v"]);
    const dataset = await readData(request, form, tools, say);
    const course =
      checkpoint?.state === undefined
        ? newCourse(request, dataset.samples, recipeOf(plan))
        : resumedCourse(request, dataset.samples, checkpoint.state, plainFacts(plan.model).recipe);
    for (const note of course.notes) say(note);
    if (course.start >= course.end) {
      return {
        run,
        kind: "already finished",
        step: course.start,
        loss: NaN,
        seconds: 0,
        tokens: 0,
        checkpoint: checkpoint?.path,
      };
    }
    const encoder = builtInTextEncoder(Math.max(textDim, 1));
    say(textDim === 0 ? "text: this model reads none" : `text: ${encoder.name}, ${textDim} wide`);
    return await onDevice(request, context, { run, dataset, course, checkpoint, encoder, form });
  } finally {
    checkpoint?.close();
  }
}

interface Prepared {
  readonly run: RunFolder;
  readonly dataset: Dataset;
  readonly course: Course;
  readonly checkpoint: LoadedCheckpoint | undefined;
  readonly encoder: TextEncoder;
  readonly form: VideoForm;
}

async function onDevice(request: TrainRequest, context: TrainContext, prepared: Prepared): Promise<TrainOutcome> {
  const { plan, say } = context;
  const { run, dataset, course, checkpoint, encoder, form } = prepared;
  const device = await context.openDevice();
  let log: RunLog | undefined;
  try {
    say(`device: ${device.description}`);
    const training = ["initialize", "accumulate", "update"];
    const sampling = request.sampleEvery === undefined ? [] : samplingPrograms(chooseSampler(plan, undefined));
    const loaded = await loadPrograms(device, plan, [...training, ...sampling]);
    const states = await initialStates(loaded, training, { course, checkpoint, weights: request.weights });
    const { start: step, end: steps, seed, batch, accumulate } = course;
    log = await openLog(run, { onFailure: (reason) => say(`lines of ${run.log} are lost: ${reason}`) });
    log.write(checkpoint === undefined ? "start" : "resume", {
      ...{ model: plan.model.name, preset: plan.model.preset, config: plan.model.config, precision: plan.precision },
      ...{ step, steps, seed, batch, accumulate, samples: dataset.samples.length, clips: dataset.scan.clips.length },
      ...{ text: encoder.name, device: device.description, soracc: context.soracc },
    });
    for (const one of dataset.scan.quarantined) log.write("quarantined", { ...one });
    const order = createBatchOrder({
      tokens: dataset.samples.map(({ clip }) => clip.tokens),
      ...{ seed, batchSize: batch, bucketed: true },
    });
    const { samples, store } = dataset;
    const record = log;
    const loader = createLoader({
      ...{ samples, order, store, encoder, patch: form.patch },
      onBadClip: ({ file, reason }) => {
        record.write("quarantined", { file, reason });
        say(`${file} cannot be read any more, another sample takes its place: ${reason}`);
      },
    });
    const ending = await trainLoop({
      request,
      plan,
      soracc: context.soracc,
      run,
      course,
      dataset,
      loaded,
      states,
      loader,
      log,
      encoder,
      form,
    });
    return { run, ...ending };
  } finally {
    log?.close();
    await device.close();
  }
}

async function readData(
  request: TrainRequest,
  { patch }: VideoForm,
  tools: VideoTools,
  say: (line: string) => void,
): Promise<Dataset> {
  if (tools.ffmpeg.origin === "packaged") say(`video: ${describeProgram(tools.ffmpeg)}`);
  let progress: Awaited<ReturnType<typeof startProgress>> | undefined;
  let total = 0;
  const starting: Promise<void>[] = [];
  const dataset = await openDataset({
    ...{ folder: request.data, captionsFile: request.captions, tools, patch },
    ...{ maxTokens: request.maxTokens, maxFrames: request.maxFrames },
    onProgress: (done, of) => {
      if (total === 0) {
        total = of;
        starting.push(
          startProgress({ label: "reading clips", total: of, unit: "clip" }).then((made) => void (progress = made)),
        );
      }
      progress?.update(done);
    },
  }).finally(async () => {
    await Promise.all(starting);
    progress?.stop();
  });
  for (const line of dataset.report) say(line);
  return dataset;
}

/** As the seed makes them, as a checkpoint has what there is of them, or with the parameters of a file of weights. */
async function initialStates(
  loaded: LoadedPlan,
  programs: readonly string[],
  { course, checkpoint, weights }: Pick<Prepared, "course" | "checkpoint"> & Pick<TrainRequest, "weights">,
): Promise<States> {
  const states = createStates(loaded, programs, {});
  if (checkpoint === undefined || !hasLossScale(checkpoint.state?.counters ?? {}, states)) {
    await bindFilled(loaded, "initialize", { seed: () => scalarGiven(course.seed) }, states).run();
  }
  if (checkpoint !== undefined) {
    restore(checkpoint, loaded.plan, states);
    return states;
  }
  if (weights !== undefined) {
    const file = loadCheckpoint(weights);
    try {
      checkFits(file, loaded.plan, ["model"]);
      const section = file.has("ema") ? "ema" : "model";
      for (const arena of ["parameters", "average"]) loadSection(file, loaded.plan, section, stateNamed(states, arena));
    } finally {
      file.close();
    }
  }
  return states;
}

/** What is said at the end. */
export function describeOutcome(
  { run, kind, step, seconds, loss, checkpoint, tokens }: TrainOutcome,
  { self, data }: { readonly self: string; readonly data: string },
): string[] {
  const where = checkpoint === undefined ? [] : [`checkpoint: ${checkpoint}`];
  switch (kind) {
    case "already finished":
      return [
        `the run ${run.name} is finished: all ${step} of its steps are done`,
        ...where,
        `to go on, give more --steps; to sample: ${self} sample --checkpoint ${run.path} --prompt "…" -o sample.mp4`,
      ];
    case "interrupted":
      return [
        `stopped after step ${step}`,
        ...where,
        `continue with: ${self} train --data ${data} --name ${run.name} --resume`,
      ];
    case "finished":
      return [
        `trained to step ${step} in ${seconds < 10 ? `${seconds.toFixed(1)} s` : formatDuration(seconds)}, ${Math.round(tokens / Math.max(seconds, 1e-9))} tokens/s, loss ${loss.toPrecision(4)}`,
        ...where,
        `sample with: ${self} sample --checkpoint ${run.path} --prompt "…" -o sample.mp4`,
      ];
    default:
      return kind satisfies never;
  }
}
