/**
 * The programs of training, from a model's `loss` program and its recipe.
 *
 *   initialize   seed -> next.parameters, next.moment1, next.moment2, next.average, next.step
 *   accumulate   draws, loss and gradient of small batch `micro` of `accumulation`, added to state `gradient`
 *   update       the optimizer step for the gradient, which may come from one batch or from several
 *
 * Arenas are [parameter], all of one length; state `step` counts steps, those that are left out too. Random numbers are
 * keyed by the seed and by step * accumulation + micro. The first small batch of a step replaces the gradient, the others
 * add to it: where a weight's gradient is made, in the same kernel. A recipe in f16 has the state of `loss-scale.ts`
 * besides: the gradient in the state is then that of the scaled loss, and `update` decides once for all small batches.
 */
import { Diagnostic } from "../../../contract/diagnostic.ts";
import { gradients } from "../../passes/differentiate.ts";
import { expand, rearrange } from "../../ops/layout.ts";
import { parameter } from "../../ops/source.ts";
import type { Edge } from "../../graph/node.ts";
import { build } from "../mistake.ts";
import { tensorOf, type ParameterLayout, type PlacedParameter } from "../parameters.ts";
import {
  drawTensor,
  f32,
  i32,
  state,
  u32,
  withDraws,
  type InputSpec,
  type Outputs,
  type ProgramDefinition,
  type RandomKey,
} from "../program.ts";
import type { TrainRecipe } from "../recipe.ts";
import { concat, formula, Tensor } from "../tensor.ts";
import { firstLossScale, lossScaleOf, lossScaleState, nextLossScale, unscaled } from "./loss-scale.ts";
import { optimizerStep, type OptimizerResult } from "./optimizer.ts";
import { constant } from "./scalar.ts";

type Tensors = Readonly<Record<string, Tensor>>;

export interface TrainingParts {
  readonly loss: ProgramDefinition;
  readonly layout: ParameterLayout;
  readonly recipe: TrainRecipe;
}

export function trainingPrograms(parts: TrainingParts): Record<string, ProgramDefinition> {
  return {
    initialize: initialize(parts),
    accumulate: accumulate(parts),
    update: update(parts),
  };
}

/** The training step on recorded draws: every input of the loss is given, nothing is dropped. In float32. */
export const recordedTraining = (parts: TrainingParts): ProgramDefinition => trainStep(parts, parts.loss);

/**
 * d mean(loss) / d parameter for every parameter, under their names; inputs as the loss program's. `isScaled`: taken of
 * the loss times an input `lossScale`, f32, and divided by it, as training in f16 does.
 */
export const gradientProgram = (
  { loss, layout }: Omit<TrainingParts, "recipe">,
  isScaled = false,
): ProgramDefinition => ({
  inputs: isScaled ? { ...loss.inputs, lossScale: f32() } : loss.inputs,
  body: (tensors) => {
    const lossScale = isScaled ? tensors["lossScale"] : undefined;
    const found = gradientsOf(scaled(meanLoss(loss, tensors), lossScale), layout);
    return Object.fromEntries(
      layout.parameters.map(({ name }, i) => [
        name,
        lossScale === undefined ? found[i]! : unscaled(found[i]!, lossScale),
      ]),
    );
  },
});

function meanLoss(loss: ProgramDefinition, tensors: Tensors): Tensor {
  const { loss: perSample } = loss.body(tensors);
  if (perSample === undefined) {
    throw new Diagnostic({
      kind: "program",
      message: 'the program "loss" has no output "loss"',
      fix: "return { loss: … }, one value per sample or a scalar: training minimises its mean",
    });
  }
  return perSample.axes.length === 0 ? perSample : perSample.mean();
}

/** What is differentiated: the loss, or its multiple in which no gradient is too small for f16. */
const scaled = (loss: Tensor, lossScale: Tensor | undefined): Tensor =>
  lossScale === undefined ? loss : loss.mul(lossScale);

const gradientsOf = (loss: Tensor, { parameters }: ParameterLayout): Tensor[] =>
  build("gradient", { loss }, () =>
    gradients(
      loss.edge,
      parameters.map((each) => tensorOf(each).edge),
    ).map((edge) => new Tensor(edge)),
  );

/** All axes merged into one, as the arena has them. */
const flat = ({ edge }: Tensor): Tensor =>
  build("flat", {}, () => {
    const factors = edge.shape.map((axis) => [axis.size]);
    return new Tensor(rearrange(edge, factors, [factors.map((_, i) => i)], ["parameter"]));
  });

const flatGradient = (loss: Tensor, layout: ParameterLayout): Tensor =>
  concat(gradientsOf(loss, layout).map(flat), "parameter");

const arena = ({ elements }: ParameterLayout): InputSpec => state(f32("parameter", { parameter: elements }));

const trainingState = (layout: ParameterLayout): Record<string, InputSpec> => ({
  parameters: arena(layout),
  moment1: arena(layout),
  moment2: arena(layout),
  average: arena(layout),
  step: state(i32()),
});

function trainStep({ layout, recipe }: TrainingParts, loss: ProgramDefinition): ProgramDefinition {
  return {
    inputs: { ...loss.inputs, totalSteps: i32(), ...trainingState(layout) },
    body: (tensors) => {
      const mean = meanLoss(loss, tensors);
      const gradient = flatGradient(mean, layout);
      return { loss: mean, ...optimize(recipe, tensors, gradient, mean) };
    },
  };
}

function optimize(recipe: TrainRecipe, tensors: Tensors, gradient: Tensor, loss?: Tensor): Outputs {
  const { parameters, moment1, moment2, average, step, totalSteps } = tensors;
  const scale = lossScaleOf(recipe, tensors);
  const result: OptimizerResult = optimizerStep(recipe, {
    state: { parameters: parameters!, moment1: moment1!, moment2: moment2!, average: average! },
    gradient: scale === undefined ? gradient : unscaled(gradient, scale.lossScale),
    step: step!,
    totalSteps: totalSteps!,
    ...(loss === undefined ? {} : { loss }),
    ...(scale === undefined ? {} : { taken: step!.sub(scale.skippedSteps) }),
  });
  return {
    gradientNorm: result.gradientNorm,
    rate: result.rate,
    skipped: result.skipped,
    ...Object.fromEntries(Object.entries(result.next).map(([name, value]) => [`next.${name}`, value])),
    "next.step": step!.apply("x + 1"),
    ...(scale === undefined ? {} : nextLossScale(recipe, scale, result.isFinite)),
  };
}

/** Small batch number `micro` of `accumulation`: a share of the gradient is added to what the earlier ones left. */
function accumulate(parts: TrainingParts): ProgramDefinition {
  const { layout, recipe } = parts;
  const { lossScale } = lossScaleState(recipe);
  const key = ({ step, micro, accumulation }: Tensors): Tensor =>
    formula("step * accumulation + micro", { step: step!, micro: micro!, accumulation: accumulation! });
  const loss = withTrainingDraws(parts, { micro: i32(), accumulation: i32() }, key);
  return {
    inputs: {
      ...loss.inputs,
      ...{ parameters: arena(layout), gradient: arena(layout), step: state(i32()) },
      ...(lossScale === undefined ? {} : { lossScale }),
    },
    body: (tensors) => {
      const { micro, accumulation, gradient } = tensors;
      const mean = meanLoss(loss, tensors);
      const scale = lossScale === undefined ? undefined : tensors["lossScale"];
      const parameters = gradientsOf(scaled(mean, scale), layout).map((g, i) => {
        const before = build("gradient", {}, () => new Tensor(inArena(gradient!.edge, layout.parameters[i]!)));
        const share = { g, before, micro: micro!, count: accumulation! };
        return flat(formula("select(micro == 0, 0, before) + g * (1 / f32(count))", share));
      });
      return { loss: mean, "next.gradient": concat(parameters, "parameter") };
    },
  };
}

/** The range of another arena that belongs to a parameter. */
const inArena = (edge: Edge, { name, offset, shape }: PlacedParameter): Edge => parameter(edge, name, offset, shape);

const update = ({ layout, recipe }: TrainingParts): ProgramDefinition => ({
  inputs: { totalSteps: i32(), ...trainingState(layout), gradient: arena(layout), ...lossScaleState(recipe) },
  body: (tensors) => optimize(recipe, tensors, tensors["gradient"]!),
});

/** The loss with its draws made by chance and some samples' text replaced by zeros. */
function withTrainingDraws(
  { loss, recipe }: TrainingParts,
  extra: Readonly<Record<string, InputSpec>>,
  counter: (tensors: Tensors) => Tensor,
): ProgramDefinition {
  const key = (tensors: Tensors): RandomKey => ({ seed: tensors["seed"]!, step: counter(tensors).apply("u32(x)") });
  const dropped = Object.entries(loss.inputs).filter(([, each]) => each.isDropped === true);
  const dropping: ProgramDefinition = {
    inputs: loss.inputs,
    body: (tensors) => {
      const emptied = dropped.map(([name]): [string, Tensor] => [
        name,
        drop(`train.dropout.${name}`, tensors[name]!, recipe.textDropout, key(tensors)),
      ]);
      return loss.body({ ...tensors, ...Object.fromEntries(emptied) });
    },
  };
  return withDraws("train", dropping, { seed: u32(), ...extra }, key);
}

/** Zeros in place of whole samples, with probability `share`. */
function drop(path: string, x: Tensor, share: number, key: RandomKey): Tensor {
  if (share === 0) return x;
  const perSample = x.shape.filter((axis) => axis.name === "batch");
  const u = drawTensor("uniform", path, perSample, key);
  return x.apply("select(u < share, 0, x)", { u, share });
}

const initialize = ({ layout, recipe }: Omit<TrainingParts, "loss">): ProgramDefinition => ({
  inputs: { seed: u32() },
  body: ({ seed }) => {
    const key: RandomKey = { seed: seed!, step: constant(0, "u32") };
    const parameters = concat(
      layout.parameters.map((each) => flat(initialValue(each, key))),
      "parameter",
    );
    const zero = parameters.zerosLike();
    return {
      "next.parameters": parameters,
      "next.moment1": zero,
      "next.moment2": zero,
      "next.average": parameters,
      "next.step": constant(0, "i32"),
      ...firstLossScale(recipe),
    };
  },
});

function initialValue({ name, shape, initialiser }: PlacedParameter, key: RandomKey): Tensor {
  switch (initialiser.kind) {
    case "constant":
      return build("initialise", {}, () => new Tensor(expand(constant(initialiser.value).edge, shape)));
    case "uniform":
      return drawTensor("uniform", `initialize.${name}`, shape, key).apply("(2 * x - 1) * bound", {
        bound: initialiser.bound,
      });
    case "normal":
      return drawTensor("normal", `initialize.${name}`, shape, key).mul(initialiser.deviation);
    default:
      return initialiser satisfies never;
  }
}
