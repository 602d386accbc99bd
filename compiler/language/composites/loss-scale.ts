/**
 * Dynamic loss scaling, for training in f16 (Micikevicius et al., "Mixed precision training", 2018; the rule is that of
 * torch.cuda.amp.GradScaler). The gradients that products read must lie between f16's 6e-8 and 65504: the loss is
 * multiplied by a scale before it is differentiated, and the gradient is divided by it before anybody measures it. A step
 * whose gradient is not finite is left out and lowers the scale; so many finite ones in a row raise it.
 *
 * All of it is scalars of the device, carried from step to step as state: no step waits for the host to decide.
 */
import { f32, i32, state, type InputSpec, type Outputs } from "../program.ts";
import type { TrainRecipe } from "../recipe.ts";
import { formula, type Tensor } from "../tensor.ts";
import { constant } from "./scalar.ts";

export interface LossScale {
  /** f32 */
  readonly lossScale: Tensor;
  /** i32: steps with a finite gradient since the scale changed. */
  readonly finiteSteps: Tensor;
  /** i32: steps left out so far. */
  readonly skippedSteps: Tensor;
}

export const scalesLoss = ({ precision }: Pick<TrainRecipe, "precision">): boolean => precision === "f16";

/** Its inputs; none where the recipe scales no loss. */
export const lossScaleState = (recipe: TrainRecipe): Readonly<Record<string, InputSpec>> =>
  scalesLoss(recipe) ? { lossScale: state(f32()), finiteSteps: state(i32()), skippedSteps: state(i32()) } : {};

/** How a run starts. */
export const firstLossScale = (recipe: TrainRecipe): Outputs =>
  scalesLoss(recipe)
    ? {
        "next.lossScale": constant(recipe.lossScale),
        "next.finiteSteps": constant(0, "i32"),
        "next.skippedSteps": constant(0, "i32"),
      }
    : {};

/** From the tensors of a program with `lossScaleState`; undefined where the recipe scales no loss. */
export function lossScaleOf(recipe: TrainRecipe, tensors: Readonly<Record<string, Tensor>>): LossScale | undefined {
  const { lossScale, finiteSteps, skippedSteps } = tensors;
  return scalesLoss(recipe)
    ? { lossScale: lossScale!, finiteSteps: finiteSteps!, skippedSteps: skippedSteps! }
    : undefined;
}

/** The gradient itself. While the scale is a power of two, as it is unless set otherwise, this changes no digit. */
export const unscaled = (gradient: Tensor, lossScale: Tensor): Tensor => gradient.mul(lossScale.apply("1 / x"));

/** The state after a step. A scale that would outgrow float32 stays. */
export function nextLossScale(recipe: TrainRecipe, before: LossScale, isFinite: Tensor): Outputs {
  const { lossScale: scale, finiteSteps: count, skippedSteps: skipped } = before;
  const { scaleGrowth: growth, scaleBackoff: backoff, scaleInterval: interval } = recipe;
  const grown = "grown = scale * growth; grows = count + 1 >= interval && isfinite(grown)";
  const scaled = `${grown}; select(isFinite, select(grows, grown, scale), scale * backoff)`;
  const counted = "select(isFinite && count + 1 < interval, count + 1, 0)";
  return {
    "next.lossScale": formula(scaled, { scale, count, isFinite, growth, backoff, interval }),
    "next.finiteSteps": formula(counted, { count, isFinite, interval }),
    "next.skippedSteps": formula("select(isFinite, skipped, skipped + 1)", { skipped, isFinite }),
  };
}
