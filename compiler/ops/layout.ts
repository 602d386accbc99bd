/** Layout: the same values at other places. Shapes change, numbers do not. The records are in `layout-operators.ts`. */
import { CompilerBug, Diagnostic } from "../../contract/diagnostic.ts";
import { add, divideExactly, multiply, ONE, printDim, toDim, ZERO, type Dim } from "../graph/dim.ts";
import { makeNode, type Edge } from "../graph/node.ts";
import { remember } from "../graph/origin.ts";
import {
  axisNamed,
  hasEveryAxis,
  positionOf,
  printShape,
  requireEqual,
  sameShape,
  without,
  type Axis,
  type Shape,
} from "../graph/shape.ts";
import { only } from "./only.ts";

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
  for (const own of x.shape) {
    const wide = axisNamed(shape, own.name)?.size ?? ZERO;
    requireEqual(
      own.size,
      wide,
      () =>
        new Diagnostic({
          kind: "shape",
          message: `cannot expand axis "${own.name}" from ${printDim(own.size)} to ${printDim(wide)}`,
          details: [`from  ${printShape(x.shape)}`, `to    ${printShape(shape)}`],
          fix: "only new axes can be added; repeat an axis by adding one and merging the two",
        }),
    );
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
  checkFactors(x, split);
  const shape = groups.map((group, i): Axis => ({
    name: names[i] ?? "",
    size: multiply(ONE, ...group.map((factor) => factors[factor] ?? ONE)),
  }));
  const plain =
    split.every((parts) => parts.length === 1) && groups.every((group, i) => group.length === 1 && group[0] === i);
  if (plain && sameShape(shape, x.shape)) return x;
  return only(remember(makeNode({ op: "rearrange", split, groups, names }, [x], [{ dtype: x.dtype, shape }])));
}

function checkFactors(x: Edge, split: readonly (readonly Dim[])[]): void {
  if (split.length !== x.shape.length) {
    throw new CompilerBug("rearrange", `${String(split.length)} splits for the axes ${printShape(x.shape)}`);
  }
  x.shape.forEach((axis, i) => {
    const parts = split[i] ?? [];
    requireEqual(
      axis.size,
      multiply(ONE, ...parts),
      () =>
        new Diagnostic({
          kind: "shape",
          message: `axis "${axis.name}" of size ${printDim(axis.size)} cannot be split in factors ${parts.map(printDim).join(", ")}`,
          fix: "choose factors whose product is the size of the axis",
        }),
    );
  });
}

/** The axes in another order. */
export function permute(x: Edge, order: readonly string[]): Edge {
  const groups = order.map((name) => [positionOf(x.shape, name)]);
  return rearrange(
    x,
    x.shape.map((axis) => [axis.size]),
    groups,
    order,
  );
}

/** The same axes under other names, by position. */
export function rename(x: Edge, names: readonly string[]): Edge {
  return rearrange(
    x,
    x.shape.map((axis) => [axis.size]),
    x.shape.map((_, i) => [i]),
    names,
  );
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
    return permute(
      part,
      first.shape.map((each) => each.name),
    );
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

/**
 * A zero for every element of a tensor. The zeros of differentiation stand for what is absent: unlike a zero that a
 * user wrote, they may be dropped from products, whatever the other factor is.
 */
export function zerosLike(x: Edge): Edge {
  const type = { dtype: x.dtype, shape: [] };
  return expand(only(remember(makeNode({ op: "constant", type, values: ZERO_TABLE }, [], [type], ABSENT))), x.shape);
}

export const isZeros = (edge: Edge): boolean => edge.node.operation.op === "constant" && edge.node.identity === ABSENT;

const ABSENT = "absent";
const ZERO_TABLE: readonly number[] = Object.freeze([0]);
