/**
 * One optimizer step over the flat arenas: clipping, Adam or AdamW, the rate's schedule, the running average of the
 * parameters. Everything is element by element but the norm. A step whose loss or gradient is not finite changes
 * nothing but the step counter. The schedule goes by all steps; bias correction and the average by those `taken`.
 */
import type { TrainRecipe } from "../recipe.ts";
import { formula, type Tensor } from "../tensor.ts";

/** What training carries from step to step, besides the step counter: arenas [parameter]. */
export interface TrainingState {
  readonly parameters: Tensor;
  readonly moment1: Tensor;
  readonly moment2: Tensor;
  readonly average: Tensor;
}

export interface OptimizerStep {
  readonly state: TrainingState;
  /** [parameter], in the order of the arena. */
  readonly gradient: Tensor;
  /** i32: how many steps came before. */
  readonly step: Tensor;
  /** i32: how many of them moved the parameters; all of them where it is not given. */
  readonly taken?: Tensor;
  /** i32: at which step the schedule ends. */
  readonly totalSteps: Tensor;
  /** What has to be finite besides the gradient. */
  readonly loss?: Tensor;
}

export interface OptimizerResult {
  readonly next: TrainingState;
  readonly gradientNorm: Tensor;
  readonly rate: Tensor;
  /** Whether the step is taken. */
  readonly isFinite: Tensor;
  /** i32: 1 when the step was left out. */
  readonly skipped: Tensor;
}

export function optimizerStep(recipe: TrainRecipe, inputs: OptimizerStep): OptimizerResult {
  const { state, gradient, step, taken = step, totalSteps, loss } = inputs;
  const { betas, eps, weightDecay, optimizer, ema } = recipe;
  const [beta1, beta2] = betas;
  const gradientNorm = gradient.apply("x * x").sum().apply("sqrt(x)");
  const rate = rateAt(recipe, step, totalSteps);
  const isFinite =
    loss === undefined
      ? gradientNorm.apply("isfinite(x)")
      : formula("isfinite(norm) && isfinite(loss)", { norm: gradientNorm, loss });

  const scaled =
    recipe.clip === 0
      ? gradient
      : gradient.mul(formula("min(1, clip / (norm + 1e-6))", { norm: gradientNorm, clip: recipe.clip }));
  const isCoupled = optimizer === "adam" && weightDecay > 0;
  const g = isCoupled ? formula("g + decay * p", { g: scaled, p: state.parameters, decay: weightDecay }) : scaled;
  const moment1 = formula("beta * m + rest * g", { m: state.moment1, g, beta: beta1, rest: 1 - beta1 });
  const moment2 = formula("beta * v + rest * g * g", { v: state.moment2, g, beta: beta2, rest: 1 - beta2 });
  const shrunk =
    optimizer === "adamw" && weightDecay > 0
      ? formula("p * (1 - rate * decay)", { p: state.parameters, rate, decay: weightDecay })
      : state.parameters;
  const parameters = formula("p - rate / c1 * m / (sqrt(v / c2) + eps)", {
    ...{ p: shrunk, m: moment1, v: moment2, rate, eps },
    ...{ c1: biasCorrection(taken, beta1), c2: biasCorrection(taken, beta2) },
  });
  const decay = formula("n = f32(step); min(ema, (1 + n) / (10 + n))", { step: taken, ema });
  const average = formula("decay * a + (1 - decay) * p", { a: state.average, p: parameters, decay });

  const after = { parameters, moment1, moment2, average };
  const keep = (name: keyof TrainingState): Tensor =>
    formula("select(isFinite, after, before)", { isFinite, after: after[name], before: state[name] });
  return {
    next: {
      parameters: keep("parameters"),
      moment1: keep("moment1"),
      moment2: keep("moment2"),
      average: keep("average"),
    },
    gradientNorm,
    rate,
    isFinite,
    skipped: isFinite.apply("select(x, i32(0), i32(1))"),
  };
}

/** 1 - beta^(step + 1), over the steps taken. In float64: in float32 the difference would keep four digits when beta is 0.999. */
const biasCorrection = (step: Tensor, beta: number): Tensor => step.apply("f32(1 - f64(beta) ^ f64(x + 1))", { beta });

/** The learning rate of a step: a linear rise, then half a cosine down to 0, or a constant. */
function rateAt({ rate, warmup, schedule }: TrainRecipe, step: Tensor, totalSteps: Tensor): Tensor {
  const rise = "min(1, f32(step + 1) / max(warmup, 1))";
  if (schedule === "constant") return formula(`rate * ${rise}`, { step, rate, warmup });
  const done = "min(max(f32(step - i32(warmup)), 0) / max(f32(totalSteps - i32(warmup)), 1), 1)";
  return formula(`rate * ${rise} * 0.5 * (1 + cos(pi * ${done}))`, { step, totalSteps, rate, warmup });
}
