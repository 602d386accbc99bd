/**
 * What a diffusion process is to the rest of the language: how time is drawn, what the loss of a prediction is, and how
 * a sampler takes one step. `gaussian-diffusion.ts` and `rectified-flow.ts` are the two processes.
 */
import type { InputSpec } from "../program.ts";
import type { Tensor } from "../tensor.ts";

/** What a network says about noisy videos [batch, tokens, channels, rows, columns] at times t [batch]. */
export type Predict = (x: Tensor, t: Tensor) => Tensor;

export interface LossInputs {
  /** The clean video. */
  readonly x: Tensor;
  readonly t: Tensor;
  readonly noise: Tensor;
  /** 0/1 [batch, tokens]: the tokens that exist. */
  readonly mask: Tensor | undefined;
}

/** One step of a sampler. Tables hold a number for each step, `at` reads the one of this step. */
export interface SamplerStep {
  readonly z: Tensor;
  /** The network's prediction, guidance already applied. */
  readonly prediction: Tensor;
  /** Standard normal, for samplers that add noise. */
  readonly noise: Tensor | undefined;
  readonly at: (table: string) => Tensor;
}

export interface SamplerRule {
  /** Names of the tables, as `samplerTables` of contract/diffusion.ts gives them; `timestep` comes besides. */
  readonly tables: readonly string[];
  readonly isNoisy: boolean;
  readonly step: (step: SamplerStep) => Tensor;
}

export interface Process {
  readonly name: "ddpm" | "flow";
  /** The input t [batch], and how training draws it. */
  readonly time: InputSpec;
  /** Channels of a prediction for videos of so many channels. */
  readonly predicted: (channels: number) => number;
  /** Outputs of the loss program; `loss` [batch] is what training minimises the mean of. */
  readonly loss: (inputs: LossInputs, predict: Predict) => Readonly<Record<string, Tensor>>;
  /** What guidance does to a prediction with (a) and without (b) the condition. */
  readonly guide: (a: Tensor, b: Tensor, guidance: Tensor) => Tensor;
  readonly samplers: Readonly<Record<string, SamplerRule>>;
}

/** Over which elements a sample's loss is the mean: all, padding included, or only those that exist. */
export type LossMean = "padded" | "valid";
