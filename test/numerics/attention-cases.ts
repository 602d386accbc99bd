/** Attention for tests: both kernels of a setting over the strides of any layout, with random inputs. */
import { constant, multiply, ONE, symbol, ZERO, type Dim } from "../../compiler/graph/dim.ts";
import { interpret, rounded } from "../../compiler/kernels/interpret.ts";
import type {
  Access,
  AttentionGradientKernel,
  AttentionKernel,
  Axis,
  KernelMask,
} from "../../compiler/kernels/kernel.ts";
import type { DType } from "../../contract/dtype.ts";
import type { Case } from "./harness.ts";

export interface Shape {
  readonly batch: number;
  readonly heads: number;
  readonly queries: number;
  readonly keys: number;
  readonly head: number;
}

export interface Setting extends Shape {
  readonly name: string;
  /** The order of (batch, heads, sequence, head) in memory. */
  readonly layout?: "bshd" | "bhsd" | "bhds" | "sbhd";
  readonly dtype?: DType;
  readonly causal?: boolean;
  /** Extents of the segments of the keys, and for each the valid lengths by batch. */
  readonly segments?: readonly { readonly extent: number; readonly lengths: readonly number[] }[];
  /** Sizes other than the head are symbols. */
  readonly open?: boolean;
}

let state = 99;
export const noise = (count: number, dtype: DType): Float64Array =>
  Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return rounded(state / 2 ** 31 - 1, dtype);
  });

const POSITIONS = { b: 0, h: 1, s: 2, d: 4 } as const;

/** Both kernels of a setting, with random inputs; the gradient's o and lse come from the interpreter. */
export function casesOf(setting: Setting): { forward: Case; backward: Case } {
  const { layout = "bshd", dtype = "f32", open = false, causal = false, segments = [] } = setting;
  const sizes = { batch: setting.batch, heads: setting.heads, queries: setting.queries, keys: setting.keys };
  const dim = (name: keyof typeof sizes): Dim => (open ? symbol(name) : constant(sizes[name]));
  const axes: Axis[] = [
    ...(["batch", "heads", "queries", "keys"] as const).map((name) => ({ name, size: dim(name) })),
    { name: "head", size: constant(setting.head) },
  ];
  const extents = [setting.batch, setting.heads, setting.queries, setting.keys, setting.head];

  function place(order: readonly number[], operand: number): { access: Access; count: number } {
    const strides = axes.map((): Dim => ZERO);
    let stride: Dim = ONE;
    let count = 1;
    for (const axis of order.toReversed()) {
      strides[axis] = stride;
      stride = multiply(stride, axes[axis]!.size);
      count *= extents[axis]!;
    }
    return { access: { operand, strides, lookups: [] }, count };
  }
  const along = (sequence: number): number[] =>
    Array.from(layout).map((letter) => (letter === "s" ? sequence : POSITIONS[letter as keyof typeof POSITIONS]));
  const [overQueries, overKeys] = [along(2), along(3)];
  const lengths = segments.map((segment) => Float64Array.from(segment.lengths));

  function cases<Name extends string>(
    reads: readonly Name[],
    writes: readonly Name[],
  ): { operands: Case["kernel"]["operands"]; accesses: Access[]; counts: number[]; positions: Record<Name, number> } {
    const names = [...reads, ...writes];
    const placed = names.map((name, i) =>
      place(name === "lse" ? [0, 2, 1] : /k|v/.test(name) ? overKeys : overQueries, i),
    );
    const masks = lengths.map((_, i) => place([0], names.length + i));
    return {
      operands: [
        ...names.map((name) => ({
          name,
          dtype: name === "lse" ? ("f32" as const) : dtype,
          role: reads.includes(name) ? ("read" as const) : ("write" as const),
        })),
        ...lengths.map((_, i) => ({ name: `lengths_${i}`, dtype: "i32" as const, role: "read" as const })),
      ],
      accesses: [...placed, ...masks].map(({ access }) => access),
      counts: placed.map(({ count }) => count),
      positions: Object.fromEntries(names.map((name, i) => [name, i])) as Record<Name, number>,
    };
  }
  const maskAfter = (first: number): KernelMask => ({
    causal,
    segments: segments.map(({ extent }, i) => ({ extent: constant(extent), lengths: first + i })),
  });
  const shared = {
    formula: "o = softmax(scale q k^T) v",
    scalars: [],
    symbols: open ? ["batch", "heads", "keys", "queries"] : [],
    axes,
    scale: 1 / Math.sqrt(setting.head),
  };
  const f = cases(["q", "k", "v"], ["o", "lse"]);
  const forwardKernel: AttentionKernel = {
    anchor: "attention",
    name: `attention_${setting.name}`,
    ...{ ...shared, operands: f.operands, accesses: f.accesses, mask: maskAfter(5), ...f.positions },
  };
  const inputs = [0, 1, 2].map((i) => noise(f.counts[i]!, dtype));
  const forward: Case = { kernel: forwardKernel, sizes, operands: [...inputs, f.counts[3]!, f.counts[4]!, ...lengths] };

  const solved = [...inputs, new Float64Array(f.counts[3]!), new Float64Array(f.counts[4]!), ...lengths];
  interpret(forwardKernel, { sizes: new Map(Object.entries(sizes)), operands: solved, scalars: [] });
  const g = cases(["q", "k", "v", "o", "lse", "doutput"], ["dq", "dk", "dv"]);
  const backwardKernel: AttentionGradientKernel = {
    anchor: "attentionGradient",
    name: `attention_gradient_${setting.name}`,
    ...{ ...shared, operands: g.operands, accesses: g.accesses, mask: maskAfter(9), ...g.positions },
  };
  const doutput = noise(g.counts[5]!, dtype);
  const backward: Case = {
    kernel: backwardKernel,
    sizes,
    operands: [...solved.slice(0, 5), doutput, ...g.counts.slice(6), ...lengths],
  };
  return { forward, backward };
}

const full = (batch: number, heads: number, queries: number, keys: number, head: number): Shape => ({
  ...{ batch, heads, queries, keys, head },
});

export const SETTINGS: readonly Setting[] = [
  { name: "one", ...full(1, 1, 1, 1, 1) },
  { name: "odd", ...full(2, 3, 7, 13, 5), open: true },
  { name: "query_blocks", ...full(1, 2, 101, 37, 24), layout: "bhsd" },
  { name: "key_blocks", ...full(1, 1, 20, 203, 16), open: true },
  { name: "head_72", ...full(1, 2, 50, 50, 72), layout: "bhsd", open: true },
  { name: "head_257", ...full(1, 1, 9, 11, 257) },
  { name: "strided_head", ...full(2, 2, 19, 33, 11), layout: "bhds" },
  { name: "sequence_first", ...full(2, 2, 49, 17, 32), layout: "sbhd" },
  { name: "bf16", ...full(1, 2, 49, 97, 40), dtype: "bf16" },
  { name: "f16", ...full(1, 1, 5, 9, 16), dtype: "f16", open: true },
  { name: "causal", ...full(1, 2, 103, 103, 17), causal: true },
  { name: "causal_longer", ...full(1, 1, 9, 30, 8), causal: true, open: true },
  { name: "lengths", ...full(4, 1, 11, 110, 9), segments: [{ extent: 110, lengths: [110, 0, 1, 98] }] },
  {
    name: "two_segments",
    ...full(4, 2, 33, 45, 12),
    open: true,
    segments: [
      { extent: 15, lengths: [15, 0, 4, 0] },
      { extent: 30, lengths: [7, 30, 0, 0] },
    ],
  },
  {
    name: "causal_segments",
    ...full(3, 1, 40, 40, 8),
    causal: true,
    segments: [
      { extent: 10, lengths: [10, 0, 3] },
      { extent: 30, lengths: [30, 21, 0] },
    ],
  },
  { name: "long_keys", ...full(1, 1, 60, 400, 20), open: true },
  { name: "long_keys_masked", ...full(1, 1, 10, 300, 6), segments: [{ extent: 300, lengths: [131] }] },
];

/** Weights are rounded to the type of the operands before they are multiplied: half a unit of each term of a sum. */
export const ROUNDING = { f32: 3e-5, bf16: 8e-3, f16: 1e-3 } as const;

/** A head of some size in 16 bits, causal or of two segments. */
export const narrowHead = (dtype: "bf16" | "f16", head: number): Setting => ({
  ...{ name: `head_${head}`, dtype, batch: 2, heads: 2, queries: 70, keys: 150, head, causal: head === 64 },
  segments: head === 64 ? [] : [{ extent: 60, lengths: [60, 7] }, { extent: 90, lengths: [31, 0] }], // prettier-ignore
});
