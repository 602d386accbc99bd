// Random tensors for tests of operators, and finite differences to hold gradients against.
import { expect } from "vitest";
import type { DType } from "../../contract/dtype.ts";
import { constant, symbol } from "../../compiler/graph/dim.ts";
import type { Edge } from "../../compiler/graph/node.ts";
import type { Shape } from "../../compiler/graph/shape.ts";
import { stridesOf, type ReferenceTensor } from "../../compiler/ops/operator.ts";
import { formula } from "../../compiler/ops/pointwise.ts";
import { reduce } from "../../compiler/ops/reduce.ts";
import { input } from "../../compiler/ops/source.ts";
import { gradients } from "../../compiler/passes/differentiate.ts";
import { evaluateEdges } from "../../compiler/reference/interpret.ts";

/** Sizes by axis name, in order. A number in a string is a symbol bound to it: `{ batch: "3", width: 5 }`. */
export type Axes = Readonly<Record<string, number | `${number}`>>;

/** What a test feeds: inputs by name, and the values of symbols. */
export interface World {
  readonly random: () => number;
  readonly given: Map<string, Float64Array>;
  readonly symbols: Map<string, number>;
}

export interface Drawn extends ReferenceTensor {
  readonly edge: Edge;
}

/** The same numbers for the same seed (mulberry32). */
export function makeWorld(seed: number): World {
  let state = seed >>> 0;
  const random = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return { random, given: new Map(), symbols: new Map() };
}

export function shapeOf(world: World, axes: Axes): Shape {
  return Object.entries(axes).map(([name, size]) => {
    if (typeof size === "string") world.symbols.set(name, Number(size));
    return { name, size: typeof size === "string" ? symbol(name) : constant(size) };
  });
}

/** An input with values from `low` to `high`, whole numbers for an integer type. */
export function draw(world: World, axes: Axes, dtype: DType = "f32", low = -2, high = 2): Drawn {
  const name = `t${String(world.given.size)}`;
  const sizes = Object.values(axes).map(Number);
  const whole = dtype === "i32" || dtype === "u32" || dtype === "u8" || dtype === "bool";
  const value = (): number => low + world.random() * (high - low);
  const data = Float64Array.from({ length: sizes.reduce((a, b) => a * b, 1) }, () =>
    whole ? Math.floor(value()) : Math.fround(value()),
  );
  world.given.set(name, data);
  return { edge: input(name, dtype, shapeOf(world, axes)), data, sizes, names: Object.keys(axes) };
}

export function evaluate(world: World, edge: Edge): ReferenceTensor {
  const found = evaluateEdges(new Map([["value", edge]]), world.given, world.symbols).get("value");
  if (found === undefined) throw new Error("no value came back");
  return found;
}

/** The element at named indices; axes the tensor lacks are ignored. */
export function at(tensor: ReferenceTensor, index: Readonly<Record<string, number>>): number {
  const strides = stridesOf(tensor.sizes);
  const offset = tensor.names.reduce((sum, name, i) => sum + (index[name] ?? NaN) * (strides[i] ?? 0), 0);
  return tensor.data[offset] ?? NaN;
}

/** Compares every element of an edge's value with `want` at its named index. */
export function expectEach(
  world: World,
  edge: Edge,
  want: (index: Readonly<Record<string, number>>) => number,
  tolerance = 1e-12,
): void {
  const value = evaluate(world, edge);
  expect(value.names).toEqual(edge.shape.map((axis) => axis.name));
  const strides = stridesOf(value.sizes);
  value.data.forEach((found, position) => {
    const index: Record<string, number> = {};
    value.names.forEach((name, i) => (index[name] = Math.floor(position / strides[i]!) % value.sizes[i]!));
    const wanted = want(index);
    if (Object.is(found, wanted) || found === wanted) return;
    expect(
      Math.abs(found - wanted),
      `at ${JSON.stringify(index)}: ${String(found)}, not ${String(wanted)}`,
    ).toBeLessThan(tolerance * (1 + Math.abs(wanted)));
  });
}

/**
 * Holds the gradients of a random weighted sum of `outputs` by every one of `tensors` against central differences.
 */
export function expectGradients(world: World, outputs: readonly Edge[], tensors: readonly Drawn[], step = 1e-4): void {
  const terms = outputs.map((output) => {
    const axes = output.shape.map((axis) => axis.name);
    const sizes = evaluate(world, output).sizes;
    const weight = draw(world, Object.fromEntries(axes.map((name, i) => [name, sizes[i]!])));
    const typed = input(inputName(weight.edge), "f32", output.shape);
    return reduce("sum", formula("y * w", { y: output, w: typed }), axes);
  });
  const loss = terms.reduce((a, b) => formula("a + b", { a, b }));
  const edges = gradients(
    loss,
    tensors.map((tensor) => tensor.edge),
  );
  edges.forEach((gradient, t) => {
    const tensor = tensors[t]!;
    expect(gradient.shape).toEqual(tensor.edge.shape);
    expect(gradient.dtype).toBe(tensor.edge.dtype);
    const found = evaluate(world, gradient).data;
    const shared = world.given.get(inputName(tensor.edge))!;
    for (let i = 0; i < shared.length; i++) {
      const kept = shared[i]!;
      shared[i] = kept + step;
      const above = evaluate(world, loss).data[0]!;
      shared[i] = kept - step;
      const below = evaluate(world, loss).data[0]!;
      shared[i] = kept;
      const wanted = (above - below) / (2 * step);
      expect(
        Math.abs(found[i]! - wanted),
        `input ${String(t)} at ${String(i)}: ${String(found[i])}, not ${String(wanted)}`,
      ).toBeLessThan(1e-6 * (1 + Math.abs(wanted)));
    }
  });
}

export function inputName(edge: Edge): string {
  if (edge.node.operation.op !== "input") throw new Error("not an input");
  return edge.node.operation.name;
}
