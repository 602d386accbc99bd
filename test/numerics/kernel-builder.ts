/** Kernels spelled briefly: operands by the names of their axes in memory order, values as formulas. */
import type { DType, ScalarType } from "../../contract/dtype.ts";
import { registerOf } from "../../contract/dtype.ts";
import { evaluateSize } from "../../contract/size.ts";
import { constant, multiply, ONE, symbol, symbolsOf, toSize, ZERO, type Dim } from "../../compiler/graph/dim.ts";
import type { Access, Axis, Kernel, Reduction, Store } from "../../compiler/kernels/kernel.ts";
import { parseFormula } from "../../compiler/notation/formula.ts";
import type { Case } from "./harness.ts";

export interface Spelled {
  readonly anchor: "map" | "rows" | "columns";
  readonly name: string;
  readonly formula?: string;
  /** `{ batch: 2, tokens: "tokens" }`: sizes, or the names of symbols. */
  readonly axes: Readonly<Record<string, number | string>>;
  /** Name -> type and axes in memory order: `["bf16", "batch tokens hidden"]`. They are a0 a1 … */
  readonly reads: Readonly<Record<string, readonly [DType, string]>>;
  /** Name -> type, axes in memory order, formula. */
  readonly writes: Readonly<Record<string, readonly [DType, string, string]>>;
  readonly scalars?: readonly ScalarType[];
  /** rows: the axes before this one count rows; reductions as `sum a0 * a0`, stage by stage. */
  readonly outer?: number;
  readonly stages?: readonly (readonly string[])[];
  /** columns: the axes summed over. */
  readonly reduced?: string;
  readonly reductions?: readonly string[];
}

const wordsOf = (text: string): string[] => text.split(" ").filter((word) => word !== "");

export function spell(spelled: Spelled): Kernel {
  const axes: Axis[] = Object.entries(spelled.axes).map(([name, size]) => ({
    name,
    size: typeof size === "number" ? constant(size) : symbol(size),
  }));
  const stridesOf = (text: string): Dim[] => {
    const strides = axes.map(() => ZERO);
    let stride: Dim = ONE;
    for (const word of wordsOf(text).reverse()) {
      const axis = axes.findIndex(({ name }) => name === word);
      if (axis >= 0) strides[axis] = stride;
      stride = multiply(stride, axes[axis]?.size ?? Number(word)); // a number is padding
    }
    return strides;
  };
  const listed = [...Object.entries(spelled.reads), ...Object.entries(spelled.writes)];
  const operands = listed.map(([name, [dtype]], i) => ({
    name,
    dtype,
    role: i < Object.keys(spelled.reads).length ? ("read" as const) : ("write" as const),
  }));
  const accesses: Access[] = listed.map(([, [, along]], operand) => ({
    operand,
    strides: stridesOf(along),
    lookups: [],
  }));

  const types: Record<string, ScalarType> = { linear: "u32" };
  operands.forEach(({ dtype }, i) => (types[`a${i}`] = registerOf(dtype)));
  axes.forEach((_, i) => (types[`i${i}`] = "i32"));
  (spelled.scalars ?? []).forEach((type, i) => (types[`s${i}`] = type));
  let count = 0;
  const reduction = (text: string): Reduction => {
    const [operation = "", ...words] = text.split(" ");
    return { operation: operation as Reduction["operation"], value: parseFormula(words.join(" "), types) };
  };
  const numbered = (list: readonly string[]): Reduction[] => {
    const made = list.map(reduction);
    made.forEach(({ value }) => (types[`r${count++}`] = value.type));
    return made;
  };
  const stages = (spelled.stages ?? []).map(numbered);
  const reductions = numbered(spelled.reductions ?? []);
  const stores: Store[] = Object.values(spelled.writes).map(([, , formula], i) => ({
    access: Object.keys(spelled.reads).length + i,
    value: parseFormula(formula, types),
  }));
  const symbols = [...new Set(axes.flatMap(({ size }) => symbolsOf(size)))].sort();
  const common = {
    name: spelled.name,
    formula:
      spelled.formula ??
      Object.values(spelled.writes)
        .map(([, , formula]) => formula)
        .join("; "),
    ...{ operands, scalars: spelled.scalars ?? [], symbols, axes, accesses, stores },
  };
  if (spelled.anchor === "map") return { ...common, anchor: "map" };
  if (spelled.anchor === "columns") {
    const reduced = axes.map(({ name }) => wordsOf(spelled.reduced ?? "").includes(name));
    return { ...common, anchor: "columns", reduced, reductions };
  }
  const outer = spelled.outer ?? 1;
  const perRow = stores.map(({ access }) => accesses[access]!.strides.slice(outer).every((stride) => stride === ZERO));
  return { ...common, anchor: "rows", outer, stages, perRow };
}

/** A case of a spelled kernel: reads filled by `fill(operand, element)`, writes as long as their axes make them. */
export function caseOf(
  spelled: Spelled,
  fill: (operand: string, element: number) => number,
  options: {
    sizes?: Readonly<Record<string, number>>;
    scalars?: readonly number[];
    inPlace?: Record<string, string>;
  } = {},
): Case {
  const kernel = spell(spelled);
  const sizes = options.sizes ?? {};
  const bound = new Map(Object.entries(sizes));
  const counts = kernel.operands.map((_, i) =>
    kernel.axes.reduce((most, { size }, axis) => {
      const stride = evaluateSize(toSize(kernel.accesses[i]!.strides[axis]!), bound);
      return most + stride * (evaluateSize(toSize(size), bound) - 1);
    }, 1),
  );
  const place = (name: string): number => kernel.operands.findIndex((operand) => operand.name === name);
  return {
    kernel,
    sizes,
    operands: kernel.operands.map(({ name, role }, i) =>
      role === "write" ? counts[i]! : Float64Array.from({ length: counts[i]! }, (_, element) => fill(name, element)),
    ),
    ...(options.scalars === undefined ? {} : { scalars: options.scalars }),
    inPlace: new Map(Object.entries(options.inPlace ?? {}).map(([write, read]) => [place(write), place(read)])),
  };
}

/** A value in [-1, 1] with eighteen bits, different for every element and seed. */
export const noise = (seed: number, element: number): number => {
  const mixed = Math.imul(Math.imul(element + 1, 0x9e3779b1) ^ Math.imul(seed + 7, 0x85ebca6b), 0xc2b2ae35);
  return ((mixed ^ (mixed >>> 15)) >> 14) / 2 ** 17;
};
