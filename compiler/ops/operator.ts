/**
 * An operator is one record: what it computes in words, its gradient, how passes may treat it, and a reference
 * implementation on float64 arrays. Passes read traits, never names. The constructors that check shapes and make nodes
 * stand beside their records, one family per file.
 */
import type { Dim } from "../graph/dim.ts";
import type { Edge, Node, OperationName, OperationOf } from "../graph/node.ts";

export interface Operator<Name extends OperationName> {
  readonly name: Name;
  /** The formula in words. */
  readonly words: string;
  readonly traits: Traits;
  /**
   * The gradient of the inputs, given that of the results (undefined: zero). Only inputs for which `wanted` is true
   * need one. Absent: the operator has no inputs, or integers only.
   */
  readonly gradient?: (call: GradientCall<Name>) => readonly (Edge | undefined)[];
  readonly reference: (call: ReferenceCall<Name>) => readonly Float64Array[];
}

export interface Traits {
  /**
   * How kernels are made of it. `source`: no kernel of its own, read where it is used; `scalar`: a scalar expression
   * that can be inlined; `view`: other indices on the same memory, or a copy; `reduce`: anchors a reduction; `anchor`:
   * always a kernel of its own; `join`: its parts are written in place.
   */
  readonly fuse: "source" | "scalar" | "view" | "reduce" | "anchor" | "join";
  /** Operands that are narrowed to 16 bits when training in mixed precision: products that accumulate in float32. */
  readonly narrow?: readonly number[];
  /** Results that are rounded to 16 bits then, once they are summed. */
  readonly narrowResults?: readonly number[];
  /** Takes much time for little memory: recomputation may keep what it gives. */
  readonly dear?: boolean;
}

export interface GradientCall<Name extends OperationName> {
  readonly node: Node;
  readonly operation: OperationOf<Name>;
  readonly inputs: readonly Edge[];
  readonly results: readonly Edge[];
  readonly gradients: readonly (Edge | undefined)[];
  readonly wanted: readonly boolean[];
}

export interface ReferenceCall<Name extends OperationName> {
  readonly node: Node;
  readonly operation: OperationOf<Name>;
  readonly inputs: readonly ReferenceTensor[];
  /** Sizes of the results. */
  readonly results: readonly { readonly sizes: readonly number[]; readonly names: readonly string[] }[];
  readonly sizeOf: (dim: Dim) => number;
}

/** A dense row-major tensor of float64 values; integers and bools are held as such numbers. */
export interface ReferenceTensor {
  readonly data: Float64Array;
  readonly sizes: readonly number[];
  readonly names: readonly string[];
}

/** Row-major strides of a dense tensor. */
export function stridesOf(sizes: readonly number[]): number[] {
  const strides = new Array<number>(sizes.length);
  let stride = 1;
  for (let i = sizes.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= sizes[i] ?? 1;
  }
  return strides;
}

/**
 * Visits every index of a box in row-major order; `visit` gets the row-major position and one offset per stride list.
 */
export function walk(
  sizes: readonly number[],
  strides: readonly (readonly number[])[],
  visit: (position: number, offsets: readonly number[]) => void,
): void {
  const total = sizes.reduce((a, b) => a * b, 1);
  const index = sizes.map(() => 0);
  const offsets = strides.map(() => 0);
  for (let position = 0; position < total; position++) {
    visit(position, offsets);
    for (let axis = sizes.length - 1; axis >= 0; axis--) {
      const next = (index[axis] ?? 0) + 1;
      const size = sizes[axis] ?? 1;
      const carried = next === size;
      for (let s = 0; s < strides.length; s++) {
        const stride = strides[s]?.[axis] ?? 0;
        offsets[s] = (offsets[s] ?? 0) + (carried ? -stride * (size - 1) : stride);
      }
      index[axis] = carried ? 0 : next;
      if (!carried) break;
    }
  }
}

/** The strides of `tensor` along the axes `names`, 0 for axes it does not have. */
export function stridesAlong(tensor: ReferenceTensor, names: readonly string[]): number[] {
  const dense = stridesOf(tensor.sizes);
  return names.map((name) => {
    const at = tensor.names.indexOf(name);
    return at < 0 ? 0 : (dense[at] ?? 0);
  });
}
