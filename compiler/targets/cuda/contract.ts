/**
 * Contractions on a GPU: what `templates/cuda/contract.cu.hbs` needs to know.
 *
 * bf16, f16 and f32 are multiplied by the tensor cores (`prelude/tile.cuh`); a side that does not lie in memory as a
 * matrix of the product's type is computed into one first, in a phase of its own. The other types take
 * `contract_plain.cu.hbs`, which evaluates both sides into shared memory.
 */
import type { Arch } from "../../../contract/plan.ts";
import {
  ceilDiv,
  constant,
  floorDiv,
  max,
  min,
  multiply,
  ONE,
  staticValue,
  symbol,
  ZERO,
  type Dim,
} from "../../graph/dim.ts";
import type { ContractKernel } from "../../kernels/kernel.ts";
import { dimText, scaledText, type Frame } from "../code/context.ts";
import { arrange, guess, scatteredAccesses, sizeOf, type Contraction } from "../code/contract-axes.ts";
import { wholeIndices } from "../code/indices.ts";
import { REGISTER_TYPES } from "../code/print.ts";
import { openScope, storeStatements } from "../code/scope.ts";
import { contractHopper, suitsHopper } from "./contract-hopper.ts";
import { plainContract } from "./contract-plain.ts";
import { productOf, sideOf, type Product, type SideView } from "./contract-sides.ts";
import { cudaHead, openCudaFrame, type Workspace } from "./launch.ts";
import type { Generated, Phase } from "./target.ts";

/** Threads of the phases that compute a side, and that add chunks. */
export const ELEMENT_THREADS = 256;

/** Blocks that keep a large GPU busy, and the least steps of k that are worth a chunk of their own. */
const ENOUGH_BLOCKS = 256;
const SHORTEST_CHUNK = 1024;
const SHORTEST_CHUNK_OF_SAMPLES = 256;

/** A contraction with the sizes that everything is decided by. */
export interface Setting {
  readonly contraction: Contraction;
  readonly frame: Frame;
  readonly product: Product;
  readonly sizes: { readonly batch: Dim; readonly m: Dim; readonly n: Dim; readonly k: Dim };
}

/** The form for an architecture; `everywhere`: that for Hopper also where another is faster. */
export function contract(given: ContractKernel, arch: Arch, everywhere = false): Generated {
  const contraction = arrange(given, scatteredAccesses);
  const { kernel, axes } = contraction;
  const frame = openCudaFrame(kernel, given);
  const sizes = {
    batch: sizeOf(kernel, axes.batch),
    m: sizeOf(kernel, axes.m),
    n: sizeOf(kernel, axes.n),
    k: sizeOf(kernel, axes.k),
  };
  const product = productOf(kernel);
  if (product === undefined) return plainContract({ contraction, frame, sizes });
  const setting: Setting = { contraction, frame, product, sizes };
  const hopper = arch === "sm_90a" && product.bytes === 2 && (everywhere || suitsHopper(sizes));
  if (hopper) return contractHopper(setting);
  const [left, right] = [sideOf(setting, "left"), sideOf(setting, "right")];
  const tile = tileOf(sizes);
  const split = splitOf(sizes, tile, product);
  const partial: Workspace | undefined = split && {
    name: frame.fresh("partial"),
    type: "float",
    bytes: multiply(sizes.batch, split.chunks, sizes.m, sizes.n, 4),
  };
  const workspaces = [left.workspace, right.workspace, partial].filter((one) => one !== undefined);
  const tiles = multiply(ceilDiv(sizes.m, tile.rows), ceilDiv(sizes.n, tile.columns));
  const packs = [left, right].flatMap(({ pack }) => (pack === undefined ? [] : [pack]));
  const epilogue = epilogueOf(frame, contraction, "f32");
  const multiplyPhase: Phase = {
    blocks: multiply(sizes.batch, split?.chunks ?? ONE, tiles),
    threads: tile.warpRows * tile.warpColumns * 32,
    sharedBytes: sharedBytes(tile),
  };
  return {
    template: "contract.cu",
    context: {
      ...cudaHead(frame, { workspaces, includes: ["tile.cuh"] }),
      ...{ swapped: contraction.swapped, element: product.element, tile, threads: multiplyPhase.threads },
      elementThreads: ELEMENT_THREADS,
      packs: packs.map((pack, phase) => ({ ...pack, phase })),
      ...{ left, right },
      sizes: { m: dimText(frame, sizes.m), n: dimText(frame, sizes.n), k: dimText(frame, sizes.k) },
      batch: dimText(frame, sizes.batch),
      split: split && {
        chunks: dimText(frame, split.chunks),
        length: dimText(frame, split.length),
        partial: partial!.name,
      },
      sideLines: distinct([...left.lines, ...right.lines]),
      sampleLines: epilogue.sampleLines.filter((line) => !left.lines.includes(line) && !right.lines.includes(line)),
      epilogue,
      phases: { multiply: packs.length, combine: packs.length + 1 },
    },
    phases: [
      ...packs.map((pack) => elementPhase(pack.elements)),
      multiplyPhase,
      ...(split === undefined ? [] : [elementPhase(multiply(sizes.batch, sizes.m, sizes.n))]),
    ],
    workspaces,
  };
}

/** Both sides and the stores take a sample's number apart in the same words. */
const distinct = (lines: readonly string[]): string[] => [...new Set(lines)];

/** A phase that computes elements one by one. */
export const elementPhase = (elements: Dim): Phase => ({
  blocks: ceilDiv(elements, ELEMENT_THREADS),
  threads: ELEMENT_THREADS,
  sharedBytes: 0,
});

export interface TileChoice {
  readonly rows: number;
  readonly columns: number;
  /** Warps stand in a grid over the tile. */
  readonly warpRows: number;
  readonly warpColumns: number;
}

/** The fewest tiles that waste little: narrow ones where the product is narrow. */
function tileOf({ m, n }: Setting["sizes"]): TileChoice {
  const columns = staticValue(n) ?? Infinity;
  const rows = staticValue(m) ?? guess(m);
  if (columns <= 32) return { rows: 128, columns: 32, warpRows: 4, warpColumns: 1 };
  if (rows <= 64 || columns <= 64) return { rows: 64, columns: 64, warpRows: 2, warpColumns: 2 };
  return { rows: 128, columns: 128, warpRows: 2, warpColumns: 4 };
}

/** `BlockProduct::SHARED_BYTES`: four stages of 64 bytes of k, or the sums. */
const sharedBytes = ({ rows, columns }: TileChoice): number =>
  Math.max(4 * 64 * (rows + columns), 4 * rows * (columns + 8));

/** Whether a sum goes over the tokens of all samples, and not over samples alone or something of a fixed size. */
export const isLong = (k: Dim): boolean => staticValue(k) === undefined && guess(k) > guess(symbol("batch"));

/**
 * Where outputs are few and sums long, chunks of k go to different blocks and are added in order: gradients of weights,
 * whose sums go over all tokens, and products that have a row for each sample.
 */
function splitOf({ batch, m, n, k }: Setting["sizes"], tile: TileChoice, product: Product) {
  const rows = staticValue(m) ?? guess(m);
  const blocks = staticValue(multiply(batch, Math.ceil(rows / tile.rows), ceilDiv(n, tile.columns)));
  if (blocks === undefined) return undefined;
  const ofTokens = staticValue(m) !== undefined && isLong(k);
  const ofSamples = staticValue(k) !== undefined && rows <= tile.rows;
  if (!ofTokens && !ofSamples) return undefined;
  const wanted = constant(Math.floor(ENOUGH_BLOCKS / blocks));
  const chunks = max(ONE, min(wanted, floorDiv(k, ofTokens ? SHORTEST_CHUNK : SHORTEST_CHUNK_OF_SAMPLES)));
  if (chunks === ONE) return undefined;
  // Whole steps of the main loop, so that only the last chunk ends between two.
  const depth = 64 / product.bytes;
  return { chunks, length: multiply(ceilDiv(ceilDiv(k, chunks), depth), depth) };
}

/** Statements that store one element of the product, by what they depend on. */
export interface Epilogue {
  readonly settled: readonly string[];
  readonly sampleLines: readonly string[];
  readonly rowLines: readonly string[];
  readonly columnLines: readonly string[];
  readonly body: readonly string[];
  /** Threads read what another may store over, in place: they meet first, those of a block and those of a row. */
  readonly orderedSample: boolean;
  readonly orderedRow: boolean;
}

export function epilogueOf(
  frame: Frame,
  { kernel, axes, linear }: Contraction,
  register: "f64" | "f32" | "i32" | "u32",
): Epilogue {
  const sample = wholeIndices(frame, { name: "sample", axes: axes.batch });
  const row = wholeIndices(frame, { name: "row", axes: axes.m });
  const column = wholeIndices(frame, { name: "column", axes: axes.n });
  const indices = new Map([...sample.indices, ...row.indices, ...column.indices]);
  const terms = linear?.flatMap((stride, axis) => {
    const index = indices.get(axis);
    return index === undefined || stride === ZERO ? [] : [scaledText(frame, index, stride)];
  });
  const variables = new Map([["acc", `${REGISTER_TYPES[register]}(sum)`]]);
  if (register === "f32" || register === "f64") variables.set("acc", "sum");
  if (terms !== undefined) variables.set("linear", terms.length === 0 ? "int64_t(0)" : terms.join(" + "));
  const settled = openScope(frame, undefined);
  const sampleScope = openScope(frame, settled, { axes: sample.indices });
  const rowScope = openScope(frame, sampleScope, { axes: row.indices });
  const element = openScope(frame, rowScope, { axes: column.indices, variables });
  const stores = storeStatements(element, kernel.stores);
  return {
    settled: settled.lines,
    sampleLines: [...sample.lines, ...sampleScope.lines],
    rowLines: [...row.lines, ...rowScope.lines],
    columnLines: column.lines,
    body: [...element.lines, ...stores],
    orderedSample: axes.m.length + axes.n.length === 0 && settled.loads.size + sampleScope.loads.size > 0,
    orderedRow: axes.n.length === 0 && rowScope.loads.size > 0,
  };
}

export type { SideView };
