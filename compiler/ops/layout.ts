/** Layout: the same values at other places. Shapes change, numbers do not. */
import { Diagnostic } from "../../contract/diagnostic.ts";
import { add, divideExactly, multiply, ONE, printDim, subtract, toDim, ZERO, type Dim } from "../graph/dim.ts";
import { makeNode, type Edge, type OperationOf } from "../graph/node.ts";
import { remember } from "../graph/origin.ts";
import { axisNamed, hasEveryAxis, positionOf, printShape, requireEqual, sameShape, without, type Axis, type Shape } from "../graph/shape.ts";
import { only } from "./only.ts";
import { stridesOf, walk, type Operator, type ReferenceTensor } from "./operator.ts";
import { reduce } from "./reduce.ts";

/** The same values along more axes. `shape` has every axis of `x`. */
export function expand(x: Edge, shape: Shape): Edge {
  if (sameShape(x.shape, shape)) return x;
  if (!hasEveryAxis(shape, x.shape)) {
    throw new Diagnostic({
      kind: "shape",
      message: `cannot expand ${printShape(x.shape)} to ${printShape(shape)}: an axis would be lost`,
      fix: "keep every axis of the tensor in the wider shape",
    });
  }
  return only(remember(makeNode({ op: "expand", shape }, [x], [{ dtype: x.dtype, shape }])));
}

/**
 * Splits every axis in factors, then groups the factors in new axes. Factors are numbered in the order of the input's
 * axes; factors of size 1 may be left out, and an empty group is an axis of size 1.
 */
export function rearrange(
  x: Edge,
  split: readonly (readonly Dim[])[],
  groups: readonly (readonly number[])[],
  names: readonly string[],
): Edge {
  const factors = split.flat();
  const shape = groups.map((group, i): Axis => ({
    name: names[i] ?? "",
    size: multiply(ONE, ...group.map((factor) => factors[factor] ?? ONE)),
  }));
  const plain = split.every((parts) => parts.length === 1) && groups.every((group, i) => group.length === 1 && group[0] === i);
  if (plain && sameShape(shape, x.shape)) return x;
  return only(remember(makeNode({ op: "rearrange", split, groups, names }, [x], [{ dtype: x.dtype, shape }])));
}

/** The axes in another order. */
export function permute(x: Edge, order: readonly string[]): Edge {
  const groups = order.map((name) => [positionOf(x.shape, name)]);
  return rearrange(x, x.shape.map((axis) => [axis.size]), groups, order);
}

/** The same axes under other names, by position. */
export function rename(x: Edge, names: readonly string[]): Edge {
  return rearrange(x, x.shape.map((axis) => [axis.size]), x.shape.map((_, i) => [i]), names);
}

export function slice(x: Edge, axis: string, start: Dim | number, size: Dim | number): Edge {
  const whole = requireAxis("slice", x, axis);
  if (toDim(size) === whole.size) return x;
  const shape = x.shape.map((each) => (each.name === axis ? { name: axis, size: toDim(size) } : each));
  return only(
    remember(makeNode({ op: "slice", axis, start: toDim(start), size: toDim(size) }, [x], [{ dtype: x.dtype, shape }])),
  );
}

/** Consecutive parts of one axis. Errors: the sizes do not add up to the axis. */
export function split(x: Edge, axis: string, sizes: readonly Dim[]): readonly Edge[] {
  const whole = requireAxis("split", x, axis);
  requireEqual(
    whole.size,
    add(...sizes),
    () =>
      new Diagnostic({
        kind: "shape",
        message: `axis "${axis}" of size ${printDim(whole.size)} cannot be split in parts of ${sizes.map(printDim).join(", ")}`,
        fix: "choose parts that add up to the size of the axis",
      }),
  );
  const types = sizes.map((size) => ({
    dtype: x.dtype,
    shape: x.shape.map((each) => (each.name === axis ? { name: axis, size } : each)),
  }));
  return remember(makeNode({ op: "split", axis, sizes }, [x], types)).results;
}

/** Tensors one after the other along `axis`; their other axes agree, in the order of the first. */
export function concat(parts: readonly Edge[], axis: string): Edge {
  const [first, ...rest] = parts;
  if (first === undefined) {
    throw new Diagnostic({ kind: "shape", message: "concat got no tensors", fix: "join at least one tensor" });
  }
  if (rest.length === 0) return first;
  const aligned = parts.map((part) => {
    requireAxis("concat", part, axis);
    const agrees =
      part.shape.length === first.shape.length && hasEveryAxis(first.shape, part.shape) && part.dtype === first.dtype;
    if (!agrees) {
      throw new Diagnostic({
        kind: "shape",
        message: `concat along "${axis}" joins ${printShape(first.shape)} ${first.dtype} with ${printShape(part.shape)} ${part.dtype}`,
        fix: "give all parts the same axes and the same type",
      });
    }
    for (const own of without(first.shape, [axis])) {
      const other = axisNamed(part.shape, own.name);
      requireEqual(
        own.size,
        other?.size ?? ZERO,
        () =>
          new Diagnostic({
            kind: "shape",
            message: `concat along "${axis}": axis "${own.name}" has sizes ${printDim(own.size)} and ${printDim(other?.size ?? ZERO)}`,
            fix: "only the axis that is joined may differ in size",
          }),
      );
    }
    return permute(part, first.shape.map((each) => each.name));
  });
  const total = add(...aligned.map((part) => axisNamed(part.shape, axis)?.size ?? ZERO));
  const shape = first.shape.map((each) => (each.name === axis ? { name: axis, size: total } : each));
  return only(remember(makeNode({ op: "concat", axis }, aligned, [{ dtype: first.dtype, shape }])));
}

export function pad(x: Edge, axis: string, before: Dim, after: Dim): Edge {
  const whole = requireAxis("pad", x, axis);
  if (before === ZERO && after === ZERO) return x;
  const shape = x.shape.map((each) =>
    each.name === axis ? { name: axis, size: add(before, whole.size, after) } : each,
  );
  return only(remember(makeNode({ op: "pad", axis, before, after }, [x], [{ dtype: x.dtype, shape }])));
}

function requireAxis(what: string, x: Edge, name: string): Axis {
  const axis = axisNamed(x.shape, name);
  if (axis !== undefined) return axis;
  throw new Diagnostic({
    kind: "shape",
    message: `${what} finds no axis "${name}" in ${printShape(x.shape)}`,
    fix: `use one of: ${x.shape.map((each) => each.name).join(", ")}`,
  });
}

/** How one axis is cut in factors of which one may be unknown. */
export function solveFactors(total: Dim, known: readonly (Dim | undefined)[]): Dim[] | undefined {
  const product = multiply(ONE, ...known.map((factor) => factor ?? ONE));
  if (known.every((factor) => factor !== undefined)) return known.map((factor) => factor);
  if (known.filter((factor) => factor === undefined).length > 1) return undefined;
  const missing = divideExactly(total, product);
  return missing === undefined ? undefined : known.map((factor) => factor ?? missing);
}

export const expandOperator: Operator<"expand"> = {
  name: "expand",
  words: "the same values along more axes",
  traits: { fuse: "view" },
  gradient: ({ inputs, gradients }) => {
    const [x] = inputs;
    const [dy] = gradients;
    if (x === undefined || dy === undefined) return [undefined];
    const extra = without(dy.shape, x.shape.map((axis) => axis.name)).map((axis) => axis.name);
    return [permute(reduce("sum", dy, extra), x.shape.map((axis) => axis.name))];
  },
  reference: ({ inputs, results }) => [readThrough(inputs[0], results[0], (name, dense) => dense.get(name) ?? 0)],
};

export const rearrangeOperator: Operator<"rearrange"> = {
  name: "rearrange",
  words: "axes split, permuted, merged and renamed",
  traits: { fuse: "view" },
  gradient: ({ operation, inputs, gradients }) => {
    const [x] = inputs;
    const [dy] = gradients;
    return [x === undefined || dy === undefined ? undefined : undoRearrange(operation, x, dy)];
  },
  reference: ({ operation, inputs, sizeOf }) => {
    const [x] = inputs;
    if (x === undefined) return [];
    const factors = operation.split.flat().map(sizeOf);
    const strides = stridesOf(factors);
    const kept = operation.groups.flat();
    const data = new Float64Array(x.data.length);
    walk(kept.map((factor) => factors[factor] ?? 1), [kept.map((factor) => strides[factor] ?? 0)], (position, [at = 0]) => {
      data[position] = x.data[at] ?? NaN;
    });
    return [data];
  },
};

/** The rearrangement that brings a tensor of the result's shape back to the input's. */
function undoRearrange(operation: OperationOf<"rearrange">, x: Edge, dy: Edge): Edge {
  const factors = operation.split.flat();
  const back = new Map<number, number>();
  operation.groups.flat().forEach((factor, at) => back.set(factor, at));
  let next = 0;
  const groups = operation.split.map((parts) =>
    parts.map(() => back.get(next++)).filter((at): at is number => at !== undefined),
  );
  const cut = operation.groups.map((group) => group.map((factor) => factors[factor] ?? ONE));
  return rearrange(dy, cut, groups, x.shape.map((axis) => axis.name));
}

export const sliceOperator: Operator<"slice"> = {
  name: "slice",
  words: "a range of one axis",
  traits: { fuse: "view" },
  gradient: ({ operation, inputs, gradients }) => {
    const [x] = inputs;
    const [dy] = gradients;
    if (x === undefined || dy === undefined) return [undefined];
    const whole = axisNamed(x.shape, operation.axis)?.size ?? ZERO;
    return [pad(dy, operation.axis, operation.start, subtract(whole, add(operation.start, operation.size)))];
  },
  reference: ({ operation, inputs, results, sizeOf }) => [
    readThrough(inputs[0], results[0], (name, dense) => dense.get(name) ?? 0, operation.axis, sizeOf(operation.start)),
  ],
};

export const splitOperator: Operator<"split"> = {
  name: "split",
  words: "consecutive parts of one axis",
  traits: { fuse: "view" },
  gradient: ({ operation, inputs, results, gradients }) => {
    const [x] = inputs;
    if (x === undefined) return [undefined];
    const parts = results.map((part, i) => gradients[i] ?? zerosLike(part));
    return [concat(parts, operation.axis)];
  },
  reference: ({ operation, inputs, results, sizeOf }) => {
    let start = 0;
    return operation.sizes.map((size, i) => {
      const part = readThrough(inputs[0], results[i], (name, dense) => dense.get(name) ?? 0, operation.axis, start);
      start += sizeOf(size);
      return part;
    });
  },
};

export const concatOperator: Operator<"concat"> = {
  name: "concat",
  words: "tensors one after the other along an axis",
  traits: { fuse: "join" },
  gradient: ({ operation, inputs, gradients }) => {
    const [dy] = gradients;
    if (dy === undefined) return inputs.map(() => undefined);
    return split(dy, operation.axis, inputs.map((part) => axisNamed(part.shape, operation.axis)?.size ?? ZERO));
  },
  reference: ({ operation, inputs, results }) => {
    const [out] = results;
    if (out === undefined) return [];
    const data = new Float64Array(out.sizes.reduce((a, b) => a * b, 1));
    const dense = stridesOf(out.sizes);
    const axis = out.names.indexOf(operation.axis);
    let start = 0;
    for (const part of inputs) {
      const offset = start * (dense[axis] ?? 0);
      walk(part.sizes, [dense], (position, [at = 0]) => {
        data[offset + at] = part.data[position] ?? NaN;
      });
      start += part.sizes[axis] ?? 0;
    }
    return [data];
  },
};

export const padOperator: Operator<"pad"> = {
  name: "pad",
  words: "zeros before and after, along one axis",
  traits: { fuse: "anchor" },
  gradient: ({ operation, inputs, gradients }) => {
    const [x] = inputs;
    const [dy] = gradients;
    if (x === undefined || dy === undefined) return [undefined];
    return [slice(dy, operation.axis, operation.before, axisNamed(x.shape, operation.axis)?.size ?? ZERO)];
  },
  reference: ({ operation, inputs, results, sizeOf }) => {
    const [x] = inputs;
    const [out] = results;
    if (x === undefined || out === undefined) return [];
    const data = new Float64Array(out.sizes.reduce((a, b) => a * b, 1));
    const dense = stridesOf(out.sizes);
    const offset = sizeOf(operation.before) * (dense[out.names.indexOf(operation.axis)] ?? 0);
    walk(x.sizes, [dense], (position, [at = 0]) => {
      data[offset + at] = x.data[position] ?? NaN;
    });
    return [data];
  },
};

/** Reads `x` at the places of a result, along named strides, from `start` on along one axis. */
function readThrough(
  x: ReferenceTensor | undefined,
  out: { readonly sizes: readonly number[]; readonly names: readonly string[] } | undefined,
  strideOf: (name: string, dense: ReadonlyMap<string, number>) => number,
  axis?: string,
  start = 0,
): Float64Array {
  if (x === undefined || out === undefined) return new Float64Array(0);
  const dense = new Map(stridesOf(x.sizes).map((stride, i) => [x.names[i] ?? "", stride]));
  const offset = axis === undefined ? 0 : start * (dense.get(axis) ?? 0);
  const data = new Float64Array(out.sizes.reduce((a, b) => a * b, 1));
  walk(out.sizes, [out.names.map((name) => strideOf(name, dense))], (position, [at = 0]) => {
    data[position] = x.data[offset + at] ?? NaN;
  });
  return data;
}

/** A zero for every element of a tensor. */
export function zerosLike(x: Edge): Edge {
  const zero = makeNode({ op: "constant", type: { dtype: x.dtype, shape: [] }, values: ZERO_TABLE }, [], [{ dtype: x.dtype, shape: [] }]);
  return expand(only(remember(zero)), x.shape);
}

const ZERO_TABLE: readonly number[] = Object.freeze([0]);
