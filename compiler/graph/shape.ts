/** Shapes: lists of named axes. Tensors meet by the names of their axes, never by position. */
import { Diagnostic } from "../../contract/diagnostic.ts";
import { multiply, ONE, printDim, staticValue, subtract, symbolsOf, type Dim } from "./dim.ts";

export interface Axis {
  readonly name: string;
  readonly size: Dim;
}

export type Shape = readonly Axis[];

export const printShape = (shape: Shape): string => `[${shape.map(printAxis).join(", ")}]`;

/** `batch` for an axis whose size is the symbol of its name, else `width=1152`. */
export function printAxis(axis: Axis): string {
  const size = printDim(axis.size);
  return size === axis.name ? axis.name : `${axis.name}=${size}`;
}

export const axisNamed = (shape: Shape, name: string): Axis | undefined => shape.find((axis) => axis.name === name);

export const positionOf = (shape: Shape, name: string): number => shape.findIndex((axis) => axis.name === name);

export const elementsOf = (shape: Shape): Dim => multiply(ONE, ...shape.map((axis) => axis.size));

export const sameShape = (a: Shape, b: Shape): boolean =>
  a.length === b.length && a.every((axis, i) => axis.name === b[i]?.name && axis.size === b[i].size);

export const hasEveryAxis = (shape: Shape, of: Shape): boolean =>
  of.every((axis) => axisNamed(shape, axis.name) !== undefined);

export const without = (shape: Shape, names: readonly string[]): Shape =>
  shape.filter((axis) => !names.includes(axis.name));

export const shapeSymbols = (shape: Shape): string[] =>
  [...new Set(shape.flatMap((axis) => symbolsOf(axis.size)))].sort();

/** The strides of a dense row-major layout, in elements. */
export function denseStrides(shape: Shape): Dim[] {
  const strides: Dim[] = [];
  let stride = ONE;
  for (const axis of [...shape].reverse()) {
    strides.unshift(stride);
    stride = multiply(stride, axis.size);
  }
  return strides;
}

/** Equalities that algebra could not decide: they are checked when a shape is bound. */
export interface Equality {
  readonly left: Dim;
  readonly right: Dim;
  readonly message: string;
}

/**
 * Holds when the two sizes are equal for every value of the symbols; collects an `Equality` when only binding can
 * tell; throws `fail()` when they can never be equal.
 */
export function requireEqual(a: Dim, b: Dim, fail: () => Diagnostic): void {
  if (a === b) return;
  if (staticValue(subtract(a, b)) !== undefined) throw fail();
  const key = `${a.key}=${b.key}`;
  if (!undecided.has(key)) undecided.set(key, { left: a, right: b, message: fail().parts.message });
}

const undecided = new Map<string, Equality>();

/** The equalities collected since the last call, each once. */
export function takeUndecided(): Equality[] {
  const taken = [...undecided.values()];
  undecided.clear();
  return taken;
}

/**
 * The shape in which tensors meet element by element: one of them must have every axis of all the others, and gives
 * the order; axes of the same name must agree in size.
 */
export function meet(operator: string, shapes: readonly Shape[]): Shape {
  const widest = shapes.find((candidate) => shapes.every((shape) => hasEveryAxis(candidate, shape)));
  if (widest === undefined) {
    throw new Diagnostic({
      kind: "shape",
      message: `${operator} cannot join these shapes: none has all axes of the others`,
      details: shapes.map((shape, i) => `input ${String(i)}  ${printShape(shape)}`),
      fix: "name the axes alike with .rename(…), or spread one of them on purpose with .expand(…)",
    });
  }
  for (const axis of widest) {
    for (const shape of shapes) {
      const other = axisNamed(shape, axis.name);
      if (other === undefined) continue;
      requireEqual(
        axis.size,
        other.size,
        () =>
          new Diagnostic({
            kind: "shape",
            message: `${operator} meets axis "${axis.name}" of sizes ${printDim(axis.size)} and ${printDim(other.size)}`,
            details: shapes.map((each, i) => `input ${String(i)}  ${printShape(each)}`),
            fix: `make both ${printDim(axis.size)}, or rename one of the axes`,
          }),
      );
    }
  }
  return widest;
}
