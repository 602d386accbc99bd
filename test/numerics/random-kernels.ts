/**
 * Random kernels of the anchors map, rows and columns, with inputs: odd and symbolic sizes, several axes, broadcast,
 * permuted and padded operands, every element type, guards, lookups, scalars, indices, in-place and several stores.
 *
 * Inputs are multiples of 1/8 of small magnitude, which every float type holds exactly, so that comparisons and
 * conversions to integers mean the same in float32 and in float64.
 */
import fc from "fast-check";
import type { DType, ScalarType } from "../../contract/dtype.ts";
import { registerOf } from "../../contract/dtype.ts";
import { philox4x32 } from "../../contract/philox.ts";
import { evaluateSize } from "../../contract/size.ts";
import { constant, multiply, ONE, symbol, toSize, ZERO, type Dim } from "../../compiler/graph/dim.ts";
import type { Access, Axis, Kernel, Operand, Reduction, Store } from "../../compiler/kernels/kernel.ts";
import { literal, variable, type Expression } from "../../compiler/notation/expression.ts";
import { call } from "../../compiler/notation/functions.ts";
import type { Case } from "./harness.ts";

export type Anchor = "map" | "rows" | "columns";

/** A whole number from 0 to `most`. */
type Gen = (most: number) => number;

const FLOATS: readonly DType[] = ["f32", "f32", "f32", "bf16", "f16", "f64"];
const WHOLES: readonly DType[] = ["i32", "u32", "u8"];
const SIZES = [1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 31, 64, 72, 100, 129];

/** Reproducible: the same seed gives the same kernels. */
export const randomCases = (anchor: Anchor, count: number, seed: number): Case[] =>
  fc.sample(fc.nat(), { numRuns: count, seed }).map((one) => build(generatorOf(one), anchor));

/** Even choices: a kernel should be as long as it is wide, which arbitraries that prefer small values are not. */
function generatorOf(seed: number): Gen {
  let draws = 0;
  return (most) => philox4x32([draws++, 0, 0, 0], [seed, 0])[0] % (most + 1);
}

interface Draft {
  readonly gen: Gen;
  readonly axes: Axis[];
  readonly extents: number[];
  readonly sizes: Record<string, number>;
  readonly operands: Operand[];
  readonly data: (number[] | number)[];
  readonly accesses: Access[];
  readonly scalars: number[];
  readonly inPlace: Map<number, number>;
}

const pick = <T>(gen: Gen, list: readonly T[]): T => list[gen(list.length - 1)]!;
const chance = (gen: Gen, percent: number): boolean => gen(99) < percent;
const eighths = (gen: Gen, count: number, low: number, high: number): number[] => {
  const seed = gen(1e9);
  // A cheap generator of our own: an arbitrary per element would be slow.
  return Array.from({ length: count }, (_, i) => {
    const mixed = Math.imul((seed + i * 0x9e3779b1) ^ ((seed + i) >>> 7), 0x85ebca6b) >>> 8;
    return low + (mixed % ((high - low) * 8 + 1)) / 8;
  });
};

function build(gen: Gen, anchor: Anchor): Case {
  const draft: Draft = {
    ...{ gen, axes: [], extents: [], sizes: {}, operands: [], data: [], accesses: [], scalars: [], inPlace: new Map() },
  };
  addAxes(draft, anchor);
  const rank = draft.axes.length;
  const all = draft.axes.map((_, axis) => axis);
  const reads = Array.from({ length: 1 + gen(2) }, () => addRead(draft));
  if (chance(gen, 30)) reads.push(addGather(draft));
  if (chance(gen, 30)) reads.push(addShifted(draft));
  if (chance(gen, 40)) draft.scalars.push(pick(gen, [0.5, -1.25, 2]));
  const common = { name: `random_${anchor}`, formula: "a random kernel" };
  const finish = (kernel: object): Case => ({
    kernel: {
      ...common,
      operands: draft.operands,
      scalars: draft.scalars.map(() => "f32"),
      symbols: Object.keys(draft.sizes).sort(),
      axes: draft.axes,
      accesses: draft.accesses,
      ...kernel,
    } as unknown as Kernel,
    sizes: draft.sizes,
    operands: draft.data,
    inPlace: draft.inPlace,
    scalars: draft.scalars,
  });

  if (anchor === "map") {
    const inPlaceOf = addInPlace(draft, all);
    const stores = [
      ...(inPlaceOf === undefined ? [] : [inPlaceOf]),
      ...addStores(draft, all, leavesOf(draft, all, [], true)),
    ];
    return finish({ anchor, stores });
  }
  if (anchor === "rows") {
    const outer = gen(rank - 1);
    const known: Expression[] = [];
    const stages: Reduction[][] = [];
    for (let s = 0; s <= gen(1); s++) {
      const stage = Array.from({ length: 1 + gen(1) }, () => addReduction(draft, leavesOf(draft, all, known, true)));
      stage.forEach((reduction) => known.push(variable(`r${known.length}`, reduction.value.type)));
      stages.push(stage);
    }
    const outerAxes = all.filter((axis) => axis < outer);
    const inner = chance(gen, 70) ? addStores(draft, all, leavesOf(draft, all, known, true)) : [];
    const perRow =
      inner.length === 0 || chance(gen, 50)
        ? addStores(draft, outerAxes, leavesOf(draft, outerAxes, known, false))
        : [];
    return finish({
      anchor,
      outer,
      stages,
      stores: [...inner, ...perRow],
      perRow: [...inner.map(() => false), ...perRow.map(() => true)],
    });
  }
  const reduced = all.map((axis) => axis !== rank - 1 && (axis === rank - 2 || chance(gen, 50)));
  const kept = all.filter((axis) => reduced[axis] !== true);
  const reductions = Array.from({ length: 1 + gen(2) }, () => addReduction(draft, leavesOf(draft, all, [], true)));
  const known = reductions.map((reduction, i) => variable(`r${i}`, reduction.value.type));
  return finish({ anchor, reduced, reductions, stores: addStores(draft, kept, leavesOf(draft, kept, known, false)) });
}

/** Axes of which some sizes are symbols; not too many elements for the interpreter. */
function addAxes({ gen, axes, extents, sizes }: Draft, anchor: Anchor): void {
  const rank = (anchor === "columns" ? 2 : 1) + gen(3);
  let room = 12000;
  for (let axis = 0; axis < rank; axis++) {
    const fitting = SIZES.filter((size) => size <= room);
    const long = axis === rank - 1 && chance(gen, 15) ? Math.min(room, 5000) : undefined;
    const extent = long ?? pick(gen, fitting);
    room = Math.max(1, Math.floor(room / extent));
    const name = `${"pqrst"[axis]!}_axis`;
    const symbolic = chance(gen, 45);
    if (symbolic) sizes[`n_${"pqrst"[axis]!}`] = extent;
    axes.push({ name, size: symbolic ? symbol(`n_${"pqrst"[axis]!}`) : constant(extent) });
    extents.push(extent);
  }
}

const valueOf = (draft: Draft, dim: Dim): number => evaluateSize(toSize(dim), new Map(Object.entries(draft.sizes)));

/** Strides of an operand that varies over `along`, perhaps permuted and with padding, and how many elements it spans. */
function layOut(draft: Draft, along: readonly number[], plain: boolean): { strides: Dim[]; count: number } {
  const { gen } = draft;
  const order = [...along];
  if (!plain && chance(gen, 30)) order.sort((a, b) => ((a * 7 + 3) % 5) - ((b * 7 + 3) % 5));
  const strides: Dim[] = draft.axes.map(() => ZERO);
  let stride: Dim = !plain && chance(gen, 12) ? constant(2) : ONE;
  for (const axis of order.reverse()) {
    strides[axis] = stride;
    stride = multiply(stride, draft.axes[axis]!.size);
    if (!plain && chance(gen, 10)) stride = multiply(stride, 2);
  }
  return { strides, count: valueOf(draft, stride) };
}

function addOperand(draft: Draft, dtype: DType, role: "read" | "write", data: number[] | number): number {
  draft.operands.push({ name: `${role === "read" ? "x" : "y"}${draft.operands.length}`, dtype, role });
  draft.data.push(data);
  return draft.operands.length - 1;
}

const dataOf = (gen: Gen, dtype: DType, count: number): number[] => {
  if (dtype === "bool") return eighths(gen, count, 0, 1).map((value) => (value > 0.5 ? 1 : 0));
  const register = registerOf(dtype);
  if (register === "i32" || register === "u32")
    return eighths(gen, count, 0, 4).map((value) => Math.round(value * 8) - (dtype === "i32" ? 16 : 0));
  return eighths(gen, count, -2, 2);
};

const variableOf = (draft: Draft, access: number): Expression =>
  variable(`a${access}`, registerOf(draft.operands[draft.accesses[access]!.operand]!.dtype));

/** A plain, broadcast, permuted or padded operand; gives the number of its access. */
function addRead(draft: Draft): number {
  const { gen } = draft;
  const dtype = chance(gen, 65) ? pick(gen, FLOATS) : pick(gen, [...WHOLES, "bool" as const]);
  const along = draft.axes.map((_, axis) => axis).filter(() => !chance(gen, 25));
  const { strides, count } = layOut(draft, along, false);
  const operand = addOperand(draft, dtype, "read", dataOf(gen, dtype, count));
  draft.accesses.push({ operand, strides, lookups: [] });
  return draft.accesses.length - 1;
}

/** A table of rows along the last axis, the row given by an i32 operand along another: an embedding. */
function addGather(draft: Draft): number {
  const { gen } = draft;
  const last = draft.axes.length - 1;
  const along = draft.axes.map((_, axis) => axis).filter((axis) => axis !== last && !chance(gen, 30));
  const entries = 5;
  const { strides, count } = layOut(draft, along, false);
  const indices = dataOf(gen, "u32", count).map((value) => value % entries);
  const index = addOperand(draft, "i32", "read", indices);
  draft.accesses.push({ operand: index, strides, lookups: [] });
  const lookup = variableOf(draft, draft.accesses.length - 1);
  const row = draft.axes[last]!.size;
  const dtype = pick(gen, FLOATS);
  const table = addOperand(draft, dtype, "read", dataOf(gen, dtype, entries * valueOf(draft, row)));
  const own = draft.axes.map((_, axis) => (axis === last ? ONE : ZERO));
  draft.accesses.push({ operand: table, strides: own, lookups: [{ stride: row, index: lookup }] });
  return draft.accesses.length - 1;
}

/** A read one step back along an axis, guarded where there is no step back: padding. */
function addShifted(draft: Draft): number {
  const { gen } = draft;
  const axis = gen(draft.axes.length - 1);
  const { strides, count } = layOut(
    draft,
    draft.axes.map((_, each) => each),
    false,
  );
  const dtype = pick(gen, FLOATS);
  const operand = addOperand(draft, dtype, "read", dataOf(gen, dtype, count));
  const i = variable(`i${axis}`, "i32");
  draft.accesses.push({
    operand,
    strides: strides.map((stride, each) => (each === axis ? ZERO : stride)),
    lookups: [{ stride: strides[axis]!, index: call("sub", [i, literal(1, "i32")]) }],
    guard: call("gt", [i, literal(0, "i32")]),
  });
  return draft.accesses.length - 1;
}

/** An output in the memory of an operand it reads: the same access, once as read and once as write. */
function addInPlace(draft: Draft, all: readonly number[]): Store | undefined {
  const { gen } = draft;
  if (!chance(gen, 40)) return undefined;
  const dtype = pick(gen, FLOATS);
  const { strides, count } = layOut(draft, all, false);
  const read = addOperand(draft, dtype, "read", dataOf(gen, dtype, count));
  const write = addOperand(draft, dtype, "write", count);
  draft.inPlace.set(write, read);
  draft.accesses.push({ operand: read, strides, lookups: [] }, { operand: write, strides, lookups: [] });
  const old = variableOf(draft, draft.accesses.length - 2);
  return {
    access: draft.accesses.length - 1,
    value: call("add", [call("mul", [old, literal(0.5, "f32")]), literal(1, "f32")]),
  };
}

/** What an expression may start from: accesses that vary over no other axes than `along`, indices, scalars, sums. */
function leavesOf(draft: Draft, along: readonly number[], sums: readonly Expression[], linear: boolean): Expression[] {
  const leaves = draft.accesses.flatMap((access, position) => {
    if (draft.operands[access.operand]!.role === "write") return [];
    const varies = draft.axes.every((_, axis) => along.includes(axis) || access.strides[axis] === ZERO);
    const plain = access.lookups.length === 0 || along.length === draft.axes.length;
    return varies && plain ? [variableOf(draft, position)] : [];
  });
  return [
    ...leaves,
    ...leaves,
    ...along.slice(0, 1).map((axis) => variable(`i${axis}`, "i32")),
    ...(linear && chance(draft.gen, 30) ? [call("bitand", [variable("linear", "i32"), literal(63, "i32")])] : []),
    ...draft.scalars.map((_, i) => variable(`s${i}`, "f32")),
    // Sums can be large: they come back to the size of the inputs.
    ...sums.flatMap((sum) => [call("mul", [asFloat(sum), literal(1 / 256, "f32")])]),
  ];
}

const asFloat = (value: Expression): Expression =>
  value.type === "f32" || value.type === "f64" ? value : call("f32", [value]);

function comparison(gen: Gen, leaves: readonly Expression[]): Expression {
  const exact = leaves.filter((leaf) => leaf.kind === "variable" && !leaf.name.startsWith("r"));
  const leaf = exact.length === 0 ? literal(1, "f32") : pick(gen, exact);
  if (leaf.type === "bool") return leaf;
  return call(pick(gen, ["lt", "le", "gt", "ge", "eq", "ne"]), [
    asFloat(leaf),
    literal(pick(gen, [-0.5, 0, 0.25, 1]), "f32"),
  ]);
}

function floatExpression(gen: Gen, leaves: readonly Expression[], depth: number): Expression {
  if (depth === 0 || chance(gen, 15)) {
    if (leaves.length === 0 || chance(gen, 10)) return literal(pick(gen, [0.5, 0.1, -2, 3]), "f32");
    return asFloat(pick(gen, leaves));
  }
  const next = (): Expression => floatExpression(gen, leaves, depth - 1);
  const bounded = (): Expression => call("clamp", [next(), literal(-4, "f32"), literal(4, "f32")]);
  const shared = next();
  return pick<() => Expression>(gen, [
    () => call("add", [next(), next()]),
    () => call("sub", [next(), next()]),
    () => call("mul", [call("tanh", [next()]), next()]),
    () => call("mul", [shared, shared]),
    () => call(pick(gen, ["min", "max"]), [next(), next()]),
    () => call("select", [comparison(gen, leaves), next(), next()]),
    () =>
      call("select", [call("and", [comparison(gen, leaves), call("not", [comparison(gen, leaves)])]), next(), next()]),
    () => call(pick(gen, ["exp", "sigmoid", "erf", "softplus", "sin", "cos"]), [bounded()]),
    () => call("rsqrt", [call("add", [call("mul", [shared, shared]), literal(1, "f32")])]),
    () => call("neg", [next()]),
  ])();
}

/** An exact expression over whole-number and bool leaves. */
function wholeExpression(gen: Gen, leaves: readonly Expression[]): Expression {
  const whole = leaves.filter((leaf) => leaf.type === "i32" || leaf.type === "u32").map((leaf) => call("i32", [leaf]));
  const a = whole.length === 0 ? literal(7, "i32") : pick(gen, whole);
  const b = call("select", [comparison(gen, leaves), a, literal(3, "i32")]);
  return call(pick(gen, ["add", "mul", "bitxor", "floordiv", "mod", "max", "shl"]), [
    b,
    literal(pick(gen, [1, 2, 5]), "i32"),
  ]);
}

function addReduction({ gen }: Draft, leaves: readonly Expression[]): Reduction {
  const operation = pick(gen, ["sum", "sum", "max", "min"] as const);
  const kind = gen(9);
  if (kind === 0) return { operation, value: wholeExpression(gen, leaves) };
  if (kind === 1)
    return {
      operation,
      value:
        comparison(gen, leaves.length === 0 ? [] : leaves).type === "bool"
          ? comparison(gen, leaves)
          : literal(1, "bool"),
    };
  return { operation, value: floatExpression(gen, leaves, 1 + gen(1)) };
}

/** One to three outputs that vary over `along`. */
function addStores(draft: Draft, along: readonly number[], leaves: readonly Expression[]): Store[] {
  const { gen } = draft;
  return Array.from({ length: 1 + (chance(gen, 30) ? gen(2) : 0) }, () => {
    const kind = gen(9);
    const dtype: DType = kind === 0 ? "bool" : kind === 1 ? pick(gen, WHOLES) : pick(gen, FLOATS);
    const { strides, count } = layOut(draft, along, chance(gen, 60));
    const operand = addOperand(draft, dtype, "write", count);
    draft.accesses.push({ operand, strides, lookups: [] });
    const wanted: ScalarType = registerOf(dtype);
    const value =
      wanted === "bool"
        ? comparison(gen, leaves)
        : wanted === "i32" || wanted === "u32"
          ? call(wanted, [wholeExpression(gen, leaves)])
          : floatExpression(gen, leaves, 1 + gen(2));
    return { access: draft.accesses.length - 1, value: wanted === "f64" ? call("f64", [value]) : value };
  });
}
