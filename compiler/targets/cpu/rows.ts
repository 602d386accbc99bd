/** Row reductions on a CPU: what `templates/cpu/rows.cpp.hbs` and `rows_split.cpp.hbs` need to know. */
import { ceilDiv, constant, floorDiv, max, multiply, ONE, staticValue, toDim, ZERO } from "../../graph/dim.ts";
import { elementsOf } from "../../kernels/collapse.ts";
import type { Reduction, RowsKernel } from "../../kernels/kernel.ts";
import { accumulatorOf, clausesOf, type Accumulator } from "../code/accumulate.ts";
import { dimText, headOf, openFrame, scaledText, type Frame } from "../code/context.ts";
import { wholeIndices } from "../code/indices.ts";
import { collapseRows } from "../code/reduction-axes.ts";
import { REGISTER_TYPES } from "../code/print.ts";
import { divisor, runs } from "./runs.ts";
import { emitValues, openScope, storeStatements, takeLines, type Scope } from "../code/scope.ts";
import { argumentLines } from "./launch.ts";
import type { Generated } from "./target.ts";

/** Elements of a task. */
const BLOCK = 16384;

/** A float sum takes at most this many elements before it joins the others in double. */
const CHUNK = 4096;

/** Rows that the second phase of a split reduction finishes in one task. */
const FINISH_ROWS = 256;

export function rows(kernel: RowsKernel): Generated {
  const collapsed = collapseRows(kernel);
  const inner = elementsOf(collapsed.axes.slice(collapsed.outer));
  const onlySums = kernel.stages.length === 1 && kernel.perRow.every((perRow) => perRow);
  const long = (staticValue(inner) ?? Infinity) > BLOCK;
  return onlySums && long ? splitRows(kernel, collapsed) : wholeRows(kernel, collapsed);
}

/** A reduction with its accumulators: `r0_run` inside one run, `r0_sum` across runs, `r0` the value. */
interface Sum {
  readonly reduction: Reduction;
  readonly by: Accumulator;
  readonly run: string;
  readonly total: string;
  readonly value: string;
}

function sumsOf(stages: readonly (readonly Reduction[])[]): Sum[][] {
  let number = 0;
  return stages.map((stage) =>
    stage.map((reduction) => {
      const value = `r${number++}`;
      return { reduction, by: accumulatorOf(reduction), run: `${value}_run`, total: `${value}_sum`, value };
    }),
  );
}

const valuesOf = (sums: readonly Sum[]): Map<string, string> => new Map(sums.map(({ value }) => [value, value]));
const declared = (type: string, name: string, zero: string): string => `${type} ${name} = ${zero};`;
const totalLines = (sums: readonly Sum[]): string[] => sums.map((s) => declared(s.by.wide, s.total, s.by.zero));
const runLines = (sums: readonly Sum[]): string[] => sums.map((s) => declared(s.by.type, s.run, s.by.zero));
const mergeLines = (sums: readonly Sum[]): string[] => sums.map((s) => s.by.take(s.total, s.run));
const runClauses = (sums: readonly Sum[]): string => clausesOf(sums.map((s) => ({ name: s.run, by: s.by })));
const resultLines = (sums: readonly Sum[], from: "run" | "total"): string[] =>
  sums.map((s) => {
    const type = REGISTER_TYPES[s.reduction.value.type];
    const asIs = type === (from === "run" ? s.by.type : s.by.wide);
    return `const ${type} ${s.value} = ${asIs ? s[from] : s.by.result(s[from])};`;
  });

/** The statements of an element that take its values into the runs' accumulators. */
function accumulate(scope: Scope, sums: readonly Sum[]): string[] {
  const roots = sums.map((sum) => sum.reduction.value);
  const values = emitValues(scope, roots);
  return sums.map((sum, i) => sum.by.take(sum.run, values[i]!.text));
}

function wholeRows(kernel: RowsKernel, collapsed: RowsKernel): Generated {
  const frame = openFrame(collapsed, kernel);
  const { axes, outer } = collapsed;
  const rowCount = elementsOf(axes.slice(0, outer));
  const blockRows = max(ONE, floorDiv(BLOCK, elementsOf(axes.slice(outer))));
  const indices = wholeIndices(frame, { name: "row", axes: axes.slice(0, outer).map((_, axis) => axis) });
  const task = openScope(frame, undefined);
  const stageSums = sumsOf(collapsed.stages);
  const row = openScope(frame, task, { axes: indices.indices, variables: valuesOf(stageSums.flat()) });

  const stages = stageSums.map((sums) => {
    const sweep = openSweep(frame, row, collapsed.outer, "chunked");
    const takes = accumulate(sweep.scope, sums);
    const before = takeLines(row);
    const apart = sweep.loops.length > 0 || sweep.chunk !== "";
    return {
      before,
      sweep,
      body: [...sweep.scope.lines, ...takes],
      clauses: runClauses(sums),
      totals: apart ? totalLines(sums) : [],
      parts: runLines(sums),
      merges: apart ? mergeLines(sums) : [],
      results: resultLines(sums, apart ? "total" : "run"),
    };
  });

  const perElement = collapsed.stores.filter((_, i) => collapsed.perRow[i] !== true);
  const perRow = collapsed.stores.filter((_, i) => collapsed.perRow[i] === true);
  const sweep = openSweep(frame, row, collapsed.outer, "whole");
  const elementStores = storeStatements(sweep.scope, perElement);
  // Computed before the elements are stored, stored after: an element's place may be one that a row's value reads.
  const after = storeStatements(row, perRow);
  return {
    template: "rows.cpp",
    context: {
      ...headOf(frame),
      arguments: argumentLines(frame),
      block: BLOCK,
      blockRows: dimText(frame, blockRows),
      rows: dimText(frame, rowCount),
      settled: task.lines,
      indices: indices.lines,
      stages,
      before: row.lines,
      stores: perElement.length === 0 ? undefined : { sweep, body: [...sweep.scope.lines, ...elementStores] },
      after,
    },
    tasks: [ceilDiv(rowCount, blockRows)],
    workspaces: [],
    scratch: ZERO,
  };
}

/** Nested loops over all of a row; the partials `_sweep_begin.cpp.hbs` and `_sweep_end.cpp.hbs` are their structure. */
interface Sweep {
  readonly loops: readonly { readonly index: string; readonly size: string; readonly lines: readonly string[] }[];
  /** The length of the pieces into which the innermost loop is cut; empty when it is not. */
  readonly chunk: number | "";
  readonly index: string;
  readonly from: string;
  readonly to: string;
  readonly length: string;
  readonly scope: Scope;
}

function openSweep(frame: Frame, row: Scope, outer: number, how: "chunked" | "whole"): Sweep {
  const { axes } = frame.kernel;
  const innermost = axes.length - 1;
  const sizeOf = (axis: number): string => divisor(dimText(frame, axes[axis]!.size));
  const loops: { index: string; size: string; lines: readonly string[] }[] = [];
  let scope = row;
  for (let axis = outer; axis < innermost; axis++) {
    const index = frame.indices[axis]!;
    scope = openScope(frame, scope, { axes: new Map([[axis, index]]) });
    loops.push({ index, size: sizeOf(axis), lines: scope.lines });
  }
  const index = frame.indices[innermost]!;
  const chunked = how === "chunked" && (staticValue(axes[innermost]!.size) ?? Infinity) > CHUNK;
  const place = axes.slice(outer).map((_, i) => {
    const inside = elementsOf(axes.slice(outer + i + 1));
    return scaledText(frame, frame.indices[outer + i]!, inside);
  });
  const linear = [scaledText(frame, "row", elementsOf(axes.slice(outer))), ...place].join(" + ");
  return {
    loops,
    chunk: chunked ? CHUNK : "",
    index,
    from: chunked ? "chunk" : "0",
    to: chunked ? "stop" : sizeOf(innermost),
    length: sizeOf(innermost),
    scope: openScope(frame, scope, {
      axes: new Map([[innermost, index]]),
      variables: new Map([["linear", linear]]),
    }),
  };
}

/** Few, long rows of which only sums are kept: parts of rows in the first phase, rows in the second. */
function splitRows(kernel: RowsKernel, collapsed: RowsKernel): Generated {
  const frame = openFrame(collapsed, kernel);
  const { axes, outer } = collapsed;
  const rowCount = elementsOf(axes.slice(0, outer));
  const length = elementsOf(axes.slice(outer));
  const parts = ceilDiv(length, CHUNK);
  const blockParts = max(constant(8), floorDiv(8 * CHUNK, length));
  const indices = wholeIndices(frame, { name: "row", axes: axes.slice(0, outer).map((_, axis) => axis) });
  const [sums = []] = sumsOf(collapsed.stages);

  const task = openScope(frame, undefined);
  const row = openScope(frame, task, { axes: indices.indices });
  const rowStart = scaledText(frame, "row", length);
  const loops = runs(frame, row, {
    axes: axes.slice(outer).map((_, i) => outer + i),
    variables: (position) => new Map([["linear", `${rowStart} + ${position}`]]),
    element: (scope) => accumulate(scope, sums),
  });

  const finishTask = openScope(frame, undefined);
  const finishRow = openScope(frame, finishTask, { axes: indices.indices, variables: valuesOf(sums) });
  const stores = storeStatements(finishRow, collapsed.stores);
  const workspaceOf = (i: number): string => `launch->buffers[${kernel.operands.length + i}]`;
  return {
    template: "rows_split.cpp",
    context: {
      ...headOf(frame),
      arguments: argumentLines(frame),
      chunk: CHUNK,
      length: divisor(dimText(frame, length)),
      rows: divisor(dimText(frame, rowCount)),
      blockParts: dimText(frame, blockParts),
      finishRows: FINISH_ROWS,
      partials: sums.map(
        ({ by, value }, i) => `${by.wide}* const ${value}_parts = static_cast<${by.wide}*>(${workspaceOf(i)});`,
      ),
      settled: task.lines,
      indices: indices.lines,
      before: row.lines,
      totals: totalLines(sums),
      runs: loops,
      parts: runLines(sums),
      clauses: runClauses(sums),
      merges: mergeLines(sums),
      keeps: sums.map(({ total, value }) => `${value}_parts[part] = ${total};`),
      finish: {
        settled: finishTask.lines,
        clauses: clausesOf(sums.map(({ total, by }) => ({ name: total, by }))),
        takes: sums.map(({ by, total, value }) => by.take(total, `${value}_parts[part]`)),
        results: resultLines(sums, "total"),
        stores: [...finishRow.lines, ...stores],
      },
    },
    tasks: [ceilDiv(multiply(rowCount, parts), blockParts), ceilDiv(rowCount, FINISH_ROWS)],
    workspaces: sums.map(() => multiply(rowCount, parts, toDim(8))),
    scratch: ZERO,
  };
}
