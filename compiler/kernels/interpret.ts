/**
 * What a kernel means, one element at a time in float64: the oracle for generated code. Nothing here is fast or clever;
 * a kernel that disagrees with it is wrong.
 */
import { CompilerBug } from "../../contract/diagnostic.ts";
import { roundToBf16, roundToF16, type DType } from "../../contract/dtype.ts";
import { evaluateSize } from "../../contract/size.ts";
import { toSize, type Dim } from "../graph/dim.ts";
import { compileEvaluator } from "../notation/evaluate.ts";
import { variablesOf, type Expression } from "../notation/expression.ts";
import { interpretAttention, interpretAttentionGradient } from "./interpret-attention.ts";
import type {
  Access,
  ColumnsKernel,
  ContractKernel,
  Kernel,
  MapKernel,
  Reduction,
  RowsKernel,
  Store,
} from "./kernel.ts";

/** What a kernel is launched with. Elements are numbers whatever their type; a bool is 0 or 1. */
export interface Launch {
  readonly sizes: ReadonlyMap<string, number>;
  /** One per operand, from the place the plan binds. In-place operands share one array. Stores change them. */
  readonly operands: readonly Float64Array[];
  readonly scalars: readonly number[];
}

type Interpreters = { readonly [A in Kernel["anchor"]]: (run: Run, kernel: Extract<Kernel, { anchor: A }>) => void };

/** Runs a kernel on the operands. Throws a CompilerBug when it reads or writes outside of one. */
export function interpret(kernel: Kernel, launch: Launch): void {
  const interpreters: Interpreters = {
    map: interpretMap,
    rows: interpretRows,
    columns: interpretColumns,
    contract: interpretContract,
    attention: interpretAttention,
    attentionGradient: interpretAttentionGradient,
  };
  const interpreter = interpreters[kernel.anchor] as (run: Run, kernel: Kernel) => void;
  interpreter(openRun(kernel, launch), kernel);
}

/** A kernel bound to sizes and operands. */
export interface Run {
  readonly kernel: Kernel;
  readonly extents: readonly number[];
  readonly size: (dim: Dim) => number;
  /** The operands as they were before the kernel. */
  readonly before: readonly Float64Array[];
  readonly after: readonly Float64Array[];
  readonly strides: readonly (readonly number[])[];
  /** Values of the variables of expressions, by their position in `names`. */
  readonly values: Float64Array;
  readonly names: readonly string[];
}

function openRun(kernel: Kernel, launch: Launch): Run {
  const size = (dim: Dim): number => evaluateSize(toSize(dim), launch.sizes);
  const reductions =
    kernel.anchor === "rows" ? kernel.stages.flat() : kernel.anchor === "columns" ? kernel.reductions : [];
  const names = [
    ...kernel.axes.map((_, i) => `i${i}`),
    "linear",
    "acc",
    ...kernel.scalars.map((_, i) => `s${i}`),
    ...kernel.accesses.map((_, i) => `a${i}`),
    ...reductions.map((_, i) => `r${i}`),
  ];
  const values = new Float64Array(names.length);
  launch.scalars.forEach((value, i) => (values[names.indexOf(`s${i}`)] = value));
  return {
    kernel,
    size,
    names,
    values,
    extents: kernel.axes.map((axis) => size(axis.size)),
    strides: kernel.accesses.map((access) => access.strides.map(size)),
    before: launch.operands.map((operand) => operand.slice()),
    after: launch.operands,
  };
}

/** Calls `body` for every index along some axes, in row-major order; `index` has an entry for every axis of the kernel. */
export function forEachIndex(run: Run, axes: readonly number[], index: number[], body: () => void): void {
  const [axis, ...rest] = axes;
  if (axis === undefined) {
    body();
    return;
  }
  for (let i = 0; i < run.extents[axis]!; i++) {
    index[axis] = i;
    run.values[axis] = i; // the variables i0 i1 … come first
    forEachIndex(run, rest, index, body);
  }
}

const axesWhere = (run: Run, keep: (axis: number) => boolean): number[] =>
  run.extents.map((_, axis) => axis).filter(keep);

const set = (run: Run, name: string, value: number): void => {
  run.values[run.names.indexOf(name)] = value;
};

/** Evaluates expressions at the current index: first the accesses they need, in the order they need each other. */
function evaluator(run: Run, roots: readonly Expression[]): (index: readonly number[]) => Float64Array {
  const results = new Float64Array(roots.length);
  const evaluate = compileEvaluator(roots, run.names);
  const linear = run.names.indexOf("linear");
  const loads: { slot: number; load: (index: readonly number[]) => number }[] = [];
  const visited = new Set<number>();
  const need = (expressions: readonly Expression[]): void => {
    for (const { name } of variablesOf(expressions)) {
      const position = /^a(\d+)$/.exec(name)?.[1];
      if (position === undefined || visited.has(Number(position))) continue;
      visited.add(Number(position));
      const access = run.kernel.accesses[Number(position)]!;
      need([...access.lookups.map((lookup) => lookup.index), ...(access.guard === undefined ? [] : [access.guard])]);
      loads.push({ slot: run.names.indexOf(name), load: reader(run, Number(position)) });
    }
  };
  need(roots);
  return (index) => {
    for (const { slot, load } of loads) run.values[slot] = load(index);
    run.values[linear] = linearOf(run, index);
    evaluate(run.values, results);
    return results;
  };
}

const linearOf = (run: Run, index: readonly number[]): number =>
  run.extents.reduce((linear, extent, axis) => linear * extent + (index[axis] ?? 0), 0);

/** The offset of an access at an index, and whether its guard lets it be touched; lookups read the current variables. */
function placer(run: Run, position: number): (index: readonly number[]) => number | undefined {
  const access = run.kernel.accesses[position]!;
  const lookups = access.lookups.map((lookup) => run.size(lookup.stride));
  const strides = run.strides[position]!;
  const guarded = access.guard === undefined ? [] : [access.guard];
  const roots = [...access.lookups.map((lookup) => lookup.index), ...guarded];
  const evaluate = compileEvaluator(roots, run.names);
  const found = new Float64Array(roots.length);
  const linear = run.names.indexOf("linear");
  return (index) => {
    if (roots.length > 0) {
      run.values[linear] = linearOf(run, index);
      evaluate(run.values, found);
    }
    if (access.guard !== undefined && found[lookups.length] === 0) return undefined;
    let offset = 0;
    strides.forEach((stride, axis) => (offset += stride * (stride === 0 ? 0 : index[axis]!)));
    lookups.forEach((stride, i) => (offset += stride * found[i]!));
    return offset;
  };
}

/** Reads an access as memory was before the kernel. */
export function reader(run: Run, position: number): (index: readonly number[]) => number {
  const access = run.kernel.accesses[position]!;
  const data = run.before[access.operand]!;
  const place = placer(run, position);
  return (index) => {
    const offset = place(index);
    return offset === undefined ? 0 : data[inside(run, access, offset)]!;
  };
}

export function writer(run: Run, position: number): (index: readonly number[], value: number) => void {
  const access = run.kernel.accesses[position]!;
  const data = run.after[access.operand]!;
  const { dtype } = run.kernel.operands[access.operand]!;
  const place = placer(run, position);
  return (index, value) => {
    const offset = place(index);
    if (offset !== undefined) data[inside(run, access, offset)] = rounded(value, dtype);
  };
}

function inside(run: Run, access: Access, offset: number): number {
  const length = run.before[access.operand]!.length;
  if (offset >= 0 && offset < length) return offset;
  const name = run.kernel.operands[access.operand]!.name;
  throw new CompilerBug("kernels", `${run.kernel.name} touches element ${offset} of ${name}, which has ${length}`);
}

const ROUND: Readonly<Record<DType, (value: number) => number>> = {
  f64: (value) => value,
  f32: Math.fround,
  bf16: roundToBf16,
  f16: roundToF16,
  i32: (value) => value | 0,
  u32: (value) => value >>> 0,
  u8: (value) => value & 255,
  bool: (value) => (value !== 0 ? 1 : 0),
};

/** The value an element of this type holds after a store. */
export const rounded = (value: number, dtype: DType): number => ROUND[dtype](value);

/** Computes all values of an iteration, then stores them. */
function storer(run: Run, stores: readonly Store[]): (index: readonly number[]) => void {
  const values = stores.map((store) => store.value);
  const evaluate = evaluator(run, values);
  const writers = stores.map((store) => writer(run, store.access));
  return (index) => {
    const results = evaluate(index).slice();
    writers.forEach((write, i) => write(index, results[i]!));
  };
}

const START = { sum: 0, max: -Infinity, min: Infinity } as const;

/** Takes the values of reductions into totals. NaN wins a maximum and a minimum, as `Math.max` and `Math.min` have it. */
function taker(run: Run, reductions: readonly Reduction[]): (index: readonly number[], totals: number[]) => void {
  const evaluate = evaluator(
    run,
    reductions.map((reduction) => reduction.value),
  );
  return (index, totals) => {
    const values = evaluate(index);
    reductions.forEach(({ operation, value: { type } }, i) => {
      const value = values[i]!;
      const total = totals[i]!;
      if (operation === "max") totals[i] = Math.max(total, value);
      else if (operation === "min") totals[i] = Math.min(total, value);
      else if (type === "bool") totals[i] = total !== 0 || value !== 0 ? 1 : 0;
      else totals[i] = type === "i32" ? (total + value) | 0 : type === "u32" ? (total + value) >>> 0 : total + value;
    });
  };
}

/** A reduction of nothing over an integer or a bool starts at the end of the type's range. */
function startOf({ operation, value }: Reduction): number {
  const ends = { i32: [-(2 ** 31), 2 ** 31 - 1], u32: [0, 2 ** 32 - 1], bool: [0, 1] } as const;
  if (operation === "sum" || value.type === "f32" || value.type === "f64") return START[operation];
  return ends[value.type][operation === "max" ? 0 : 1];
}

function interpretMap(run: Run, kernel: MapKernel): void {
  const index: number[] = [];
  const store = storer(run, kernel.stores);
  forEachIndex(
    run,
    axesWhere(run, () => true),
    index,
    () => store(index),
  );
}

function interpretRows(run: Run, kernel: RowsKernel): void {
  const index: number[] = run.extents.map(() => 0);
  const inner = axesWhere(run, (axis) => axis >= kernel.outer);
  const takers = kernel.stages.map((stage) => taker(run, stage));
  const perElement = storer(
    run,
    kernel.stores.filter((_, i) => kernel.perRow[i] !== true),
  );
  const perRow = storer(
    run,
    kernel.stores.filter((_, i) => kernel.perRow[i] === true),
  );
  forEachIndex(
    run,
    axesWhere(run, (axis) => axis < kernel.outer),
    index,
    () => {
      let first = 0;
      kernel.stages.forEach((stage, s) => {
        const totals = stage.map(startOf);
        forEachIndex(run, inner, index, () => takers[s]!(index, totals));
        totals.forEach((total, i) => set(run, `r${first + i}`, total));
        first += stage.length;
      });
      forEachIndex(run, inner, index, () => perElement(index));
      for (const axis of inner) {
        index[axis] = 0;
        run.values[axis] = 0;
      }
      perRow(index);
    },
  );
}

function interpretColumns(run: Run, kernel: ColumnsKernel): void {
  const index: number[] = run.extents.map(() => 0);
  const take = taker(run, kernel.reductions);
  const store = storer(run, kernel.stores);
  const reduced = axesWhere(run, (axis) => kernel.reduced[axis] === true);
  forEachIndex(
    run,
    axesWhere(run, (axis) => kernel.reduced[axis] !== true),
    index,
    () => {
      const totals = kernel.reductions.map(startOf);
      forEachIndex(run, reduced, index, () => take(index, totals));
      totals.forEach((total, i) => set(run, `r${i}`, total));
      for (const axis of reduced) {
        index[axis] = 0;
        run.values[axis] = 0;
      }
      store(index);
    },
  );
}

function interpretContract(run: Run, kernel: ContractKernel): void {
  const index: number[] = run.extents.map(() => 0);
  const depth = axesWhere(run, (axis) => kernel.roles[axis] === "k");
  const left = evaluator(run, [kernel.left]);
  const right = evaluator(run, [kernel.right]);
  const store = storer(run, kernel.stores);
  forEachIndex(
    run,
    axesWhere(run, (axis) => kernel.roles[axis] !== "k"),
    index,
    () => {
      let total = 0;
      forEachIndex(run, depth, index, () => (total += left(index)[0]! * right(index)[0]!));
      set(run, "acc", total);
      for (const axis of depth) {
        index[axis] = 0;
        run.values[axis] = 0;
      }
      store(index);
    },
  );
}
