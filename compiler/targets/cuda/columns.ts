/**
 * Column reductions on a GPU: what `templates/cuda/columns.cu.hbs` needs to know. A block has neighbouring columns, one
 * per lane, and several lanes of rows for each; chunks of rows meet in a second phase.
 */
import { ceilDiv, multiply, staticValue, toDim, type Dim } from "../../graph/dim.ts";
import { elementsOf } from "../../kernels/collapse.ts";
import type { ColumnsKernel } from "../../kernels/kernel.ts";
import { accumulatorOf } from "../code/accumulate.ts";
import { dimText } from "../code/context.ts";
import { wholeIndices } from "../code/indices.ts";
import { REGISTER_TYPES } from "../code/print.ts";
import { collapseColumns, linearText, partsOf } from "../code/reduction-axes.ts";
import { emitValues, openScope, storeStatements } from "../code/scope.ts";
import { cudaHead, openCudaFrame } from "./launch.ts";
import type { Generated } from "./target.ts";

const THREADS = 256;
/** Columns of a block, at most: a warp reads whole lines. */
const MOST_COLUMNS = 32;
/** Rows of a chunk. */
const CHUNK = 512;

export function columns(kernel: ColumnsKernel): Generated {
  const collapsed = collapseColumns(kernel);
  const frame = openCudaFrame(collapsed, kernel);
  const parts = partsOf(collapsed);
  const sizeOf = (axes: readonly number[]): Dim => elementsOf(axes.map((axis) => collapsed.axes[axis]!));
  const [outerCount, rowCount, columnCount] = [sizeOf(parts.outer), sizeOf(parts.rows), sizeOf(parts.columns)];
  const width = widthOf(staticValue(columnCount) ?? Infinity);
  const rowLanes = THREADS / width;
  const chunks = ceilDiv(rowCount, CHUNK);
  const blocks = ceilDiv(columnCount, width);
  const oneChunk = (staticValue(rowCount) ?? Infinity) <= CHUNK;
  const sums = collapsed.reductions.map((reduction, i) => ({
    ...{ reduction, by: accumulatorOf(reduction), value: `r${i}`, part: `r${i}_part` },
    chunks: frame.fresh(`r${i}_chunks`),
  }));
  const workspaces = oneChunk
    ? []
    : sums.map(({ by, chunks: name }) => ({
        name,
        type: by.type,
        bytes: multiply(outerCount, chunks, columnCount, toDim(8)),
      }));

  const outerIndices = wholeIndices(frame, { name: "outer", axes: parts.outer });
  const columnIndices = wholeIndices(frame, { name: "column", axes: parts.columns });
  const rowIndices = wholeIndices(frame, { name: "row", axes: parts.rows });
  const kept = new Map([...outerIndices.indices, ...columnIndices.indices]);
  const linear = new Map([["linear", linearText(frame, parts, "column")]]);
  const settled = openScope(frame, undefined);
  const column = openScope(frame, settled, { axes: kept });
  const row = openScope(frame, column, { axes: rowIndices.indices, variables: linear });
  const values = emitValues(
    row,
    sums.map((sum) => sum.reduction.value),
  );
  const takes = sums.map(({ by, part }, i) => by.take(part, values[i]!.text));

  const finishSettled = openScope(frame, undefined);
  const results = new Map(sums.map(({ value }): [string, string] => [value, value]));
  const finish = openScope(frame, finishSettled, { axes: kept, variables: results });
  const stores = storeStatements(finish, collapsed.stores);
  const resultOf = ({ reduction, by, part, value }: (typeof sums)[number]): string => {
    const type = REGISTER_TYPES[reduction.value.type];
    return `const ${type} ${value} = ${type === by.type ? part : by.result(part)};`;
  };
  return {
    template: "columns.cu",
    context: {
      ...cudaHead(frame, { workspaces }),
      ...{ threads: THREADS, width, rowLanes, chunk: CHUNK, oneChunk },
      rows: dimText(frame, rowCount),
      columns: dimText(frame, columnCount),
      outerCount: dimText(frame, outerCount),
      parts: sums.map(({ by, part }) => `${by.type} ${part} = ${by.zero};`),
      sums: sums.map(({ by, part, chunks: name }, i) => ({
        ...{ type: by.type, part, combine: by.combine, chunks: name },
        place: 8 * THREADS * i,
        take: by.take(part, `${name}[(outer * chunks + chunk) * column_count + column]`),
      })),
      settled: settled.lines,
      columnLines: [...outerIndices.lines, ...columnIndices.lines],
      before: column.lines,
      rowLines: [...rowIndices.lines, ...row.lines, ...takes],
      results: sums.map(resultOf),
      finishSettled: finishSettled.lines,
      stores: [...finish.lines, ...stores],
    },
    phases: [
      {
        blocks: multiply(outerCount, chunks, blocks),
        threads: THREADS,
        sharedBytes: rowLanes > 1 ? 8 * THREADS * sums.length : 0,
      },
      ...(oneChunk
        ? []
        : [{ blocks: ceilDiv(multiply(outerCount, columnCount), THREADS), threads: THREADS, sharedBytes: 0 }]),
    ],
    workspaces,
  };
}

function widthOf(columns: number): number {
  let width = 1;
  while (width < MOST_COLUMNS && width < columns) width *= 2;
  return width;
}
