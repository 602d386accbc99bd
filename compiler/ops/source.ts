/** Sources: tensors that come from outside, from tables, from sizes or from chance. They have no gradient. */
import { Diagnostic } from "../../contract/diagnostic.ts";
import { roundToBf16, roundToF16, type DType } from "../../contract/dtype.ts";
import { philoxNormal, philoxUniform } from "../../contract/philox.ts";
import type { Dim } from "../graph/dim.ts";
import { elementsOf, printShape, type Shape } from "../graph/shape.ts";
import { staticValue } from "../graph/dim.ts";
import { makeNode, type Edge } from "../graph/node.ts";
import { remember } from "../graph/origin.ts";
import type { Operator } from "./operator.ts";
import { only } from "./only.ts";

export function input(name: string, dtype: DType, shape: Shape, role: "given" | "state" = "given"): Edge {
  const type = { dtype, shape };
  return only(remember(makeNode({ op: "input", name, role, type }, [], [type])));
}

/** The range of `arena` that starts at `offset` elements, as a tensor of the parameter's shape. */
export function parameter(arena: Edge, name: string, offset: number, shape: Shape): Edge {
  return only(remember(makeNode({ op: "parameter", name, offset, shape }, [arena], [{ dtype: arena.dtype, shape }])));
}

/** A table; `values` are row-major. The array is kept, not copied: do not change it afterwards. */
export function constant(values: readonly number[], dtype: DType, shape: Shape): Edge {
  const expected = staticValue(elementsOf(shape));
  if (expected !== values.length) {
    throw new Diagnostic({
      kind: "shape",
      message: `a constant of shape ${printShape(shape)} holds ${String(expected)} values, not ${String(values.length)}`,
      fix: "give as many values as the shape has elements; every size of a constant must be a number",
    });
  }
  const type = { dtype, shape };
  return only(remember(makeNode({ op: "constant", type, values }, [], [type])));
}

export function index(name: string, size: Dim): Edge {
  const axis = { name, size };
  return only(remember(makeNode({ op: "index", axis }, [], [{ dtype: "i32", shape: [axis] }])));
}

export function size(dim: Dim, dtype: DType): Edge {
  return only(remember(makeNode({ op: "size", size: dim, dtype }, [], [{ dtype, shape: [] }])));
}

export function random(distribution: "uniform" | "normal", path: string, shape: Shape, seed: Edge, step: Edge): Edge {
  return only(remember(makeNode({ op: "random", distribution, path, shape }, [seed, step], [{ dtype: "f32", shape }])));
}

/** The 32-bit FNV-1a hash of a draw's path: the word that keys its random numbers. */
export function pathKey(path: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(path)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}

/** What a table's value becomes in memory. */
function stored(dtype: DType, value: number): number {
  if (dtype === "f32") return Math.fround(value);
  return dtype === "bf16" ? roundToBf16(value) : dtype === "f16" ? roundToF16(Math.fround(value)) : value;
}

const given = (): never => {
  throw new Error("inputs are given by the caller of the interpreter");
};

export const inputOperator: Operator<"input"> = {
  name: "input",
  words: "a tensor from outside",
  traits: { fuse: "source" },
  reference: given,
};

export const parameterOperator: Operator<"parameter"> = {
  name: "parameter",
  words: "a range of an arena, as a tensor",
  traits: { fuse: "source" },
  reference: ({ operation, inputs, results }) => {
    const count = results[0]?.sizes.reduce((a, b) => a * b, 1) ?? 0;
    return [inputs[0]?.data.slice(operation.offset, operation.offset + count) ?? new Float64Array(0)];
  },
};

export const constantOperator: Operator<"constant"> = {
  name: "constant",
  words: "a table",
  traits: { fuse: "source" },
  reference: ({ operation }) => [Float64Array.from(operation.values, (value) => stored(operation.type.dtype, value))],
};

export const indexOperator: Operator<"index"> = {
  name: "index",
  words: "result[i] = i",
  traits: { fuse: "scalar" },
  reference: ({ results }) => [Float64Array.from({ length: results[0]?.sizes[0] ?? 0 }, (_, i) => i)],
};

export const sizeOperator: Operator<"size"> = {
  name: "size",
  words: "the value of a size",
  traits: { fuse: "scalar" },
  reference: ({ operation, sizeOf }) => [Float64Array.of(sizeOf(operation.size))],
};

export const randomOperator: Operator<"random"> = {
  name: "random",
  words: "independent draws, each from (seed, step, path, index)",
  traits: { fuse: "anchor" },
  reference: ({ operation, inputs, results }) => {
    const [seed, step] = inputs.map((tensor) => tensor.data[0] ?? 0);
    const draw = operation.distribution === "normal" ? philoxNormal : philoxUniform;
    const key = pathKey(operation.path);
    const count = results[0]?.sizes.reduce((a, b) => a * b, 1) ?? 0;
    return [Float64Array.from({ length: count }, (_, i) => draw(seed ?? 0, step ?? 0, key, i))];
  },
};
