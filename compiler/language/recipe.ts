/** What can be chosen about training and sampling, whatever the model; `--set train.rate=3e-4` reaches these keys. */
import { SAMPLERS } from "../../contract/diffusion.ts";
import { PRECISIONS } from "../../contract/precision.ts";
import { choice, count, decayPair, number, type ValuesOf } from "./settings.ts";

export const TRAIN_SETTINGS = {
  optimizer: choice("adam", "adamw"),
  rate: number(1e-4),
  betas: decayPair(0.9, 0.999),
  eps: number(1e-8),
  /** Of Adam: added to the gradient; of AdamW: taken off the parameters directly. */
  weightDecay: number(0),
  /** Largest norm of the whole gradient; 0 leaves it as it is. */
  clip: number(0),
  /** Steps in which the rate rises from 0. */
  warmup: count(0, 0),
  /** What the rate does after them: falls to 0 along half a cosine, or stays. */
  schedule: choice("cosine", "constant"),
  /** Decay of the averaged parameters, at most (1 + n) / (10 + n) after n steps. */
  ema: number(0.9999, 0, 1),
  /** The share of samples whose text is replaced by zeros. */
  textDropout: number(0.1, 0, 1),
  /** Clips per step. */
  batch: count(2),
  precision: choice(...PRECISIONS),
  /** What the backward pass computes again inside of each member of a stack: nothing, all but attention, or all. */
  recompute: choice("none", "cheap", "block"),
  /** Members of a stack that it computes again from what went into the first of them. */
  recomputeSpan: count(1),
  /** Of f16, and of no effect otherwise: what the loss is multiplied by at first, for gradients that f16 can hold. */
  lossScale: number(2 ** 16, 1, 1e30),
  /** What multiplies the scale after `scaleInterval` steps in a row with a finite gradient … */
  scaleGrowth: number(2, 1, 1024),
  /** … and after a step without one. */
  scaleBackoff: number(0.5, 0.01, 0.99),
  scaleInterval: count(2000),
};

export const SAMPLE_SETTINGS = {
  /** `auto` is the first that the process has. */
  sampler: choice("auto", ...SAMPLERS),
  steps: count(250),
  /** Classifier-free guidance; 1 switches it off. */
  guidance: number(4),
};

export type TrainRecipe = ValuesOf<typeof TRAIN_SETTINGS>;
export type SampleRecipe = ValuesOf<typeof SAMPLE_SETTINGS>;

const OF_F16: readonly string[] = ["lossScale", "scaleGrowth", "scaleBackoff", "scaleInterval"];

/** The keys of a recipe that mean something besides the others: without f16, no loss is scaled. */
export function keysInEffect(recipe: TrainRecipe): Partial<TrainRecipe> {
  const without = [
    ...(recipe.precision === "f16" ? [] : OF_F16),
    ...(recipe.recompute === "none" ? ["recomputeSpan"] : []),
  ];
  return Object.fromEntries(Object.entries(recipe).filter(([key]) => !without.includes(key)));
}

/** The part of a recipe that says how parameters move. */
export type Optimizer = Pick<TrainRecipe, "optimizer" | "rate" | "betas" | "eps" | "weightDecay">;

/** How a model file writes its recipe: the optimizer as one value, all else as keys. */
export type TrainOptions = Partial<Omit<TrainRecipe, keyof Optimizer>> & { readonly optimizer?: Optimizer };

type OptimizerOptions = Partial<Omit<Optimizer, "optimizer">> & Pick<Optimizer, "rate">;

/** Adam (Kingma and Ba, 2015). */
export const adam = (options: OptimizerOptions): Optimizer => ({
  optimizer: "adam",
  betas: [0.9, 0.999],
  eps: 1e-8,
  weightDecay: 0,
  ...options,
});

/** Adam with decoupled weight decay (Loshchilov and Hutter, 2019). */
export const adamW = (options: OptimizerOptions): Optimizer => ({
  optimizer: "adamw",
  betas: [0.9, 0.999],
  eps: 1e-8,
  weightDecay: 0.01,
  ...options,
});

/** The recipe's keys side by side, as `--set` names them. */
export const flatten = ({ optimizer, ...rest }: TrainOptions): Partial<TrainRecipe> => ({ ...rest, ...optimizer });
