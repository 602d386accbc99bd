/**
 * Attention on Hopper: what `attention_hopper.cu.hbs` and `attention_gradient_hopper.cu.hbs` need to know. The tensor
 * memory accelerator copies boxes of queries and keys, which fill the head up with zeros to whole products; warpgroups
 * multiply them.
 */
import {
  ceilDiv,
  constant,
  divideExactly,
  floorDiv,
  max,
  min,
  multiply,
  ONE,
  staticValue,
  subtract,
  ZERO,
  type Dim,
} from "../../graph/dim.ts";
import type { AttentionGradientKernel, AttentionKernel, TensorMapDims } from "../../kernels/kernel.ts";
import {
  BATCH,
  HEAD,
  HEADS,
  KEYS,
  maskView,
  operandAt,
  QUERIES,
  sampleScope,
  type AnyAttention,
} from "../code/attention-axes.ts";
import { dimText, type Frame } from "../code/context.ts";
import { takeLines } from "../code/scope.ts";
import { commonOf, elementOf, sizesOf, typedView, type Sizes } from "./attention.ts";
import { HOPPER_SHARED, MULTIPROCESSORS } from "./contract-hopper.ts";
import { cudaHead, openCudaFrame, type Workspace } from "./launch.ts";
import type { Generated, Phase } from "./target.ts";

/** Heads whose sums and scores leave room in the registers of a warpgroup; of the gradient, two sums at a time. */
const LARGEST_HEAD = 256;
const LARGEST_GRADIENT_HEAD = 128;
/** Heads that are small enough for three warpgroups, or for 64 keys and values in registers beside their gradients. */
const SMALL_HEAD = 72;
/** Threads, and queries or keys, of a warpgroup. */
const WARPGROUP = 128;
const GROUP_ROWS = 64;
/** The most stages that are worth their memory. */
const MOST_STAGES = 4;
const WARP = 32;
/** The fewest queries that are worth a chunk of their own. */
const SHORTEST_CHUNK = 1024;
/** Threads of the phases that have a warp for each query, or key. */
const ROW_THREADS = 128;

/** Whether boxes of every operand can be copied and its type is one that warpgroups multiply. */
export function attentionSuitsHopper(kernel: AttentionKernel): boolean {
  return kernel.scale > 0 && suits(kernel, [kernel.q, kernel.k, kernel.v], LARGEST_HEAD);
}

export function gradientSuitsHopper(kernel: AttentionGradientKernel): boolean {
  const operands = [kernel.q, kernel.k, kernel.v, kernel.doutput];
  return suits(kernel, operands, LARGEST_GRADIENT_HEAD);
}

function suits(kernel: AnyAttention, operands: readonly number[], largest: number): boolean {
  const { head } = sizesOf(kernel);
  if (head > largest || head % 8 !== 0 || elementOf(kernel, operands).bytes !== 2) return false;
  return operands.every((access) => boxedStrides(kernel, access) !== undefined);
}

/** Strides of the sequence, the heads and the batch in bytes, all multiples of 16; undefined where they are not. */
function boxedStrides(kernel: AnyAttention, access: number): readonly Dim[] | undefined {
  const { strides } = kernel.accesses[access]!;
  if (strides[HEAD] !== ONE) return undefined;
  const sequence = staticValue(strides[QUERIES]!) === 0 ? KEYS : QUERIES;
  const found = [sequence, HEADS, BATCH].map((axis): Dim | undefined => {
    const stride = strides[axis]!;
    // Of a single element the stride does not matter, except that it must be one.
    if (kernel.axes[axis]!.size === ONE) return constant(16);
    return stride === ZERO || divideExactly(stride, constant(8)) === undefined ? undefined : multiply(stride, 2);
  });
  return found.some((stride) => stride === undefined) ? undefined : (found as Dim[]);
}

/** A copy of one box: which map, from which column on, and to which byte of the tile. */
interface Box {
  readonly map: string;
  readonly column: number;
  readonly offset: number;
}

/** Maps of a launch, collected as operands ask for boxes of some width and some number of rows. */
function openMaps(frame: Frame, kernel: AnyAttention) {
  const names: string[] = [];
  const maps: TensorMapDims[] = [];
  const known = new Map<string, string>();

  function mapOf(access: number, rows: number, width: number): string {
    const operand = kernel.accesses[access]!.operand;
    const key = `${access} ${rows} ${width}`;
    const before = known.get(key);
    if (before !== undefined) return before;
    const name = frame.fresh(`${frame.operands[operand] ?? ""}_${rows}x${width}`);
    known.set(key, name);
    names.push(name);
    const { strides } = kernel.accesses[access]!;
    const sequence = staticValue(strides[QUERIES]!) === 0 ? KEYS : QUERIES;
    maps.push({
      argument: operand,
      dtype: operandAt(kernel, access).dtype,
      offset: ZERO,
      sizes: [HEAD, sequence, HEADS, BATCH].map((axis) => kernel.axes[axis]!.size),
      strides: boxedStrides(kernel, access)!,
      box: [width, rows, 1, 1],
      swizzle: swizzleOf(width),
    });
    return name;
  }

  /** The boxes of a `DepthTile`: 64 columns each, then 32 and 16. */
  function alongDepth(access: number, rows: number, columns: number): Box[] {
    const boxes: Box[] = [];
    for (let column = 0; column < columns;) {
      const left = columns - column;
      const width = left >= 64 ? 64 : left >= 32 ? 32 : 16;
      boxes.push({ map: mapOf(access, rows, width), column, offset: column * rows * 2 });
      column += width;
    }
    return boxes;
  }

  /** The boxes of a `PanelTile`. */
  function panels(access: number, rows: number, columns: number, width: number): Box[] {
    const map = mapOf(access, rows, width);
    return Array.from({ length: Math.ceil(columns / width) }, (_, panel) => ({
      map,
      column: panel * width,
      offset: panel * rows * width * 2,
    }));
  }
  return { names, maps, alongDepth, panels };
}

function swizzleOf(width: number): 32 | 64 | 128 {
  if (width === 16) return 32;
  return width === 32 ? 64 : 128;
}

/** Columns of a panel. Wide ones take fewer copies, each of more bytes, and are read without bank conflicts. */
function panelOf(head: number): 16 | 32 | 64 {
  if (head <= 16) return 16;
  return head <= 32 ? 32 : 64;
}

const padded = (count: number, to: number): number => Math.ceil(count / to) * to;
/** `BYTES` of a tile: the next one begins on a boundary of the widest swizzle. */
const tileBytes = (rows: number, columns: number): number => padded(rows * columns * 2, 1024);
const ringBytes = (stages: number): number => 16 * stages;

interface Rings {
  readonly stages: number;
  readonly items: number;
  readonly sharedBytes: number;
}

/**
 * As many stages as there is room for; and the rows of two items at a time, those of the next on their way, where that
 * leaves `least` stages.
 */
function ringsOf(itemBytes: number, stageBytes: number, least: number): Rings {
  const room = (items: number): number =>
    Math.floor((HOPPER_SHARED - 8 - items * (itemBytes + ringBytes(1))) / stageBytes);
  const items = room(2) >= least ? 2 : 1;
  const stages = Math.min(MOST_STAGES, room(items));
  return { stages, items, sharedBytes: items * (itemBytes + ringBytes(1)) + stages * stageBytes + 8 };
}

/** Warpgroups of a block, and keys of a step, as far as scores, weights and output share the registers. */
function forwardTiling(head: number): { groups: number; keyBlock: number } {
  if (head <= SMALL_HEAD) return { groups: 3, keyBlock: 128 };
  return { groups: 2, keyBlock: head <= 128 ? 128 : head <= 192 ? 96 : 64 };
}

export function attentionOnHopper(kernel: AttentionKernel): Generated {
  const frame = openCudaFrame(kernel);
  const sizes = sizesOf(kernel);
  const { head } = sizes;
  const { groups, keyBlock } = forwardTiling(head);
  const rows = groups * GROUP_ROWS;
  const threads = (1 + groups) * WARPGROUP;
  const depth = padded(head, 16);
  const panel = panelOf(head);
  const maps = openMaps(frame, kernel);
  const boxes = {
    q: maps.alongDepth(kernel.q, rows, depth),
    k: maps.alongDepth(kernel.k, keyBlock, depth),
    v: maps.panels(kernel.v, keyBlock, head, panel),
  };
  const copying = sampleScope(frame);
  const copyingMask = maskView(copying, kernel);
  const scope = sampleScope(frame);
  const [o, lse] = [typedView(scope, kernel.o), typedView(scope, kernel.lse)];
  const { segments } = maskView(scope, kernel);
  const stageBytes = tileBytes(keyBlock, depth) + tileBytes(keyBlock, padded(head, panel)) + 2 * ringBytes(1);
  const { stages, items, sharedBytes } = ringsOf(tileBytes(rows, depth), stageBytes, 2);
  return {
    template: "attention_hopper.cu",
    context: {
      ...cudaHead(frame, { maps: maps.names, includes: ["warpgroup_attention.cuh"] }),
      ...commonOf(frame, kernel, sizes, elementOf(kernel, [kernel.q, kernel.k, kernel.v]).cpp),
      ...{ groups, keyBlock, stages, items, threads, panel },
      ...{ ...boxes, o, lse, segments, pointers: takeLines(scope) },
      copying: { ...copyingMask, pointers: takeLines(copying) },
    },
    phases: [
      {
        blocks: min(MULTIPROCESSORS, multiply(sizes.samples, ceilDiv(sizes.queries, rows))),
        threads,
        sharedBytes,
      },
    ],
    workspaces: [],
    tensorMaps: maps.maps,
  };
}

export function gradientOnHopper(kernel: AttentionGradientKernel): Generated {
  const frame = openCudaFrame(kernel);
  const sizes = sizesOf(kernel);
  const { head } = sizes;
  // Two sums, or one, and the scores of a step are in registers at the same time.
  const queryStep = head <= 96 ? 64 : 48;
  const keyStep = head <= SMALL_HEAD ? 64 : 96;
  const groups = { ofKeys: 2, ofQueries: head <= SMALL_HEAD ? 3 : 2 };
  const depth = padded(head, 16);
  const panel = panelOf(head);
  const panels = padded(head, panel);
  const maps = openMaps(frame, kernel);
  const held = head <= SMALL_HEAD;
  const rowsOf = (count: number): number => count * GROUP_ROWS;
  const rowBoxes = (access: number, count: number): Box[] => maps.alongDepth(access, rowsOf(count), depth);
  const boxesOfKeys = {
    ...(held ? {} : { k: rowBoxes(kernel.k, groups.ofKeys), v: rowBoxes(kernel.v, groups.ofKeys) }),
    q: maps.panels(kernel.q, queryStep, head, panel),
    doutput: maps.panels(kernel.doutput, queryStep, head, panel),
  };
  const boxesOfQueries = {
    q: rowBoxes(kernel.q, groups.ofQueries),
    doutput: rowBoxes(kernel.doutput, groups.ofQueries),
    k: maps.panels(kernel.k, keyStep, head, panel),
    v: maps.alongDepth(kernel.v, keyStep, depth),
  };
  const queryPadded = multiply(ceilDiv(sizes.queries, queryStep), queryStep);
  const statistics: Workspace = {
    name: frame.fresh("statistics"),
    type: "float",
    bytes: multiply(sizes.samples, 2, queryPadded, 4),
  };
  const split = splitOf(frame, sizes, groups.ofKeys * GROUP_ROWS);
  const statisticsMap = frame.fresh("statistics_map");
  const inputs = ["o", "lse", "doutput"] as const;
  const ofKeys = viewsOf(frame, kernel, held ? ["k", "v", "dk", "dv"] : ["dk", "dv"]);
  const ofQueries = viewsOf(frame, kernel, ["dq"]);
  const queryBytes = padded(2 * tileBytes(queryStep, panels) + 2 * queryStep * 4, 1024);
  const keyBytes = tileBytes(keyStep, panels) + tileBytes(keyStep, depth);
  const rowBytes = (count: number): number => 2 * tileBytes(rowsOf(count), depth);
  const overQueries = ringsOf(held ? 0 : rowBytes(groups.ofKeys), queryBytes + ringBytes(1), 3);
  const overKeys = ringsOf(rowBytes(groups.ofQueries), keyBytes + ringBytes(1), 3);
  const threadsOf = (count: number): number => (1 + count) * WARPGROUP;
  const perRow = (rows: Dim): Phase => ({
    blocks: ceilDiv(multiply(sizes.samples, rows), ROW_THREADS / WARP),
    threads: ROW_THREADS,
    sharedBytes: 0,
  });
  const perItem = (items: Dim, count: number, { sharedBytes }: Rings, chunks: Dim = ONE): Phase => ({
    blocks: min(MULTIPROCESSORS, multiply(sizes.samples, ceilDiv(items, rowsOf(count)), chunks)),
    threads: threadsOf(count),
    sharedBytes,
  });
  const shape = (count: number, { stages, items }: Rings) => ({
    groups: count,
    threads: threadsOf(count),
    stages,
    items,
  });
  return {
    template: "attention_gradient_hopper.cu",
    context: {
      ...cudaHead(frame, {
        workspaces: split === undefined ? [statistics] : [statistics, split.partial],
        maps: [...maps.names, statisticsMap],
        includes: ["warpgroup_attention.cuh"],
      }),
      ...commonOf(frame, kernel, sizes, elementOf(kernel, [kernel.q, kernel.k, kernel.v, kernel.doutput]).cpp),
      ...{ queryStep, keyStep, panel },
      ...{ elementThreads: ROW_THREADS, statistics: statistics.name, statisticsMap },
      delta: viewsOf(frame, kernel, inputs),
      split: split && {
        chunks: dimText(frame, split.chunks),
        partial: split.partial.name,
      },
      combine: split && viewsOf(frame, kernel, ["dk", "dv"]),
      ofKeys: {
        ...ofKeys,
        ...boxesOfKeys,
        ...shape(groups.ofKeys, overQueries),
        held,
        copying: viewsOf(frame, kernel, []),
      },
      ofQueries: {
        ...ofQueries,
        ...boxesOfQueries,
        ...shape(groups.ofQueries, overKeys),
        copying: viewsOf(frame, kernel, []),
      },
    },
    phases: [
      perRow(queryPadded),
      perItem(sizes.keys, groups.ofKeys, overQueries, split?.chunks),
      perItem(sizes.queries, groups.ofQueries, overKeys),
      ...(split === undefined ? [] : [perRow(multiply(split.several, sizes.keys))]),
    ],
    workspaces: split === undefined ? [statistics] : [statistics, split.partial],
    tensorMaps: [
      ...maps.maps,
      {
        argument: kernel.operands.length,
        dtype: "f32",
        offset: ZERO,
        sizes: [queryPadded, multiply(sizes.samples, 2)],
        strides: [multiply(queryPadded, 4)],
        box: [queryStep, 2],
        swizzle: 0,
      },
    ],
  };
}

/**
 * Chunks of the queries, for the gradients of keys and values that are too few to keep every multiprocessor busy, as those
 * of a text are; undefined where there is never more than one.
 */
function splitOf(frame: Frame, { samples, queries, keys, head }: Sizes, rows: number) {
  const items = max(ONE, multiply(samples, ceilDiv(keys, rows)));
  const chunks = max(ONE, min(floorDiv(MULTIPROCESSORS, items), floorDiv(queries, SHORTEST_CHUNK)));
  if (chunks === ONE) return undefined;
  const several = min(ONE, subtract(chunks, ONE));
  const partial: Workspace = {
    name: frame.fresh("partial"),
    type: "float",
    bytes: multiply(several, samples, chunks, keys, 2 * head, 4),
  };
  return { chunks, several, partial };
}

/** Views of operands for one head, the mask, and the declarations in front of them. */
function viewsOf<Name extends "k" | "v" | "o" | "lse" | "doutput" | "dq" | "dk" | "dv">(
  frame: Frame,
  kernel: AttentionGradientKernel,
  names: readonly Name[],
) {
  const scope = sampleScope(frame);
  const views = Object.fromEntries(names.map((name) => [name, typedView(scope, kernel[name])]));
  return { ...views, ...maskView(scope, kernel), pointers: takeLines(scope) };
}
