/** Column reductions on a CPU: what `templates/cpu/columns.cpp.hbs` needs to know. */
import {
  ceilDiv,
  constant,
  floorDiv,
  max,
  min,
  multiply,
  staticValue,
  toDim,
  ZERO,
  type Dim,
} from "../../graph/dim.ts";
import { elementsOf } from "../../kernels/collapse.ts";
import type { ColumnsKernel } from "../../kernels/kernel.ts";
import { accumulatorOf } from "../code/accumulate.ts";
import { dimText, headOf, openFrame } from "../code/context.ts";
import { wholeIndices } from "../code/indices.ts";
import { collapseColumns, linearText, partsOf } from "../code/reduction-axes.ts";
import { divisor, runs, type Runs } from "./runs.ts";
import { emitValues, openScope, storeStatements } from "../code/scope.ts";
import { argumentLines } from "./launch.ts";
import type { Generated } from "./target.ts";

/** A task takes whole rows while its sums fit the first level of cache (and the stack), else blocks of equal width. */
const MOST_SUMS = 6144;
const BLOCK = 1024;

/** Rows of a chunk: enough that partial results are few, and few enough that float sums stay accurate. */
const FEWEST_ROWS = 64;
const MOST_ROWS = 512;
const CHUNK_ELEMENTS = 65536;

export function columns(kernel: ColumnsKernel): Generated {
  const collapsed = collapseColumns(kernel);
  const frame = openFrame(collapsed, kernel);
  const parts = partsOf(collapsed);
  const sizeOf = (axes: readonly number[]): Dim => elementsOf(axes.map((axis) => collapsed.axes[axis]!));
  const [outerCount, rowCount, columnCount] = [sizeOf(parts.outer), sizeOf(parts.rows), sizeOf(parts.columns)];
  const width = staticValue(columnCount) ?? Infinity;
  const most = Math.floor(MOST_SUMS / (1 + collapsed.reductions.length));
  const block = width <= most ? width : blockOf(width, Math.min(most, BLOCK));
  const chunkRows = min(
    constant(MOST_ROWS),
    max(constant(FEWEST_ROWS), floorDiv(CHUNK_ELEMENTS, min(constant(block), columnCount))),
  );
  const chunks = ceilDiv(rowCount, chunkRows);
  const blocks = ceilDiv(columnCount, block);
  const oneChunk = (staticValue(rowCount) ?? Infinity) <= (staticValue(chunkRows) ?? FEWEST_ROWS);
  const sums = collapsed.reductions.map((reduction, i) => ({
    reduction,
    by: accumulatorOf(reduction),
    name: `r${i}`,
  }));

  const task = openScope(frame, undefined);
  const outerIndices = wholeIndices(frame, { name: "outer", axes: parts.outer });
  const outer = openScope(frame, task, { axes: outerIndices.indices });
  const rowIndices = wholeIndices(frame, { name: "row", axes: parts.rows });
  const row = openScope(frame, outer, { axes: rowIndices.indices });
  const bindLinear = (position: string) => new Map([["linear", linearText(frame, parts, position)]]);
  const sumRuns = runs(frame, row, {
    axes: parts.columns,
    variables: bindLinear,
    element: (scope, position) => {
      const values = emitValues(
        scope,
        sums.map((sum) => sum.reduction.value),
      );
      return sums.map(({ by, name }, i) => by.take(`${name}_run[${position} - first]`, values[i]!.text));
    },
  });

  const finishTask = openScope(frame, undefined);
  const finishOuter = openScope(frame, finishTask, { axes: outerIndices.indices });
  const finishRuns: Runs = runs(frame, finishOuter, {
    axes: parts.columns,
    variables: (position) =>
      new Map(sums.map(({ name, by }) => [name, by.result(`${name}_sum[${position} - first]`)] as const)),
    element: (scope) => storeStatements(scope, collapsed.stores),
  });

  const partialLines = sums.map(({ by, name }, i) => {
    const place = `launch->buffers[${kernel.operands.length + i}]`;
    return `${by.type}* const ${name}_parts = static_cast<${by.type}*>(${place});`;
  });
  const partialBytes = multiply(outerCount, chunks, columnCount, toDim(8));
  return {
    template: "columns.cpp",
    context: {
      ...headOf(frame),
      arguments: argumentLines(frame),
      block,
      chunkRows: dimText(frame, chunkRows),
      rows: divisor(dimText(frame, rowCount)),
      columns: divisor(dimText(frame, columnCount)),
      sums: sums.map(({ by, name }) => ({ name, type: by.type, wide: by.wide, zero: by.zero })),
      settled: [...task.lines, ...outerIndices.lines, ...outer.lines],
      rowLines: [...rowIndices.lines, ...row.lines],
      runs: sumRuns,
      finishSettled: [...finishTask.lines, ...outerIndices.lines, ...finishOuter.lines],
      finishTakes: sums.map(({ by, name }) => by.take(`${name}_sum[at]`, `${name}_parts[chunk * stride + at]`)),
      finishRuns,
      partials: oneChunk ? [] : partialLines,
    },
    tasks: [multiply(outerCount, chunks, blocks), ...(oneChunk ? [] : [multiply(outerCount, blocks)])],
    workspaces: oneChunk ? [] : sums.map(() => partialBytes),
    scratch: ZERO,
  };
}

/** The width of about equal blocks of no more than `most` columns, whole cache lines each. */
const blockOf = (width: number, most: number): number =>
  width === Infinity ? most : Math.ceil(width / Math.ceil(width / most) / 16) * 16;
