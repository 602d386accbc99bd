/**
 * The Kernel language: one fused group of graph nodes, as loops over named axes.
 *
 * Semantics
 *   - A kernel runs its loops over `axes`. An access reads or writes the element of an operand at
 *     `sum(index of axis * stride) + sum(lookup * stride)`, counted in elements of the operand from the place where the
 *     plan binds it. Offsets are 64-bit. An access whose guard is false reads 0 and touches no memory.
 *   - What an element computes is a scalar expression (`notation/expression.ts`) whose variables are
 *       a0 a1 …  the value read through access 0, 1, … (widened to the register type of its operand)
 *       i0 i1 …  the index along axis 0, 1, …        (i32 in expressions; printers keep them 64-bit)
 *       linear   the row-major index of the element over all axes: what a random draw counts with
 *       s0 s1 …  scalar arguments, bound by the plan: constants by reference, so that equal kernels stay equal
 *       r0 r1 …  the result of a reduction (rows: of an earlier stage; columns: in the stores)
 *       acc      the sum of products (contract: in the stores)
 *   - Reads see memory as it was before the kernel, except that a store may go to the very element an access of the same
 *     iteration reads (in place): within an iteration all reads come before all stores.
 *   - Stores round to the operand's type (ties to even; to bool: not zero). No two iterations store to one element.
 *   - Reductions and products accumulate in float32 (float64 when the expression is f64, int32 when it is i32) in an
 *     order that depends on the sizes alone, never on the number of threads.
 *   - Sizes and strides are dims over the program's symbols; a kernel receives the values of those it uses, in the
 *     order of `symbols`.
 *
 * Kernels carry no names of layers and no offsets: the same work in every block is one kernel, compiled once.
 */
import type { DType, ScalarType } from "../../contract/dtype.ts";
import type { Dim } from "../graph/dim.ts";
import type { Expression } from "../notation/expression.ts";

export type Kernel =
  MapKernel | RowsKernel | ColumnsKernel | ContractKernel | AttentionKernel | AttentionGradientKernel;

interface Common {
  /** Named by meaning: `layer_norm_modulate_rows`. A C identifier. */
  readonly name: string;
  /** What it computes, in the words of the field; the first line of the generated source. */
  readonly formula: string;
  readonly operands: readonly Operand[];
  readonly scalars: readonly ScalarType[];
  /** The symbols the sizes and strides depend on, sorted. */
  readonly symbols: readonly string[];
}

export interface Operand {
  readonly name: string;
  readonly dtype: DType;
  readonly role: "read" | "write";
}

export interface Axis {
  readonly name: string;
  readonly size: Dim;
}

export interface Access {
  /** Position in `operands`. */
  readonly operand: number;
  /** One stride per axis of the kernel, in elements; 0 where the operand does not vary along the axis. */
  readonly strides: readonly Dim[];
  /** Data-dependent terms: `stride * index`, for gathers and shifted reads. */
  readonly lookups: readonly Lookup[];
  /** Where false, the value is 0 and memory is not touched. */
  readonly guard?: Expression;
}

export interface Lookup {
  readonly stride: Dim;
  readonly index: Expression;
}

export interface Store {
  /** Position in `accesses`; its operand has role `write`. */
  readonly access: number;
  readonly value: Expression;
}

export interface Reduction {
  readonly operation: "sum" | "max" | "min";
  readonly value: Expression;
}

interface Loops extends Common {
  readonly axes: readonly Axis[];
  readonly accesses: readonly Access[];
  readonly stores: readonly Store[];
}

/** Every element on its own: element-wise chains, copies, permutations, gathers, random draws. */
export interface MapKernel extends Loops {
  readonly anchor: "map";
}

/**
 * Reductions along the last axes, and everything that is computed per row from them (layer norm, its gradient, losses).
 * The first `outer` axes count rows, the rest lie inside a row. Reductions are numbered r0 r1 … across stages; a stage
 * may use those of earlier stages. A store whose access has stride 0 along, and whose value does not vary over, every
 * inner axis is `perRow` and happens once per row.
 */
export interface RowsKernel extends Loops {
  readonly anchor: "rows";
  readonly outer: number;
  readonly stages: readonly (readonly Reduction[])[];
  /** For each store: whether it happens once per row, after the last stage. */
  readonly perRow: readonly boolean[];
}

/**
 * Reductions over axes that are not the last (bias and modulation gradients). `reduced[i]` tells whether axis i is
 * summed over; the last axis is kept. Stores happen once per kept element and may use r0 r1 …
 */
export interface ColumnsKernel extends Loops {
  readonly anchor: "columns";
  readonly reduced: readonly boolean[];
  readonly reductions: readonly Reduction[];
}

/**
 * `acc[batch, m, n] = sum over k of left[batch, m, k] * right[batch, n, k]`, then the stores over (batch, m, n).
 * `roles[i]` tells what axis i is; there may be none, one or several axes of each role. `left` reads accesses that do
 * not vary over n, `right` accesses that do not vary over m. The products are of float32 values and add up in float32.
 * When `left` and `right` are both of type bf16 at their root (a `bf16` call or a bf16 access), or both of type f16 (an
 * `f16` call or an f16 access), a target may use products of that type that add up in float32.
 */
export interface ContractKernel extends Loops {
  readonly anchor: "contract";
  readonly roles: readonly ContractRole[];
  readonly left: Expression;
  readonly right: Expression;
}

export type ContractRole = "batch" | "m" | "n" | "k";

/**
 * `o = softmax(scale * q k^T + mask) v` without ever storing the scores; `lse` is the log of the sum of exponentials.
 * Axes are, in this order: batch, heads, queries, keys, head. Accesses are those named below; q, o vary over (batch,
 * heads, queries, head), k and v over (batch, heads, keys, head), lse over (batch, heads, queries). A row without a
 * single valid key gives o = 0 and lse = -infinity.
 */
export interface AttentionKernel extends Common {
  readonly anchor: "attention";
  readonly axes: readonly Axis[];
  readonly accesses: readonly Access[];
  readonly scale: number;
  readonly mask: KernelMask;
  readonly q: number;
  readonly k: number;
  readonly v: number;
  readonly o: number;
  readonly lse: number;
}

/** The gradient of attention: reads q k v o lse and doutput, writes dq dk dv. Rows without a valid key give zeros. */
export interface AttentionGradientKernel extends Common {
  readonly anchor: "attentionGradient";
  readonly axes: readonly Axis[];
  readonly accesses: readonly Access[];
  readonly scale: number;
  readonly mask: KernelMask;
  readonly q: number;
  readonly k: number;
  readonly v: number;
  readonly o: number;
  readonly lse: number;
  readonly doutput: number;
  readonly dq: number;
  readonly dk: number;
  readonly dv: number;
}

/**
 * Which keys a query may see. `segments` cut the key axis, in order and without gaps, into parts of `extent` keys, of
 * which only the first `lengths[batch]` (an i32 access over batch) are valid: one segment for padded clips, two for
 * padded text followed by padded video. No segments: every key. `causal`: key j is visible to query i when j <= i.
 */
export interface KernelMask {
  readonly causal: boolean;
  readonly segments: readonly { readonly extent: Dim; readonly lengths: number }[];
}

/** What a target makes of a kernel. The plan needs nothing else of it. */
export interface GeneratedKernel {
  /** A C identifier, unique by content: the kernel's name and a hash of its source. */
  readonly symbol: string;
  readonly source: string;
  /** Run one after the other; each is called once per task number, in any order, by any thread. */
  readonly phases: readonly { readonly symbol: string; readonly tasks: Dim }[];
  /** Extra buffers of this many bytes, passed after the operands, alive during the kernel only. */
  readonly workspaces: readonly Dim[];
  /** Bytes of private memory that each thread needs. */
  readonly scratch: Dim;
  /** How a GPU launches it: a task is a block. */
  readonly gpu?: {
    readonly phases: readonly { readonly threads: number; readonly sharedBytes: number }[];
    readonly tensorMaps: readonly TensorMapDims[];
  };
}

/** A matrix in memory that blocks copy boxes of: `TensorMapSpec` of the plan, with sizes still dims. */
export interface TensorMapDims {
  /** Position among operands, then workspaces. */
  readonly argument: number;
  readonly dtype: DType;
  /** Elements from the argument's place. */
  readonly offset: Dim;
  /** Innermost first. */
  readonly sizes: readonly Dim[];
  /** Bytes from one element to the next along dimensions 1, 2 …; the innermost is contiguous. */
  readonly strides: readonly Dim[];
  readonly box: readonly number[];
  readonly swizzle: 0 | 32 | 64 | 128;
}
