/** Steps until the end, or until somebody presses Ctrl-C; a checkpoint is never far behind. */
import { formatBytes } from "../../contract/atomic-file.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";
import type { Plan } from "../../contract/plan.ts";
import { checkpointPath, pruneCheckpoints } from "../checkpoint/checkpoint-folder.ts";
import type { DataPosition } from "../checkpoint/checkpoint-state.ts";
import { saveCheckpoint } from "../checkpoint/checkpoint.ts";
import type { Clip } from "../data/clips.ts";
import type { Dataset } from "../data/dataset.ts";
import type { Loader } from "../data/loader.ts";
import type { TextEncoder } from "../data/text.ts";
import type { LoadedPlan } from "../devices/device.ts";
import type { RunLog } from "../observe/log.ts";
import { startProgress } from "../observe/progress.ts";
import type { RunFolder } from "../observe/run-folder.ts";
import type { VideoForm } from "../program/facts.ts";
import type { States } from "../program/fill.ts";
import { openSampler, type VideoSampler } from "../sample/sampler.ts";
import { dataCounters, type Course } from "./course.ts";
import { listenForInterrupt } from "./interrupt.ts";
import { sampleWhileTraining } from "./samples.ts";
import { runStep, type StepContext, type StepResult } from "./steps.ts";
import type { TrainRequest } from "./train.ts";
import { checkpointOf, plainFacts, stateNamed } from "./training-state.ts";

export interface LoopContext {
  readonly request: TrainRequest;
  readonly plan: Plan;
  readonly soracc: string;
  readonly run: RunFolder;
  readonly course: Course;
  readonly dataset: Dataset;
  readonly loaded: LoadedPlan;
  readonly states: States;
  readonly loader: Loader;
  readonly log: RunLog;
  readonly encoder: TextEncoder;
  readonly form: VideoForm;
}

export interface Ending {
  readonly kind: "finished" | "interrupted" | "already finished";
  /** Steps done in all. */
  readonly step: number;
  /** The mean over the last steps. */
  readonly loss: number;
  readonly seconds: number;
  /** Real tokens that were trained on. */
  readonly tokens: number;
  readonly checkpoint: string | undefined;
}

/** So many steps in a row without a finite loss or gradient: the run will not come back by itself. */
const HOPELESS = 20;
/** The loss that is shown is the mean of the last steps: one batch says little. */
const SHOWN_STEPS = 20;

/** @throws Diagnostic when the loss stays infinite, or a checkpoint cannot be written (older ones are then untouched) */
export async function trainLoop(context: LoopContext): Promise<Ending> {
  const { request, run, course, log, states, loaded, loader, form, encoder } = context;
  const { start, end, seed, accumulate } = course;
  const { textDim } = encoder;
  const steps: StepContext = { loaded, states, loader, form, textDim, seed, totalSteps: end, accumulate };
  const sampler = openSampler({ loaded, parameters: stateNamed(states, "average"), encoder });
  const progress = await startProgress({ label: "training", total: end, initial: start });
  const interrupt = listenForInterrupt(() =>
    progress.note("stopping after this step; press Ctrl-C again to stop at once, without saving"),
  );
  const began = performance.now();
  const recent: number[] = [];
  let { position, skipped } = course;
  let step = start;
  let inARow = 0;
  let tokens = 0;
  let saved: string | undefined;
  let savedStep = -1;
  let peakBytes = 0;

  const save = (): void => {
    if (savedStep === step) return;
    saved = saveState(context, { step, position, skipped });
    savedStep = step;
    log.write("checkpoint", { step, path: saved });
  };

  try {
    while (step < end && !interrupt.requested()) {
      const started = performance.now();
      const result = await runStep(steps, position);
      const seconds = (performance.now() - started) / 1000;
      step++;
      ({ next: position } = result);
      tokens += result.tokens;
      if (result.peakBytes > peakBytes) {
        peakBytes = result.peakBytes;
        if (step === start + 1) progress.note(`memory: ${formatBytes(peakBytes)} for ${describeShape(result, course)}`);
      }
      if (result.skipped) {
        skipped++;
        if (!isOverflow(result)) inARow++;
        reportSkipped(result, step, progress.note, log);
        if (inARow >= HOPELESS) throw hopeless(step, saved, run);
      } else {
        inARow = 0;
        recent.push(result.loss);
        if (recent.length > SHOWN_STEPS) recent.shift();
      }
      if (step % request.logEvery === 0 || step === end || step === start + 1) {
        const { loss, gradientNorm, rate, scale } = result;
        const measured = { step, loss, gradientNorm, rate, tokensPerSecond: result.tokens / seconds, seconds };
        log.write("step", { ...measured, ...scale });
      }
      progress.update(step, {
        loss: mean(recent),
        "tokens/s": Math.round(result.tokens / seconds),
        ...(result.scale === undefined ? {} : { "loss scale": String(result.scale.lossScale) }),
        ...(skipped > 0 ? { skipped } : {}),
      });
      if (step % request.saveEvery === 0) save();
      if (request.sampleEvery !== undefined && step % request.sampleEvery === 0) {
        await sampleNow(context, sampler, step, progress.note);
      }
    }
    save();
  } finally {
    progress.stop();
    interrupt.stopListening();
  }
  const kind = step >= end ? "finished" : "interrupted";
  const seconds = (performance.now() - began) / 1000;
  log.write(kind, { step, seconds, skipped });
  return { kind, step, loss: mean(recent), seconds, tokens, checkpoint: saved };
}

/** A sample that fails is no reason to end a run. */
async function sampleNow(
  context: LoopContext,
  sampler: VideoSampler,
  step: number,
  note: (line: string) => void,
): Promise<void> {
  try {
    const paths = await sampleWhileTraining(context, sampler, step, commonClip(context.dataset));
    context.log.write("sample", { step, paths });
    note(`samples at step ${step}: ${paths.join(", ")}`);
  } catch (error) {
    if (!(error instanceof Diagnostic)) throw error;
    context.log.write("sample failed", { step, reason: error.parts.message });
    note(`no samples at step ${step}: ${error.message}`);
  }
}

interface Standing {
  readonly step: number;
  readonly position: DataPosition;
  readonly skipped: number;
}

/** Written whole or not at all; older ones go only when it stands. */
function saveState(context: LoopContext, { step, position, skipped }: Standing): string {
  const { plan, states, run, course, request, dataset, soracc } = context;
  const clip = commonClip(dataset);
  const { patch } = context.form;
  const path = checkpointPath(run.checkpoints, step);
  saveCheckpoint(
    path,
    checkpointOf(plan, states, {
      ...{ model: plan.model.name, ...plainFacts(plan.model), step, seed: course.seed, position, soracc },
      scheduleSteps: course.end,
      counters: {
        ...{ batch: course.batch, accumulate: course.accumulate, skipped },
        ...dataCounters(dataset.samples),
        // What most clips look like is what sampling makes when nobody says otherwise.
        ...{ "sample.frames": clip.frames, "sample.height": clip.rows * patch, "sample.width": clip.columns * patch },
        "sample.fps": clip.framesPerSecond,
      },
    }),
  );
  pruneCheckpoints(run.checkpoints, request.keep);
  return path;
}

/** A clip of the shape that most clips have. */
function commonClip({ scan: { clips } }: Dataset): Clip {
  const shapes = new Map<string, Clip[]>();
  for (const clip of clips) {
    const shape = `${clip.frames} ${clip.rows} ${clip.columns}`;
    shapes.set(shape, [...(shapes.get(shape) ?? []), clip]);
  }
  return [...shapes.values()].reduce((most, members) => (members.length > most.length ? members : most))[0]!;
}

/** A gradient that is too large at this scale of the loss, and may not be at the next lower one: nobody's fault. */
const isOverflow = ({ loss, scale }: StepResult): boolean =>
  scale !== undefined && scale.lossScale >= 1 && Number.isFinite(loss);

function reportSkipped(result: StepResult, step: number, note: (line: string) => void, log: RunLog): void {
  const clips = [...new Set(result.samples.map(({ clip }) => clip.file))];
  const { loss, gradientNorm, scale } = result;
  log.write("skipped", { step, loss, gradientNorm, ...scale, clips });
  const named = clips.slice(0, 8).join(", ") + (clips.length > 8 ? ` and ${clips.length - 8} more` : "");
  const whose = isOverflow(result) ? "" : `; its clips: ${named}`;
  const next = scale === undefined ? "" : `; the loss scale is now ${scale.lossScale}`;
  note(`step ${step} is skipped: loss ${loss}, gradient norm ${gradientNorm}${next}${whose}`);
}

const hopeless = (step: number, saved: string | undefined, run: RunFolder): Diagnostic =>
  new Diagnostic({
    kind: "train",
    message: `${HOPELESS} steps in a row had no finite loss or gradient, the last was step ${step}`,
    details: [
      "skipped steps change no parameter",
      saved === undefined ? `the run's checkpoints are in ${run.checkpoints}` : `last checkpoint  ${saved}`,
    ],
    fix: "compile with a lower --set train.rate=… or with --set train.clip=1; a finite run can be resumed from its checkpoint",
  });

const describeShape = ({ samples }: StepResult, { accumulate }: Course): string => {
  const batch = samples.length / accumulate;
  const longest = Math.max(...samples.map(({ clip }) => clip.tokens));
  return `${batch} clips of up to ${longest} tokens${accumulate > 1 ? `, ${accumulate} times per step` : ""}`;
};

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / Math.max(values.length, 1);
