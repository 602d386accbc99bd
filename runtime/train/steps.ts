/** One optimizer step: the gradient of one batch, or of several that add up, and the update. */
import { bytesOf } from "../../contract/dtype.ts";
import type { LoadedPlan } from "../devices/device.ts";
import type { DataPosition } from "../checkpoint/checkpoint-state.ts";
import type { Sample } from "../data/dataset.ts";
import type { Loader, VideoBatch } from "../data/loader.ts";
import { conditionSources } from "../program/conditions.ts";
import type { VideoForm } from "../program/facts.ts";
import { bindFilled, scalarGiven, type Sources, type States } from "../program/fill.ts";
import type { BoundProgram } from "../devices/device.ts";
import { lossScaleOf, type LossScale } from "./loss-scale.ts";

export interface StepResult {
  /** The mean over the samples of the step. */
  readonly loss: number;
  readonly gradientNorm: number;
  readonly rate: number;
  /** Loss or gradient was not finite, and the step changed nothing. */
  readonly skipped: boolean;
  /** After the step, where the loss is scaled: in f16. */
  readonly scale: LossScale | undefined;
  /** Real tokens, padding not counted. */
  readonly tokens: number;
  readonly samples: readonly Sample[];
  /** Where the next step starts. */
  readonly next: DataPosition;
  /** The most memory the step needs while it runs. */
  readonly peakBytes: number;
}

export interface StepContext {
  readonly loaded: LoadedPlan;
  readonly states: States;
  readonly loader: Loader;
  readonly form: VideoForm;
  readonly textDim: number;
  readonly seed: number;
  readonly totalSteps: number;
  readonly accumulate: number;
}

/** The gradient of every small batch is added up, of one or of several; then the optimizer steps once. */
export async function runStep(context: StepContext, position: DataPosition): Promise<StepResult> {
  const { loaded, loader, states, accumulate } = context;
  const batches: VideoBatch[] = [];
  let loss = 0;
  let ownBytes = 0;
  for (let micro = 0; micro < accumulate; micro++) {
    const batch = await loader.batch(batches.at(-1)?.next ?? position);
    batches.push(batch);
    const sources = {
      ...sourcesOf(batch, context),
      micro: () => scalarGiven(micro),
      accumulation: () => scalarGiven(accumulate),
    };
    const bound = bindFilled(loaded, "accumulate", sources, states);
    await bound.run();
    loss += scalar(bound, "loss") / accumulate;
    ownBytes = Math.max(ownBytes, bytesBesidesState(bound));
  }
  const update = bindFilled(loaded, "update", { totalSteps: () => scalarGiven(context.totalSteps) }, states);
  await update.run();
  const peakBytes = Math.max(ownBytes, bytesBesidesState(update)) + bytesOfStates(states);
  return { ...measured(update), scale: lossScaleOf(states), loss, ...factsOf(batches), peakBytes };
}

/** Programs take turns, so the larger one counts; states stay, whichever program runs. */
export const bytesBesidesState = ({ peakBytes, memory }: BoundProgram): number => peakBytes - memory.state;

export const bytesOfStates = (states: States): number =>
  [...states.values()].reduce((sum, { dtype, elements }) => sum + bytesOf(dtype) * elements, 0);

export function sourcesOf(
  batch: VideoBatch,
  {
    form: { channels, patch },
    textDim,
    seed,
    totalSteps,
  }: Pick<StepContext, "form" | "textDim" | "seed" | "totalSteps">,
): Sources {
  const samples = batch.samples.length;
  return {
    x: () => ({ shape: [samples, batch.tokens, channels, patch, patch], values: batch.video }),
    ...conditionSources({ ...batch, batch: samples, textDim }),
    seed: () => scalarGiven(seed),
    totalSteps: () => scalarGiven(totalSteps),
  };
}

const scalar = (bound: BoundProgram, output: string): number => bound.read(output)[0] ?? NaN;

const measured = (bound: BoundProgram): Pick<StepResult, "gradientNorm" | "rate" | "skipped"> => ({
  gradientNorm: scalar(bound, "gradientNorm"),
  rate: scalar(bound, "rate"),
  skipped: scalar(bound, "skipped") !== 0,
});

function factsOf(batches: readonly VideoBatch[]): Pick<StepResult, "tokens" | "samples" | "next"> {
  return {
    tokens: batches.reduce((sum, { videoLengths }) => sum + videoLengths.reduce((a, b) => a + b, 0), 0),
    samples: batches.flatMap(({ samples }) => samples),
    next: batches.at(-1)!.next,
  };
}
