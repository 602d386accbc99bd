/**
 * Contractions on Hopper: what `templates/cuda/contract_hopper.cu.hbs` needs to know. Boxes of both sides are copied by
 * the tensor memory accelerator and multiplied by whole warpgroups, so a side has to be a matrix whose rows begin on
 * 16-byte boundaries; one that is not is computed into a workspace.
 */
import { registerOf } from "../../../contract/dtype.ts";
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
  ZERO,
  type Dim,
} from "../../graph/dim.ts";
import type { Access, TensorMapDims } from "../../kernels/kernel.ts";
import { variable } from "../../notation/expression.ts";
import { call } from "../../notation/functions.ts";
import { dimText, scaledText, type Frame } from "../code/context.ts";
import { guess, readsOf, type Contraction } from "../code/contract-axes.ts";
import { needed, preparedIndices } from "../code/indices.ts";
import { primary, REGISTER_TYPES } from "../code/print.ts";
import { emitValues, openScope, placeOf, storedValues, type Scope } from "../code/scope.ts";
import { ELEMENT_THREADS, elementPhase, epilogueOf, isLong, type Setting } from "./contract.ts";
import { packedSide, sideOf, type SideView } from "./contract-sides.ts";
import { cudaHead, type Workspace } from "./launch.ts";
import type { Generated, Phase } from "./target.ts";

/** `WarpgroupProduct` of `prelude/warpgroups.cuh`. */
const ROWS = 128;
const DEPTH = 64;
const PANEL = 64;
const PART_ROWS = 8;
const CONSUMER_WARPS = 8;
/** A warpgroup that copies and two that multiply. */
export const HOPPER_THREADS = 384;
/** Shared memory that a block can have. */
export const HOPPER_SHARED = 232_448;
/** Multiprocessors of an H100 or H200: as many blocks keep all of them busy and go from tile to tile. */
export const MULTIPROCESSORS = 132;
/** The least steps of k that are worth a chunk of their own, and the most stages that are worth their memory. */
const SHORTEST_CHUNK = 1024;
const MOST_STAGES = 6;
/** Reads of an element of which those of four rows find registers beside the sums; a second store takes those of three. */
const MOST_READS = 11;
const READS_OF_STORE = 3;

/** Whether the product is large enough that tiles and steps of a whole warpgroup are not mostly padding. */
export function suitsHopper({ m, n, k }: Setting["sizes"]): boolean {
  const [rows, columns, depth] = [m, n, k].map((size) => staticValue(size) ?? guess(size));
  return rows! > ROWS / 2 && columns! >= 32 && depth! > DEPTH;
}

export function contractHopper(setting: Setting): Generated {
  const { contraction, frame, product, sizes } = setting;
  const [left, right] = (["left", "right"] as const).map((which) => alignedSide(setting, which)) as [Box, Box];
  const finish = finishOf(frame, contraction);
  // The sums of chunks are only stored; what an element reads is read when they are added.
  const widest = tilingOf(sizes, right.view.along, { reads: 0, readsOwn: false, values: [] });
  const split = splitOf(sizes, widest.columns);
  const tiling = split === undefined ? tilingOf(sizes, right.view.along, finish) : widest;
  const { columns, stages } = tiling;
  const partial: Workspace | undefined = split && {
    name: frame.fresh("partial"),
    type: "float",
    bytes: multiply(sizes.batch, split.chunks, sizes.m, sizes.n, 4),
  };
  const workspaces = [left.view.workspace, right.view.workspace, partial].filter((one) => one !== undefined);
  const maps = [frame.fresh("left_map"), frame.fresh("right_map")] as const;
  const mapOf = ({ view, varies }: Box, own: Dim, ownBox: number): TensorMapDims => {
    const workspace = workspaces.findIndex((one) => one === view.workspace);
    const [inner, outer] = view.along ? [sizes.k, own] : [own, sizes.k];
    const row = multiply(view.strides.row, product.bytes);
    return {
      argument: view.operand ?? frame.kernel.operands.length + workspace,
      dtype: product.dtype,
      offset: ZERO,
      sizes: [inner, outer, varies ? sizes.batch : ONE],
      strides: [row, varies ? multiply(view.strides.sample ?? ZERO, product.bytes) : row],
      box: view.along ? [DEPTH, ownBox, 1] : [PANEL, DEPTH, 1],
      swizzle: 128,
    };
  };
  const packs = [left, right].flatMap(({ view }) => (view.pack === undefined ? [] : [view.pack]));
  const tiles = multiply(ceilDiv(sizes.m, ROWS), ceilDiv(sizes.n, columns));
  const multiplyPhase: Phase = {
    blocks: min(MULTIPROCESSORS, multiply(sizes.batch, split?.chunks ?? ONE, tiles)),
    threads: HOPPER_THREADS,
    sharedBytes: tiling.sharedBytes,
  };
  return {
    template: "contract_hopper.cu",
    context: {
      ...cudaHead(frame, { workspaces, maps, includes: ["warpgroups.cuh"] }),
      ...{ swapped: contraction.swapped, element: product.element, columns, stages, threads: HOPPER_THREADS },
      elementThreads: ELEMENT_THREADS,
      packs: packs.map((pack, phase) => ({ ...pack, phase })),
      left: { along: left.view.along, varies: left.varies, map: maps[0] },
      right: { along: right.view.along, varies: right.varies, map: maps[1] },
      sizes: { m: dimText(frame, sizes.m), n: dimText(frame, sizes.n), k: dimText(frame, sizes.k) },
      batch: dimText(frame, sizes.batch),
      split: split && {
        chunks: dimText(frame, split.chunks),
        length: dimText(frame, split.length),
        partial: partial!.name,
      },
      ...{ rowsAtOnce: tiling.rowsAtOnce, columnsAtOnce: tiling.columnsAtOnce },
      // Without a question between them, elements of a row are read and stored together.
      wholeColumns: divideExactly(sizes.n, constant(columns)) !== undefined,
      finish,
      epilogue: split && epilogueOf(frame, contraction, "f32"),
      phases: { multiply: packs.length, combine: packs.length + 1 },
    },
    phases: [
      ...packs.map((pack) => elementPhase(pack.elements)),
      multiplyPhase,
      ...(split === undefined ? [] : [elementPhase(multiply(sizes.batch, sizes.m, sizes.n))]),
    ],
    workspaces,
    tensorMaps: [mapOf(left, sizes.m, ROWS), mapOf(right, sizes.n, columns)],
  };
}

/** A side that boxes are copied of: a matrix, or one for each sample. */
interface Box {
  readonly view: SideView & { readonly operand: number | undefined };
  readonly varies: boolean;
}

function alignedSide(setting: Setting, which: "left" | "right"): Box {
  const { contraction, product, sizes } = setting;
  const direct = sideOf(setting, which);
  const units = 16 / product.bytes;
  const isAligned = (stride: Dim): boolean => divideExactly(stride, constant(units)) !== undefined;
  const varies = contraction[which].variesOverBatch && sizes.batch !== ONE;
  const { row, sample } = direct.strides;
  const suits = isAligned(row) && (!varies || (sample !== undefined && isAligned(sample)));
  const view = direct.direct === undefined || suits ? direct : packedSide(setting, which);
  const access = view.direct === undefined ? undefined : contraction.kernel.accesses[view.direct]!;
  return { view: { ...view, operand: access?.operand }, varies };
}

/**
 * Wide tiles read less per product. They leave few registers while sums wait to be stored, which is enough for a store
 * but not for several, nor for reads in flight: where every element is read, as many rows at once as hide the time that
 * takes.
 */
function tilingOf({ n }: Setting["sizes"], right: boolean, finish: Pick<Finish, "reads" | "readsOwn" | "values">) {
  const total = staticValue(n) ?? guess(n);
  const widths = finish.readsOwn || finish.values.length > 1 ? [128, 64, 32] : [192, 128, 64, 32];
  const cost = (width: number): number => Math.ceil(total / width) * width * (1 + 16 / width);
  const columns = widths.reduce((best, width) => (cost(width) < cost(best) ? width : best));
  const rightColumns = right ? columns : Math.ceil(columns / PANEL) * PANEL;
  const stageBytes = (ROWS + rightColumns) * DEPTH * 2 + 16;
  const partBytes = CONSUMER_WARPS * PART_ROWS * (columns + 8) * 4;
  const stages = Math.min(MOST_STAGES, Math.floor((HOPPER_SHARED - partBytes) / stageBytes));
  const wide = columns > 128;
  const reads = finish.reads + READS_OF_STORE * (finish.values.length - 1);
  const rowsAtOnce = wide || reads > MOST_READS ? 2 : 4;
  const columnsAtOnce = wide ? 3 : columns / 32;
  return { columns, stages, sharedBytes: stages * stageBytes + partBytes, rowsAtOnce, columnsAtOnce };
}

/** As for every GPU, chunks of k where outputs are few and k is long; here as many as give every block one tile. */
function splitOf({ batch, m, n, k }: Setting["sizes"], columns: number) {
  const blocks = staticValue(multiply(batch, ceilDiv(m, ROWS), ceilDiv(n, columns)));
  const isFixed = staticValue(multiply(batch, m, n)) !== undefined;
  if (!isFixed || blocks === undefined || !isLong(k)) return undefined;
  const wanted = Math.floor(MULTIPROCESSORS / blocks);
  if (wanted < 2) return undefined;
  const chunks = max(ONE, min(constant(wanted), floorDiv(k, SHORTEST_CHUNK)));
  return { chunks, length: multiply(ceilDiv(ceilDiv(k, chunks), DEPTH), DEPTH) };
}

/** Statements by what they depend on; the values to store, with the places they go to. */
interface Finish {
  readonly settled: readonly string[];
  readonly sampleLines: readonly string[];
  /** Declarations of what is read once for all rows, and the statements that read it. */
  readonly held: readonly string[];
  readonly columnLines: readonly string[];
  readonly rowLines: readonly string[];
  readonly lines: readonly string[];
  readonly values: readonly {
    readonly name: string;
    readonly type: string;
    readonly text: string;
    readonly place: string;
  }[];
  readonly placeRowLines: readonly string[];
  readonly placeLines: readonly string[];
  /** How many reads an element has, and whether one of them is of something of its own. */
  readonly reads: number;
  readonly readsOwn: boolean;
}

/**
 * The stores of an element in two parts, so that what many elements read is in flight before the first is stored: the
 * values, each into a variable, and the places they go to. Reads ask whether the column is `inside` the product by
 * themselves: a branch round all of them would keep those of one element apart from those of the next. What does not
 * depend on the row is read for every column before its rows.
 */
function finishOf(given: Frame, { kernel, axes, linear }: Contraction): Finish {
  const frame: Frame = { ...given, kernel: { ...kernel, accesses: kernel.accesses.map(guarded) } };
  const sample = preparedIndices(frame, { name: "sample", axes: axes.batch });
  const row = preparedIndices(frame, { name: "row", axes: axes.m });
  const column = preparedIndices(frame, { name: "column", axes: axes.n });
  const indices = new Map([...sample.indices, ...row.indices, ...column.indices]);
  const terms = linear?.flatMap((stride, axis) => {
    const index = indices.get(axis);
    return index === undefined || stride === ZERO ? [] : [scaledText(frame, index, stride)];
  });
  const counted: [string, string][] =
    terms === undefined ? [] : [["linear", terms.length === 0 ? "int64_t(0)" : terms.join(" + ")]];
  const settled = openScope(frame, undefined);
  const sampleScope = openScope(frame, settled, { axes: sample.indices });
  const rowScope = openScope(frame, sampleScope, { axes: row.indices });
  const ofElement = { axes: column.indices, variables: new Map([["acc", "sum"], ["inside", "inside"], ...counted]) };
  const element = openScope(frame, rowScope, ofElement);
  const columnScope = openScope(frame, sampleScope, ofElement);
  const { held, keeps } = holdColumns(columnScope, element);
  const values = storedValues(element, kernel.stores);
  const placeRow = openScope(frame, sampleScope, { axes: row.indices });
  const place = openScope(frame, placeRow, ofElement);
  const places = kernel.stores.map((store) => placeOf(place, store.access));
  const reads = [...element.loads.keys()];
  const columnText = [...columnScope.lines, ...keeps];
  const valueText = [...rowScope.lines, ...element.lines, ...values.map(({ text }) => text.text)];
  const placeText = [...placeRow.lines, ...place.lines, ...places];
  return {
    settled: [...sample.settled, ...row.settled, ...column.settled, ...settled.lines],
    sampleLines: [...sample.lines, ...sampleScope.lines],
    held,
    columnLines: [...needed(column.lines, columnText), ...columnText],
    rowLines: [...needed(row.lines, valueText), ...rowScope.lines],
    lines: [...needed(column.lines, valueText), ...element.lines],
    values: values.map(({ text, type }, i) => ({
      name: frame.fresh("stored"),
      type: REGISTER_TYPES[type],
      text: text.text,
      place: places[i]!,
    })),
    placeRowLines: [...needed(row.lines, placeText), ...placeRow.lines],
    placeLines: [...needed(column.lines, placeText), ...place.lines],
    reads: reads.length,
    readsOwn: reads.some((access) => varies(kernel.accesses[access]!, "m")),
  };

  /** Accesses of columns alone, which the element finds where its column keeps them. */
  function holdColumns(columnScope: Scope, element: Scope): { held: string[]; keeps: string[] } {
    const held: string[] = [];
    const keeps: string[] = [];
    const roots = kernel.stores.map(({ value }) => value);
    for (const position of readsOf(kernel, roots)) {
      const access = kernel.accesses[position]!;
      if (varies(access, "m") || !varies(access, "n")) continue;
      const operand = kernel.operands[access.operand]!;
      const name = frame.fresh(`${frame.operands[access.operand] ?? "a"}_held`);
      const [value] = emitValues(columnScope, [variable(`a${position}`, registerOf(operand.dtype))]);
      held.push(`${REGISTER_TYPES[registerOf(operand.dtype)]} ${name}[COLUMNS_AT_ONCE];`);
      keeps.push(`${name}[c] = ${value!.text};`);
      element.loads.set(position, primary(`${name}[c]`));
    }
    return { held, keeps };
  }

  function guarded(access: Access): Access {
    if (!varies(access, "n")) return access;
    const inside = variable("inside", "bool");
    return { ...access, guard: access.guard === undefined ? inside : call("and", [access.guard, inside]) };
  }

  function varies({ strides, lookups, guard }: Access, role: "m" | "n"): boolean {
    const along = axes[role].some((axis) => staticValue(strides[axis]!) !== 0);
    return along || lookups.length > 0 || guard !== undefined;
  }
}
