/**
 * From a model and a choice of its configuration to programs in the Graph language. The set-up runs once and declares
 * all parameters; each program is traced when it is asked for.
 */
import { Diagnostic, type Location } from "../../contract/diagnostic.ts";
import { nodesOf, type Program } from "../graph/node.ts";
import { takeUndecided } from "../graph/shape.ts";
import { gradientProgram, recordedTraining, trainingPrograms } from "./composites/training.ts";
import { choose, type Choices, type ChosenModel, type ModelDefinition } from "./model.ts";
import { arenaInput, declareParameters, readingFrom, type ParameterLayout } from "./parameters.ts";
import { crash } from "./crash.ts";
import { nameOfValue } from "./mistake.ts";
import { located } from "./place.ts";
import { inputTensors, u32, withDraws, type ProgramDefinition } from "./program.ts";
import type { Optimizer, TrainRecipe } from "./recipe.ts";
import { keysInEffect, TRAIN_SETTINGS } from "./recipe.ts";
import { defaultsOf } from "./settings.ts";
import { Tensor } from "./tensor.ts";

export interface TracedModel extends ChosenModel {
  readonly name: string;
  /** Where each parameter lies in the arenas, in the order of declaration. */
  readonly layout: ParameterLayout;
  /**
   * The programs of the model and, where it is trained, `initialize`, `train`, `accumulate` and `update`. The state
   * `parameters` is the arena; a program without `next.parameters` leaves it as it is.
   */
  readonly programs: ReadonlyMap<string, () => Program>;
  /** Variants for recordings: what chance gives elsewhere is an input. */
  readonly recorded: {
    /**
     * Gradients of mean(loss) with respect to every parameter, as outputs under their names. `isScaled`: by way of an
     * input `lossScale`, as training in f16 takes them.
     */
    readonly gradients: (program: string, isScaled?: boolean) => Program;
    /** `train` with the recording's optimizer: no clipping, no schedule, no dropout. */
    readonly training: (optimizer: Optimizer) => Program;
    /** A program with its draws as inputs. */
    readonly program: (name: string) => Program;
  };
  /** Names of inputs that are 0/1 masks: ones first, and all ones when absent. */
  readonly masks: ReadonlySet<string>;
  /** What the runtime has to know to drive the programs. JSON. */
  readonly recipe: Readonly<Record<string, unknown>>;
}

/** Errors: those of `choose`; mistakes in the model, at the user's line. */
export function traceModel(definition: ModelDefinition, choices: Choices = {}): TracedModel {
  const chosen = choose(definition, choices);
  const { config, train, sample } = chosen;
  const { result: own, layout } = guarded(definition.where, () => declareParameters(() => definition.programs(config)));
  const trace = (name: string, program: ProgramDefinition): Program =>
    guarded(program.where ?? definition.where, () => traceProgram(name, program, layout));
  const defined = (name: string): ProgramDefinition => {
    const found = own[name];
    if (found !== undefined) return found;
    throw noProgram(definition, name, Object.keys(own));
  };

  const definitions = new Map(Object.entries(own).map(([name, program]) => [name, drawing(name, program)]));
  const samplers = Object.keys(own).filter((name) => name.startsWith("sample.") && name !== "sample.start");
  if (train !== undefined && own["loss"] !== undefined) {
    if (layout.parameters.length === 0) throw nothingToTrain(definition);
    const parts = { loss: own["loss"], layout, recipe: train };
    for (const [name, program] of Object.entries(trainingPrograms(parts))) {
      if (own[name] !== undefined) throw nameIsTaken(definition, name);
      definitions.set(name, program);
    }
  }
  const sampler = samplers.length === 0 ? undefined : chosenSampler(definition, sample.sampler, samplers);
  return {
    ...chosen,
    name: definition.name,
    layout,
    programs: new Map([...definitions].map(([name, program]) => [name, (): Program => trace(name, program)])),
    recorded: {
      gradients: (name, isScaled) =>
        trace(`${name}.gradients`, gradientProgram({ loss: defined(name), layout }, isScaled)),
      training: (optimizer) => {
        const recipe: TrainRecipe = { ...defaultsOf(TRAIN_SETTINGS), schedule: "constant", ...optimizer };
        return trace("train.recorded", recordedTraining({ loss: defined("loss"), layout, recipe }));
      },
      program: (name) => trace(`${name}.recorded`, defined(name)),
    },
    masks: new Set(Object.values(own).flatMap((program) => masksOf(program))),
    recipe: {
      ...definition.facts(config),
      ...(train === undefined ? {} : { train: keysInEffect(train) }),
      ...(sampler === undefined ? {} : { sample: { ...sample, sampler } }),
    },
  };
}

/** A program that draws by its step, as every run but a recorded one has it. */
const drawing = (name: string, program: ProgramDefinition): ProgramDefinition =>
  program.drawsByStep === undefined
    ? program
    : withDraws(name, program, { seed: u32() }, ({ seed, step }) => ({ seed: seed!, step: step!.apply("u32(x)") }));

function traceProgram(name: string, { inputs, body }: ProgramDefinition, layout: ParameterLayout): Program {
  takeUndecided();
  const tensors = inputTensors(inputs);
  const arena = tensors["parameters"]?.edge ?? arenaInput("parameters", layout);
  const results = Object.entries(readingFrom(arena, () => body(tensors)));
  for (const [key, tensor] of results) checkOutput(name, key, tensor);
  const given = Object.values(tensors).map((tensor) => tensor.edge);
  const isRead = !given.includes(arena) && nodesOf(results.map(([, tensor]) => tensor.edge)).includes(arena.node);
  const outputs = results.filter(([key]) => !key.startsWith("next."));
  const next = results.filter(([key]) => key.startsWith("next."));
  return {
    name,
    inputs: isRead ? [...given, arena] : given,
    outputs: new Map(outputs.map(([key, tensor]) => [key, tensor.edge])),
    next: new Map(next.map(([key, tensor]) => [key.slice("next.".length), tensor.edge])),
    equalities: takeUndecided(),
  };
}

function checkOutput(program: string, key: string, value: unknown): void {
  if (value instanceof Tensor) return;
  throw new Diagnostic({
    kind: "type",
    message: `program "${program}" gives ${nameOfValue(value)} as "${key}"`,
    fix: "return a record of tensors, such as { prediction }",
  });
}

const masksOf = ({ inputs }: ProgramDefinition): string[] =>
  Object.entries(inputs).flatMap(([name, spec]) => (spec.isMask === true ? [name] : []));

/** Runs the user's code; what goes wrong in it is told at its line, even when it is not a mistake we know. */
function guarded<T>(where: () => Location | undefined, body: () => T): T {
  try {
    return body();
  } catch (error) {
    if (error instanceof Diagnostic) throw located(error, where);
    throw crash(error);
  }
}

const nothingToTrain = (definition: ModelDefinition): Diagnostic =>
  new Diagnostic({
    kind: "model",
    message: `model "${definition.name}" has a recipe and no parameters to train`,
    where: definition.where(),
    fix: "declare layers in `programs`, or leave `train` out",
  });

const nameIsTaken = (definition: ModelDefinition, name: string): Diagnostic =>
  new Diagnostic({
    kind: "program",
    message: `a model with a recipe makes its own program "${name}"`,
    where: definition.where(),
    fix: "give yours another name",
  });

function noProgram(definition: ModelDefinition, name: string, known: readonly string[]): Diagnostic {
  return new Diagnostic({
    kind: "program",
    message: `model "${definition.name}" has no program "${name}"`,
    where: definition.where(),
    details: [`programs  ${known.join(", ")}`],
    fix: "use one of these",
  });
}

/** The chosen sampler, or the first that there is. Errors: the process does not have the chosen one. */
function chosenSampler(definition: ModelDefinition, sampler: string, programs: readonly string[]): string {
  const names = programs.map((name) => name.slice("sample.".length));
  if (sampler === "auto" && names[0] !== undefined) return names[0];
  if (names.includes(sampler)) return sampler;
  throw new Diagnostic({
    kind: "config",
    message: `there is no sampler "${sampler}" for this process`,
    where: definition.where(),
    details: [`samplers  ${names.join(", ")}`],
    fix: `choose --set sample.sampler=${names[0] ?? "auto"}`,
  });
}
