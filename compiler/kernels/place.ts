/**
 * Places: how a tensor lies in memory. A storage is a run of elements; a place is a strided window on it. Views (slices,
 * permutations, merged axes) are other places on the same storage; coordinates say which element of a tensor a kernel's
 * loops are at.
 */
import type { DType } from "../../contract/dtype.ts";
import { add, multiply, ONE, ZERO, type Dim } from "../graph/dim.ts";
import type { Edge, OperationOf } from "../graph/node.ts";
import { axisNamed, denseStrides, elementsOf, type Shape } from "../graph/shape.ts";
import type { Lookup } from "./kernel.ts";

export interface Storage {
  readonly name: string;
  readonly dtype: DType;
  readonly elements: Dim;
  readonly kind: StorageKind;
}

export type StorageKind =
  | { readonly of: "input" | "state" | "output"; readonly name: string }
  | { readonly of: "constant"; readonly edge: Edge }
  | { readonly of: "temporary" };

export interface Place {
  readonly storage: Storage;
  /** One stride per axis of the tensor, in elements. */
  readonly strides: readonly Dim[];
  readonly offset: Dim;
}

export const densePlace = (storage: Storage, shape: Shape): Place => ({
  storage,
  strides: denseStrides(shape),
  offset: ZERO,
});

export function makeStorage(name: string, dtype: DType, shape: Shape, kind: StorageKind): Storage {
  return { name, dtype, elements: elementsOf(shape), kind };
}

/** Where along one axis of a tensor an element lies: a sum over the loops of a kernel, and data-dependent terms. */
export interface Coordinate {
  readonly terms: ReadonlyMap<number, Dim>;
  readonly offset: Dim;
  readonly lookups: readonly Lookup[];
}

const NOWHERE: ReadonlyMap<number, Dim> = new Map();
export const ORIGIN: Coordinate = { terms: NOWHERE, offset: ZERO, lookups: [] };

const loops: Coordinate[] = [];

/** The index of one loop. */
export function along(loop: number): Coordinate {
  return (loops[loop] ??= { terms: new Map([[loop, ONE]]), offset: ZERO, lookups: [] });
}

export function scaled(coordinate: Coordinate, by: Dim): Coordinate {
  if (by === ONE) return coordinate;
  return {
    terms: new Map([...coordinate.terms].map(([loop, stride]) => [loop, multiply(stride, by)])),
    offset: multiply(coordinate.offset, by),
    lookups: coordinate.lookups.map((lookup) => ({ ...lookup, stride: multiply(lookup.stride, by) })),
  };
}

export function plus(a: Coordinate, b: Coordinate): Coordinate {
  const terms = new Map(a.terms);
  for (const [loop, stride] of b.terms) terms.set(loop, add(terms.get(loop) ?? ZERO, stride));
  return { terms, offset: add(a.offset, b.offset), lookups: [...a.lookups, ...b.lookups] };
}

export const shifted = (coordinate: Coordinate, by: Dim): Coordinate => ({
  ...coordinate,
  offset: add(coordinate.offset, by),
});

const keys = new WeakMap<Coordinate, string>();

/** A text that is equal for equal coordinates. */
export function coordinateKey(coordinate: Coordinate): string {
  const known = keys.get(coordinate);
  if (known !== undefined) return known;
  let key = `${coordinate.offset.id}`;
  for (const [loop, stride] of coordinate.terms) key += `,${loop}:${stride.id}`;
  for (const lookup of coordinate.lookups) key += `,${lookup.stride.id}@${lookup.index.id}`;
  keys.set(coordinate, key);
  return key;
}

type ViewOperation = "expand" | "rearrange" | "slice" | "split" | "stopGradient";
type View = { [Name in ViewOperation]: OperationOf<Name> }[ViewOperation];

export const isView = (operation: { readonly op: string }): operation is View =>
  ["expand", "rearrange", "slice", "split", "stopGradient"].includes(operation.op);

/**
 * The coordinates in a view's input, given those in the view. Undefined when the view merges axes: one coordinate would
 * have to be taken apart again, and then the input has to lie in memory.
 */
export function coordinatesThrough(
  view: View,
  result: number,
  input: Edge,
  viewShape: Shape,
  at: readonly Coordinate[],
): readonly Coordinate[] | undefined {
  const named = (name: string): Coordinate => at[viewShape.findIndex((axis) => axis.name === name)] ?? ORIGIN;
  switch (view.op) {
    case "stopGradient":
      return at;
    case "expand":
      return input.shape.map((axis) => named(axis.name));
    case "slice":
      return at.map((coordinate, i) =>
        viewShape[i]?.name === view.axis ? shifted(coordinate, view.start) : coordinate,
      );
    case "split": {
      const start = add(...view.sizes.slice(0, result));
      return at.map((coordinate, i) => (viewShape[i]?.name === view.axis ? shifted(coordinate, start) : coordinate));
    }
    case "rearrange": {
      const factors = view.split.flat();
      const found: Coordinate[] = factors.map(() => ORIGIN);
      for (const [i, group] of view.groups.entries()) {
        const wide = group.filter((factor) => factors[factor] !== ONE);
        if (wide.length > 1) return undefined;
        const [factor] = wide;
        if (factor !== undefined) found[factor] = at[i] ?? ORIGIN;
      }
      let next = 0;
      return view.split.map((parts) => {
        const own = parts.map((size) => ({ size, coordinate: found[next++] ?? ORIGIN }));
        let stride = ONE;
        let sum = ORIGIN;
        for (const part of own.reverse()) {
          sum = plus(sum, scaled(part.coordinate, stride));
          stride = multiply(stride, part.size);
        }
        return sum;
      });
    }
    default:
      return view satisfies never;
  }
}

/** The place of a view on a tensor that lies at `place`; undefined when merged axes do not follow each other in memory. */
export function placeThrough(
  view: View,
  result: number,
  input: Edge,
  viewShape: Shape,
  place: Place,
): Place | undefined {
  const strideOf = (name: string): Dim => place.strides[input.shape.findIndex((axis) => axis.name === name)] ?? ZERO;
  switch (view.op) {
    case "stopGradient":
      return place;
    case "expand":
      return {
        ...place,
        strides: viewShape.map((axis) =>
          axisNamed(input.shape, axis.name) === undefined ? ZERO : strideOf(axis.name),
        ),
      };
    case "slice":
      return { ...place, offset: add(place.offset, multiply(view.start, strideOf(view.axis))) };
    case "split": {
      const start = add(...view.sizes.slice(0, result));
      return { ...place, offset: add(place.offset, multiply(start, strideOf(view.axis))) };
    }
    case "rearrange": {
      const strides = factorStrides(view.split, place.strides);
      const merged = view.groups.map((group) => mergedStride(group, view.split.flat(), strides));
      return merged.every((stride) => stride !== undefined) ? { ...place, strides: merged } : undefined;
    }
    default:
      return view satisfies never;
  }
}

/** The place of a rearrangement's input such that the result lies at `place`; undefined when strides cannot say it. */
export function placeBehind(view: OperationOf<"rearrange">, place: Place): Place | undefined {
  const factors = view.split.flat();
  const strides: Dim[] = factors.map(() => ZERO);
  for (const [i, group] of view.groups.entries()) {
    let stride = place.strides[i] ?? ZERO;
    for (const factor of [...group].reverse()) {
      strides[factor] = stride;
      stride = multiply(stride, factors[factor] ?? ONE);
    }
  }
  let next = 0;
  const merged = view.split.map((parts) =>
    mergedStride(
      parts.map(() => next++),
      factors,
      strides,
    ),
  );
  return merged.every((stride) => stride !== undefined) ? { ...place, strides: merged } : undefined;
}

/** Strides of the factors that axes are split in. */
export function factorStrides(split: readonly (readonly Dim[])[], strides: readonly Dim[]): Dim[] {
  return split.flatMap((parts, i) => {
    const inside = parts.map((_, k) => multiply(ONE, ...parts.slice(k + 1)));
    return inside.map((stride) => multiply(stride, strides[i] ?? ZERO));
  });
}

/** The stride of one axis made of several factors; undefined when they do not follow each other. */
function mergedStride(group: readonly number[], sizes: readonly Dim[], strides: readonly Dim[]): Dim | undefined {
  const wide = group.filter((factor) => sizes[factor] !== ONE);
  for (let i = 0; i + 1 < wide.length; i++) {
    const inner = wide[i + 1] ?? 0;
    if (strides[wide[i] ?? 0] !== multiply(strides[inner] ?? ZERO, sizes[inner] ?? ONE)) return undefined;
  }
  const last = wide[wide.length - 1];
  return last === undefined ? ONE : strides[last];
}
