/**
 * Row reductions on a GPU: what `templates/cuda/rows.cu.hbs` and `rows_split.cu.hbs` need to know.
 *
 * A row belongs to as many lanes as it is worth: part of a warp, a warp, or a whole block. Few, long rows of which only
 * sums are kept are cut into chunks that meet in a second phase.
 */
import { registerOf } from "../../../contract/dtype.ts";
import { ceilDiv, multiply, staticValue, toDim, ZERO } from "../../graph/dim.ts";
import { elementsOf } from "../../kernels/collapse.ts";
import type { Reduction, RowsKernel, Store } from "../../kernels/kernel.ts";
import { variable, variablesOf } from "../../notation/expression.ts";
import { accumulatorOf, type Accumulator } from "../code/accumulate.ts";
import { dimText, scaledText, type Frame } from "../code/context.ts";
import { wholeIndices } from "../code/indices.ts";
import { primary, REGISTER_TYPES, type Text } from "../code/print.ts";
import { collapseRows } from "../code/reduction-axes.ts";
import { accessDepth, emitValues, openScope, storeStatements, takeLines, type Scope } from "../code/scope.ts";
import { cudaHead, openCudaFrame } from "./launch.ts";
import type { Generated } from "./target.ts";

const WARP = 32;
/** Elements of a row from which a block takes it, and threads of that block. */
const LONG_ROW = 2048;
const ROW_THREADS = 256;
/** Elements of a row that a lane can hold, and the registers that all it holds may take. */
const HELD_ELEMENTS = 12;
const HELD_REGISTERS = 80;
/** Threads of a block that has many rows. */
const MANY_THREADS = 128;
/** A row of which only sums are kept is cut when it is longer than this; elements of a chunk. */
const SPLIT_ROW = 32768;
const CHUNK = 8192;

interface Sum {
  readonly reduction: Reduction;
  readonly by: Accumulator;
  /** The accumulator of a thread, and the value over the row. */
  readonly part: string;
  readonly value: string;
}

function sumsOf(stages: readonly (readonly Reduction[])[]): Sum[][] {
  let number = 0;
  return stages.map((stage) =>
    stage.map((reduction) => {
      const value = `r${number++}`;
      return { reduction, by: accumulatorOf(reduction), part: `${value}_part`, value };
    }),
  );
}

const valuesOf = (sums: readonly Sum[]): Map<string, string> => new Map(sums.map(({ value }) => [value, value]));
const partLines = (sums: readonly Sum[]): string[] => sums.map((s) => `${s.by.type} ${s.part} = ${s.by.zero};`);

/** `const float r0 = …`: what the lanes of a row have found together. */
function resultLine({ by, reduction, value }: Sum, reduced: string): string {
  const type = REGISTER_TYPES[reduction.value.type];
  return `const ${type} ${value} = ${type === by.type ? reduced : by.result(reduced)};`;
}

function accumulate(scope: Scope, sums: readonly Sum[]): string[] {
  const values = emitValues(
    scope,
    sums.map((sum) => sum.reduction.value),
  );
  return sums.map((sum, i) => sum.by.take(sum.part, values[i]!.text));
}

/** Lanes that share a row: a power of two. A row that is read more than once has enough of them to hold it. */
function lanesOf(length: number, sweeps: number): number {
  if (sweeps > 1) {
    const holding = [WARP, MANY_THREADS, ROW_THREADS].find((lanes) => length <= HELD_ELEMENTS * lanes);
    if (holding !== undefined && length >= WARP) return holding;
  }
  if (length > LONG_ROW) return ROW_THREADS;
  let lanes = 1;
  while (lanes < WARP && lanes < length) lanes *= 2;
  return lanes;
}

export function rows(kernel: RowsKernel): Generated {
  const collapsed = collapseRows(kernel);
  const length = staticValue(elementsOf(collapsed.axes.slice(collapsed.outer))) ?? Infinity;
  const onlySums = kernel.stages.length === 1 && kernel.perRow.every((perRow) => perRow);
  return onlySums && length > SPLIT_ROW ? splitRows(kernel, collapsed) : wholeRows(kernel, collapsed);
}

function wholeRows(kernel: RowsKernel, collapsed: RowsKernel): Generated {
  const frame = openCudaFrame(collapsed, kernel);
  const { axes, outer } = collapsed;
  const rowCount = elementsOf(axes.slice(0, outer));
  const length = elementsOf(axes.slice(outer));
  const perElement = collapsed.stores.filter((_, i) => collapsed.perRow[i] !== true);
  const perRow = collapsed.stores.filter((_, i) => collapsed.perRow[i] === true);
  const sweeps = collapsed.stages.length + (perElement.length > 0 ? 1 : 0);
  const elements = staticValue(length) ?? Infinity;
  const lanes = lanesOf(elements, sweeps);
  const threads = Math.max(lanes, MANY_THREADS);
  const whole = lanes > WARP;
  const warps = threads / WARP;
  // Rows of a warp's length or more that count past 2^32 have no memory that holds them.
  const narrow = elements >= WARP && elements !== Infinity;
  const rowIndices = wholeIndices(frame, { name: "row", axes: axes.slice(0, outer).map((_, axis) => axis), narrow });
  const settled = openScope(frame, undefined);
  const stageSums = sumsOf(collapsed.stages);
  const row = openScope(frame, settled, { axes: rowIndices.indices, variables: valuesOf(stageSums.flat()) });

  let slots = 0;
  const reduced = ({ by, part }: Sum): string => {
    if (!whole) return `reduce_lanes<${by.combine}, ${lanes}>(${part})`;
    const place = `reinterpret_cast<${by.type}*>(shared_memory() + ${8 * warps * slots++})`;
    return `reduce_block<${by.combine}, ${threads}>(${part}, ${place})`;
  };
  const turns = sweeps > 1 && elements <= HELD_ELEMENTS * lanes ? Math.ceil(elements / lanes) : undefined;
  const held = holdLoads(frame, outer, turns);
  const stages = stageSums.map((sums, stage) => {
    const sweep = openSweep(frame, row, outer, held.known());
    const takes = accumulate(sweep.scope, sums);
    if (stage === 0) held.loadAhead(sweep.scope, collapsed, perElement);
    const before = takeLines(row);
    return {
      before,
      parts: partLines(sums),
      body: [...sweep.lines, ...sweep.scope.lines, ...held.keep(sweep.scope), ...takes],
      results: sums.map((sum) => resultLine(sum, reduced(sum))),
    };
  });

  const sweep = openSweep(frame, row, outer, held.known());
  const elementStores = storeStatements(sweep.scope, perElement);
  // Computed before the elements are stored, stored after: an element's place may be one that a row's value reads.
  const after = storeStatements(row, perRow);
  return {
    template: "rows.cu",
    context: {
      ...cudaHead(frame),
      ...{ threads, lanes, whole, rowsOfBlock: threads / lanes, turns, heldLines: held.lines },
      ...{ warps: lanes === WARP, shared: lanes < WARP },
      lastTurn: turns !== undefined && elements % lanes !== 0,
      rows: dimText(frame, rowCount),
      length: dimText(frame, length),
      settled: settled.lines,
      indices: rowIndices.lines,
      stages,
      before: row.lines,
      stores: perElement.length === 0 ? undefined : [...sweep.lines, ...sweep.scope.lines, ...elementStores],
      ordered: perElement.length > 0 && perRow.length > 0,
      after,
    },
    phases: [{ blocks: ceilDiv(rowCount, threads / lanes), threads, sharedBytes: 8 * warps * slots }],
    workspaces: [],
  };
}

/**
 * What lanes keep of a row that is read more than once: `turn` counts the elements of a lane, and every value that a sweep
 * loads stays in a register for those that follow, as far as there are registers. What rows share is kept last.
 */
function holdLoads(frame: Frame, outer: number, turns: number | undefined) {
  const { accesses, operands } = frame.kernel;
  const kept = new Map<number, string>();
  const lines: string[] = [];
  const isOwn = (access: number): boolean => staticValue(accesses[access]!.strides[outer - 1] ?? ZERO) !== 0;
  const hasRoom = (count: number): boolean => turns !== undefined && count * turns <= HELD_REGISTERS;
  return {
    lines,
    /** What a sweep need not load again. */
    known: (): Map<number, Text> => new Map([...kept].map(([access, name]) => [access, primary(`${name}[turn]`)])),
    /**
     * Loads in the first sweep what only the others read of a row, so that a row is waited for once. Accesses that hang
     * on what a sweep finds are left where they are.
     */
    loadAhead(scope: Scope, { stages }: RowsKernel, perElement: readonly Store[]): void {
      const values = [...stages.flat(), ...perElement].map(({ value }) => value);
      const read = new Set(variablesOf(values).map(({ name }) => /^a(\d+)$/.exec(name)?.[1]));
      accesses.forEach(({ operand, lookups, guard }, access) => {
        const isOfElement = accessDepth(scope, access) === scope.depth && isOwn(access);
        if (!read.has(String(access)) || !isOfElement || lookups.length > 0 || guard !== undefined) return;
        if (!hasRoom([...scope.loads.keys()].filter(isOwn).length + 1)) return;
        emitValues(scope, [variable(`a${access}`, registerOf(operands[operand]!.dtype))]);
      });
    },
    /** The statements that keep what a sweep has loaded. */
    keep({ loads }: Scope): string[] {
      const own = [...loads].filter(([access]) => isOwn(access));
      const shared = [...loads].filter(([access]) => !isOwn(access));
      return [...own, ...shared].flatMap(([access, { text }]) => {
        if (kept.has(access) || !hasRoom(kept.size + 1)) return [];
        const operand = accesses[access]!.operand;
        const name = frame.fresh(`${frame.operands[operand] ?? "a"}_held`);
        kept.set(access, name);
        lines.push(`[[maybe_unused]] ${REGISTER_TYPES[registerOf(operands[operand]!.dtype)]} ${name}[TURNS];`);
        return [`${name}[turn] = ${text};`];
      });
    },
  };
}

/** The elements of a row, counted by `at`; `loaded` are the accesses whose values are there. */
function openSweep(
  frame: Frame,
  row: Scope,
  outer: number,
  loaded: ReadonlyMap<number, Text> = new Map(),
): { lines: readonly string[]; scope: Scope } {
  const { axes } = frame.kernel;
  const { lines, indices } = wholeIndices(frame, { name: "at", axes: axes.slice(outer).map((_, i) => outer + i) });
  const linear = `${scaledText(frame, "row", elementsOf(axes.slice(outer)))} + at`;
  const scope = openScope(frame, row, { axes: indices, variables: new Map([["linear", linear]]) });
  for (const [access, text] of loaded) scope.loads.set(access, text);
  return { lines, scope };
}

/** Chunks of rows in the first phase, rows in the second. */
function splitRows(kernel: RowsKernel, collapsed: RowsKernel): Generated {
  const frame = openCudaFrame(collapsed, kernel);
  const { axes, outer } = collapsed;
  const rowCount = elementsOf(axes.slice(0, outer));
  const length = elementsOf(axes.slice(outer));
  const chunks = ceilDiv(length, CHUNK);
  const rowIndices = wholeIndices(frame, { name: "row", axes: axes.slice(0, outer).map((_, axis) => axis) });
  const [sums = []] = sumsOf(collapsed.stages);
  const workspaces = sums.map(({ by, value }) => ({
    name: frame.fresh(`${value}_chunks`),
    type: by.type,
    bytes: multiply(rowCount, chunks, toDim(8)),
  }));

  const settled = openScope(frame, undefined);
  const row = openScope(frame, settled, { axes: rowIndices.indices });
  const sweep = openSweep(frame, row, outer);
  const takes = accumulate(sweep.scope, sums);

  const finishSettled = openScope(frame, undefined);
  const finishRow = openScope(frame, finishSettled, { axes: rowIndices.indices, variables: valuesOf(sums) });
  const stores = storeStatements(finishRow, collapsed.stores);
  const warps = ROW_THREADS / WARP;
  const place = (by: Accumulator, i: number): string =>
    `reinterpret_cast<${by.type}*>(shared_memory() + ${8 * warps * i})`;
  return {
    template: "rows_split.cu",
    context: {
      ...cudaHead(frame, { workspaces }),
      ...{ threads: ROW_THREADS, finishThreads: WARP, chunk: CHUNK },
      rows: dimText(frame, rowCount),
      length: dimText(frame, length),
      settled: settled.lines,
      indices: rowIndices.lines,
      before: row.lines,
      parts: partLines(sums),
      body: [...sweep.lines, ...sweep.scope.lines, ...takes],
      keeps: sums.map(({ by, part }, i) => ({
        total: `reduce_block<${by.combine}, ${ROW_THREADS}>(${part}, ${place(by, i)})`,
        chunks: workspaces[i]!.name,
      })),
      finish: {
        settled: finishSettled.lines,
        takes: sums.map(({ by, part }, i) => by.take(part, `${workspaces[i]!.name}[row * chunks + chunk]`)),
        results: sums.map((sum) => resultLine(sum, `reduce_lanes<${sum.by.combine}>(${sum.part})`)),
        stores: [...finishRow.lines, ...stores],
      },
    },
    phases: [
      { blocks: multiply(rowCount, chunks), threads: ROW_THREADS, sharedBytes: 8 * warps * sums.length },
      { blocks: rowCount, threads: WARP, sharedBytes: 0 },
    ],
    workspaces,
  };
}
