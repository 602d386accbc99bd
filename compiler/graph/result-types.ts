/**
 * The types an operation gives for the edges it is applied to: the rules that constructors follow, said a second time
 * as a table. The constructors answer a user's mistake; these answer whether a graph in front of us is one at all.
 */
import { isFloat, registerOf, type DType } from "../../contract/dtype.ts";
import { variablesOf } from "../notation/expression.ts";
import { add, multiply, ONE, staticValue, subtract, type Dim } from "./dim.ts";
import type { AttentionFacts, Edge, Operation, OperationName, OperationOf, TensorType } from "./node.ts";
import { axisNamed, hasEveryAxis, positionOf, printShape, without, type Axis, type Shape } from "./shape.ts";

/** The types of the results, or what is wrong in words. */
type Judgement = readonly TensorType[] | string;
type TypeRule<Name extends OperationName> = (operation: OperationOf<Name>, inputs: readonly Edge[]) => Judgement;

/** False when no value of the symbols makes the two equal; else binding will tell. */
export const mayBeEqual = (a: Dim, b: Dim): boolean => a === b || staticValue(subtract(a, b)) === undefined;

const same = (dtype: DType, shape: Shape): Judgement => [{ dtype, shape }];

/** A rule for one input that keeps its type and changes one axis. */
function alongAxis(x: Edge | undefined, name: string, change: (whole: Dim) => Dim | string): Judgement {
  const axis = x === undefined ? undefined : axisNamed(x.shape, name);
  if (x === undefined || axis === undefined) return `there is no axis "${name}"`;
  const size = change(axis.size);
  if (typeof size === "string") return size;
  return same(x.dtype, withAxis(x.shape, name, size));
}

const withAxis = (shape: Shape, name: string, size: Dim): Shape =>
  shape.map((axis) => (axis.name === name ? { name, size } : axis));

/** The shape in which inputs meet by names. */
function meetOf(inputs: readonly Edge[]): Shape | string {
  if (inputs.length === 0) return [];
  const widest = inputs.find((each) => inputs.every((other) => hasEveryAxis(each.shape, other.shape)))?.shape;
  if (widest === undefined)
    return `no input has all axes of ${inputs.map((each) => printShape(each.shape)).join(", ")}`;
  for (const { name, size } of inputs.flatMap((each) => each.shape)) {
    if (!mayBeEqual(size, axisNamed(widest, name)?.size ?? size)) return `axis "${name}" has two sizes`;
  }
  return widest;
}

function contractTypes({ left, right, result, names }: OperationOf<"contract">, inputs: readonly Edge[]): Judgement {
  const [a, b] = inputs;
  if (a === undefined || b === undefined || a.shape.length !== left.length || b.shape.length !== right.length) {
    return "the labels do not number the axes of the operands";
  }
  if (!isFloat(a.dtype) || !isFloat(b.dtype)) return "the operands are not floats";
  const lists = [left, right, result];
  if (lists.some((list) => new Set(list).size !== list.length) || names.length !== result.length) {
    return "a label stands twice in one operand, or the result has other names than labels";
  }
  const axes = new Map<number, Axis>(left.map((label, i) => [label, a.shape[i]!]));
  for (const [i, label] of right.entries()) {
    const known = axes.get(label);
    if (known === undefined) axes.set(label, b.shape[i]!);
    else if (!mayBeEqual(known.size, b.shape[i]!.size)) return `label ${String(label)} has two sizes`;
  }
  for (const label of axes.keys()) {
    if (lists.filter((list) => list.includes(label)).length < 2) return `label ${String(label)} is used once`;
  }
  const shape: Axis[] = [];
  for (const [i, label] of result.entries()) {
    const axis = axes.get(label);
    if (axis === undefined) return `label ${String(label)} of the result is in no operand`;
    shape.push({ name: names[i]!, size: axis.size });
  }
  return same(a.dtype === "f64" || b.dtype === "f64" ? "f64" : "f32", shape);
}

function attentionTypes(facts: AttentionFacts, inputs: readonly Edge[]): Judgement {
  const [q, k, v, ...lengths] = inputs;
  if (q === undefined || k === undefined || v === undefined) return "q, k and v are needed";
  const batch = without(q.shape, [facts.heads, facts.queries, facts.head]);
  for (const each of [k, v]) {
    const wanted = [...batch.map((axis) => axis.name), facts.heads, facts.keys, facts.head];
    if (each.shape.length !== wanted.length || wanted.some((name) => axisNamed(each.shape, name) === undefined)) {
      return `keys and values need axes ${wanted.join(", ")}`;
    }
    for (const { name, size } of each.shape) {
      const own = name === facts.keys ? axisNamed(k.shape, name) : axisNamed(q.shape, name);
      if (own === undefined || !mayBeEqual(own.size, size)) return `axis "${name}" has two sizes`;
    }
  }
  if (lengths.length !== facts.segments.length) return "every segment needs its lengths";
  if (lengths.some((each) => each.dtype !== "i32" || !hasEveryAxis(batch, each.shape)))
    return "lengths are i32 over batch";
  const keys = axisNamed(k.shape, facts.keys);
  if (facts.segments.length > 0 && keys !== undefined && !mayBeEqual(add(...facts.segments), keys.size)) {
    return "the segments do not cover the keys";
  }
  return [
    { dtype: "f32", shape: q.shape },
    { dtype: "f32", shape: without(q.shape, [facts.head]) },
  ];
}

function rearrangeTypes({ split, groups, names }: OperationOf<"rearrange">, inputs: readonly Edge[]): Judgement {
  const [x] = inputs;
  if (split.length !== x?.shape.length) return "every axis needs its factors";
  const wrong = x.shape.find((axis, i) => !mayBeEqual(axis.size, multiply(ONE, ...split[i]!)));
  if (wrong !== undefined) return `the factors of "${wrong.name}" have another product`;
  const factors = split.flat();
  const kept = groups.flat();
  const all = factors.every((size, factor) => size === ONE || kept.includes(factor));
  if (!all || new Set(kept).size !== kept.length || kept.some((factor) => factors[factor] === undefined)) {
    return "every factor that is not 1 stands in one group";
  }
  return same(
    x.dtype,
    groups.map((group, i) => ({
      name: names[i] ?? "",
      size: multiply(ONE, ...group.map((factor) => factors[factor]!)),
    })),
  );
}

function concatTypes({ axis }: OperationOf<"concat">, inputs: readonly Edge[]): Judgement {
  const [first] = inputs;
  if (first === undefined) return "there is nothing to join";
  const sizes: Dim[] = [];
  for (const part of inputs) {
    if (part.dtype !== first.dtype || part.shape.length !== first.shape.length) return "the parts differ in type";
    for (const [i, { name, size }] of part.shape.entries()) {
      if (name !== first.shape[i]?.name) return "the parts have other axes, or other orders";
      if (name === axis) sizes.push(size);
      else if (!mayBeEqual(size, first.shape[i].size)) return `axis "${name}" has two sizes`;
    }
  }
  return alongAxis(first, axis, () => add(...sizes));
}

function pointwiseTypes({ expression, dtype }: OperationOf<"pointwise">, inputs: readonly Edge[]): Judgement {
  if (registerOf(dtype) !== expression.type) return `a formula of type ${expression.type} is stored as ${dtype}`;
  if (new Set(inputs).size !== inputs.length) return "an input stands twice";
  for (const { name, type } of variablesOf([expression])) {
    const input = /^x\d+$/.test(name) ? inputs[Number(name.slice(1))] : undefined;
    if (input === undefined) return `variable ${name} has no input`;
    if (registerOf(input.dtype) !== type) return `variable ${name} is ${type}, its input ${input.dtype}`;
  }
  const shape = meetOf(inputs);
  return typeof shape === "string" ? shape : same(dtype, shape);
}

const RULES: { readonly [Name in OperationName]: TypeRule<Name> } = {
  input: ({ type }) => [type],
  parameter: ({ shape }, [arena]) =>
    arena?.shape.length === 1 ? same(arena.dtype, shape) : "the arena is one flat tensor",
  constant: ({ type, values }) =>
    staticValue(multiply(ONE, ...type.shape.map((axis) => axis.size))) === values.length
      ? [type]
      : "the table has another number of values than its shape has elements",
  index: ({ axis }) => same("i32", [axis]),
  size: ({ dtype }) => same(dtype, []),
  random: ({ shape }, inputs) =>
    inputs.length === 2 && inputs.every((each) => each.dtype === "u32" && each.shape.length === 0)
      ? same("f32", shape)
      : "seed and step are u32 scalars",
  pointwise: pointwiseTypes,
  reduce: ({ axes }, [x]) =>
    x === undefined || axes.length === 0 || axes.some((name) => axisNamed(x.shape, name) === undefined)
      ? "the axes are not the input's"
      : same(x.dtype, without(x.shape, axes)),
  expand: ({ shape }, [x]) => {
    if (x === undefined || !hasEveryAxis(shape, x.shape)) return "an axis would be lost";
    const wrong = x.shape.find((axis) => !mayBeEqual(axis.size, axisNamed(shape, axis.name)?.size ?? axis.size));
    return wrong === undefined ? same(x.dtype, shape) : `axis "${wrong.name}" has two sizes`;
  },
  contract: contractTypes,
  attention: attentionTypes,
  attentionGradient: (facts, [q, k, v, o, lse, doutput, ...lengths]) => {
    if (q === undefined || k === undefined || v === undefined || o === undefined || lse === undefined) {
      return "q, k, v, o and lse are needed";
    }
    const forward = attentionTypes(facts, [q, k, v, ...lengths]);
    if (typeof forward === "string") return forward;
    if (!agree(o.shape, q.shape) || doutput === undefined || !agree(doutput.shape, q.shape))
      return "o and its gradient look like q";
    if (!agree(lse.shape, forward[1]?.shape ?? [])) return "lse looks like q without head";
    return [q, k, v].map((each) => ({ dtype: "f32", shape: each.shape }));
  },
  gather: ({ axis }, [table, indices]) => {
    if (table === undefined || axisNamed(table.shape, axis) === undefined) return `the table has no axis "${axis}"`;
    if (indices?.dtype !== "i32") return "indices are i32";
    const rest = without(table.shape, [axis]);
    if (rest.some(({ name }) => positionOf(indices.shape, name) >= 0)) return "an axis stands in table and indices";
    return same(table.dtype, [...indices.shape, ...rest]);
  },
  rearrange: rearrangeTypes,
  slice: ({ axis, size }, [x]) => alongAxis(x, axis, () => size),
  split: ({ axis, sizes }, [x]) => {
    const whole = alongAxis(x, axis, (size) => (mayBeEqual(size, add(...sizes)) ? size : "the parts do not add up"));
    if (typeof whole === "string" || x === undefined) return whole;
    return sizes.map((size) => ({ dtype: x.dtype, shape: withAxis(x.shape, axis, size) }));
  },
  concat: concatTypes,
  pad: ({ axis, before, after }, [x]) => alongAxis(x, axis, (size) => add(before, size, after)),
  cast: ({ dtype }, [x]) => (x === undefined ? "there is nothing to cast" : same(dtype, x.shape)),
  stopGradient: (_, [x]) => (x === undefined ? "there is nothing to stop" : same(x.dtype, x.shape)),
};

/** Whether two shapes have the same axes in the same order, of sizes that may be equal. */
export const agree = (a: Shape, b: Shape): boolean =>
  a.length === b.length && a.every((axis, i) => axis.name === b[i]?.name && mayBeEqual(axis.size, b[i].size));

/** The types of the results of `operation` on `inputs`, or a sentence about what is wrong with them. */
export function resultTypes(operation: Operation, inputs: readonly Edge[]): Judgement {
  // One table, one key for both: the compiler cannot see that the rule belongs to the very operation.
  const rule = RULES[operation.op] as (operation: Operation, inputs: readonly Edge[]) => Judgement;
  return rule(operation, inputs);
}
