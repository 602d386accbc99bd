/** Small models for tests: tracing them, values for their inputs, running them on the reference. */
import { staticValue } from "../../compiler/graph/dim.ts";
import type { Edge, Program } from "../../compiler/graph/node.ts";
import {
  model,
  type InputSpecs,
  type Outputs,
  type ProgramDefinition,
  type TensorsOf,
} from "../../compiler/language/index.ts";
import { program } from "../../compiler/language/program.ts";
import { traceModel, type TracedModel } from "../../compiler/language/trace-model.ts";
import { interpret } from "../../compiler/reference/interpret.ts";
import { evaluateSize } from "../../contract/size.ts";
import { toSize } from "../../compiler/graph/dim.ts";

/** A model of given programs, with no settings. */
export const tracedPrograms = (programs: () => Readonly<Record<string, ProgramDefinition>>): TracedModel =>
  traceModel(model({ name: "test", config: {}, programs, train: {} }));

/** A program that needs no parameters. */
export const tracedProgram = <Specs extends InputSpecs>(
  inputs: Specs,
  body: (tensors: TensorsOf<Specs>) => Outputs,
): Program => tracedPrograms(() => ({ main: program(inputs, body) })).programs.get("main")!();

export type Sizes = Readonly<Record<string, number>>;
export type Values = Readonly<Record<string, ArrayLike<number>>>;

/** Runs a program in float64. */
export function run(program: Program, values: Values, sizes: Sizes = {}): Record<string, Float64Array> {
  const results = interpret(program, new Map(Object.entries(values)), new Map(Object.entries(sizes)));
  return Object.fromEntries([...results].map(([name, tensor]) => [name, tensor.data]));
}

export const elements = (edge: Edge, sizes: Sizes): number =>
  edge.shape.reduce((total, { size }) => total * evaluateSize(toSize(size), new Map(Object.entries(sizes))), 1);

export function inputOf(program: Program, name: string): Edge {
  const found = program.inputs.find(({ node }) => node.operation.op === "input" && node.operation.name === name);
  if (found === undefined) throw new Error(`no input ${name}`);
  return found;
}

/** Numbers that look random, always the same: a sine of large steps, in (-1, 1). */
export const noise = (count: number, seed = 1): Float64Array =>
  Float64Array.from(
    { length: count },
    (_, i) => Math.sin(12.9898 * (i + 1) + 78.233 * seed) * Math.cos(4.1 * i + seed),
  );

/** Values for every float32 input that `given` lacks. */
export function valuesFor(program: Program, sizes: Sizes, given: Values = {}): Record<string, ArrayLike<number>> {
  const values: Record<string, ArrayLike<number>> = { ...given };
  program.inputs.forEach((edge, i) => {
    const { operation } = edge.node;
    if (operation.op !== "input" || values[operation.name] !== undefined) return;
    values[operation.name] = noise(elements(edge, sizes), i + 1);
  });
  return values;
}

/** An arena that holds small numbers, none of them zero, so that no gate hides a gradient. */
export const arenaFor = (traced: TracedModel): Float64Array =>
  noise(traced.layout.elements, 5).map((value) => 0.3 * value + 0.02);

export const sizeOfParameter = (traced: TracedModel, name: string): { offset: number; elements: number } => {
  const found = traced.layout.parameters.find((each) => each.name === name);
  if (found === undefined) throw new Error(`no parameter ${name}`);
  return { offset: found.offset, elements: found.shape.reduce((n, axis) => n * (staticValue(axis.size) ?? 0), 1) };
};

/**
 * The largest difference between a gradient and central differences of the loss, relative to the gradient's size, over
 * some entries of one input.
 */
export function differenceError(
  loss: Program,
  gradient: Float64Array,
  name: string,
  values: Values,
  sizes: Sizes,
  entries: readonly number[] = gradient.length <= 24 ? [...gradient.keys()] : spread(gradient.length, 24),
  offset = 0,
): number {
  const at = (entry: number, change: number): number => {
    const moved = Float64Array.from(values[name]!);
    moved[offset + entry] = moved[offset + entry]! + change;
    const per = run(loss, { ...values, [name]: moved }, sizes)["loss"]!;
    return per.reduce((a, b) => a + b, 0) / per.length;
  };
  const step = 1e-5;
  const size = gradient.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-8);
  return Math.max(
    ...entries.map((entry) => Math.abs((at(entry, step) - at(entry, -step)) / (2 * step) - gradient[entry]!) / size),
  );
}

const spread = (count: number, wanted: number): number[] =>
  Array.from({ length: wanted }, (_, i) => Math.floor((i * (count - 1)) / (wanted - 1)));
