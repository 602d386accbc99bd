/**
 * How a contraction is cut: blocks of the output that stay in the second-level cache, panels of `right` as wide as a
 * register block, steps of k, and chunks of k where the output alone has too few blocks to share.
 *
 * Everything here depends on sizes only, so a result has the same bits on any number of threads.
 */
import { add, ceilDiv, floorDiv, max, min, multiply, ONE, staticValue, type Dim } from "../../graph/dim.ts";

export interface Blocks {
  /** Rows and columns of an output block, at most; columns are whole panels. */
  readonly rows: number;
  readonly columns: number;
  /** Columns of a panel: what a register block is wide, a multiple of a line. */
  readonly panel: number;
  /** Steps of k between two visits of an output block, at most. */
  readonly depth: number;
  readonly rowBlocks: Dim;
  /** Panels of an output block; fewer than `columns / panel` where there are few blocks. */
  readonly blockPanels: Dim;
  readonly columnBlocks: Dim;
  /** Chunks of k that are summed apart and then in order; undefined where one run over k is enough. */
  readonly split: { readonly chunks: Dim; readonly length: Dim } | undefined;
}

export interface Sizes {
  readonly batch: Dim;
  readonly m: Dim;
  readonly n: Dim;
  readonly k: Dim;
  /** Elements of a line of 64 bytes. */
  readonly line: number;
  /** Products of bf16: a panel is one line, what AMX multiplies at a time, and so is what k and rows are cut into. */
  readonly narrow: boolean;
}

/** Tasks that keep 16 threads busy, and the least length of a chunk of k that is worth a partial sum. */
const ENOUGH_TASKS = 32;
const ENOUGH_CHUNKS = 16;
const SHORTEST_CHUNK = 384;
const WIDEST_COLUMNS = 768;
/** Floats take more room, and a panel that comes from far should serve more rows; pairs are packed again for each block. */
const TALLEST_ROWS = { narrow: 64, wide: 128 };
const LONGEST_DEPTH = 384;

const tallest = ({ narrow }: Sizes): number => (narrow ? TALLEST_ROWS.narrow : TALLEST_ROWS.wide);

export function chooseBlocks(sizes: Sizes): Blocks {
  const { batch, m, n, k, line, narrow } = sizes;
  const panel = narrow ? line : panelWidth(staticValue(n), line);
  const panels = ceilDiv(n, panel);
  const widest = even(staticValue(panels), Math.max(1, Math.floor(WIDEST_COLUMNS / panel)), 1);
  const depth = even(staticValue(k), LONGEST_DEPTH, narrow ? line : 8);
  const few = fewBlocks(sizes, panel);
  if (few !== undefined) {
    const { rows, columns } = few;
    const [rowBlocks, columnBlocks] = [ceilDiv(m, rows), ceilDiv(n, columns)];
    const wanted = ceilDiv(ENOUGH_CHUNKS, multiply(batch, rowBlocks, columnBlocks));
    const chunks = max(1, min(wanted, floorDiv(k, SHORTEST_CHUNK)));
    if (chunks !== ONE) {
      const split = { chunks, length: ceilDiv(k, chunks) };
      return {
        ...few,
        panel,
        depth: LONGEST_DEPTH,
        rowBlocks,
        columnBlocks,
        blockPanels: ceilDiv(columns, panel),
        split,
      };
    }
  }
  const rows = blockRows(sizes, panel);
  const rowBlocks = ceilDiv(m, rows);
  const least = Math.min(widest, Math.ceil(64 / panel));
  const shared = floorDiv(multiply(batch, rowBlocks, panels), ENOUGH_TASKS);
  const blockPanels = max(least, min(widest, shared));
  const columns = (staticValue(blockPanels) ?? widest) * panel;
  return {
    rows,
    columns,
    panel,
    depth,
    rowBlocks,
    blockPanels,
    columnBlocks: ceilDiv(panels, blockPanels),
    split: undefined,
  };
}

/** Blocks for an output of few blocks and a long k (the gradient of a weight), where k may be split; else undefined. */
function fewBlocks({ m, n, k, line, narrow }: Sizes, panel: number) {
  const [rowCount, columnCount, length] = [staticValue(m), staticValue(n), staticValue(k)];
  if (rowCount === undefined || columnCount === undefined) return undefined;
  if (length !== undefined && length < 2 * SHORTEST_CHUNK) return undefined;
  const rows = even(rowCount, 192, narrow ? line : 8);
  const columns = roundUp(even(columnCount, 384, line), panel);
  const blocks = Math.ceil(rowCount / rows) * Math.ceil(columnCount / columns);
  return blocks < ENOUGH_CHUNKS ? { rows, columns } : undefined;
}

/** Rows of a block: less than the most where that leaves too few blocks. */
function blockRows(sizes: Sizes, panel: number): number {
  const { batch, m, n, line, narrow } = sizes;
  const count = staticValue(m);
  const unit = narrow ? line : 8;
  if (count === undefined) return tallest(sizes);
  let rows = even(count, tallest(sizes) + 16, unit);
  const others = staticValue(multiply(batch, ceilDiv(n, 2 * panel))) ?? ENOUGH_TASKS;
  while (rows > 24 && rows > unit && Math.ceil(count / rows) * others < ENOUGH_CHUNKS)
    rows = even(rows, rows / 2, unit);
  return rows;
}

/** Two or three vectors of the widest machine, whichever leaves fewer half-empty panels. */
function panelWidth(columns: number | undefined, line: number): number {
  const lines = columns === undefined ? 3 : Math.ceil(columns / line);
  return line * (lines % 3 === 0 ? 3 : lines % 2 === 0 ? 2 : Math.min(lines, 3));
}

/** The size of equal parts of `count`, each at most `most` (or just above, by rounding up to `unit`). */
function even(count: number | undefined, most: number, unit: number): number {
  if (count === undefined) return most;
  return roundUp(Math.ceil(count / Math.ceil(count / most)), unit);
}

export const roundUp = (count: number, unit: number): number => Math.ceil(count / unit) * unit;

/** Bytes of a number of elements, as a size that keeps what follows on a line of its own. */
export const paddedBytes = (elements: Dim, bytes: number): Dim =>
  multiply(64, floorDiv(add(multiply(elements, bytes), 63), 64));
