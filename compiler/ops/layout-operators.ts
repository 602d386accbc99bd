/** What the layout operators of `layout.ts` compute, and their gradients: each is undone by another one. */
import { add, ONE, subtract, ZERO } from "../graph/dim.ts";
import type { Edge, OperationOf } from "../graph/node.ts";
import { axisNamed, without } from "../graph/shape.ts";
import { concat, pad, permute, rearrange, slice, split, zerosLike } from "./layout.ts";
import { stridesOf, walk, type Operator, type ReferenceTensor } from "./operator.ts";
import { reduce } from "./reduce.ts";

export const expandOperator: Operator<"expand"> = {
  name: "expand",
  words: "the same values along more axes",
  traits: { fuse: "view" },
  gradient: ({ inputs, gradients }) => {
    const [x] = inputs;
    const [dy] = gradients;
    if (x === undefined || dy === undefined) return [undefined];
    const extra = without(
      dy.shape,
      x.shape.map((axis) => axis.name),
    ).map((axis) => axis.name);
    return [
      permute(
        reduce("sum", dy, extra),
        x.shape.map((axis) => axis.name),
      ),
    ];
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
    walk(
      kept.map((factor) => factors[factor] ?? 1),
      [kept.map((factor) => strides[factor] ?? 0)],
      (position, [at = 0]) => {
        data[position] = x.data[at] ?? NaN;
      },
    );
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
  return rearrange(
    dy,
    cut,
    groups,
    x.shape.map((axis) => axis.name),
  );
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
    return split(
      dy,
      operation.axis,
      inputs.map((part) => axisNamed(part.shape, operation.axis)?.size ?? ZERO),
    );
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
  traits: { fuse: "scalar" },
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
