/** What attention kernels of every target read and write: where each operand lies for one head, and the mask. */
import { CompilerBug } from "../../../contract/diagnostic.ts";
import { isFloat } from "../../../contract/dtype.ts";
import { add, ZERO, type Dim } from "../../graph/dim.ts";
import type { AttentionGradientKernel, AttentionKernel, Operand } from "../../kernels/kernel.ts";
import { dimText, type Frame } from "./context.ts";
import { openScope, placeOf, pointerTo, type Scope } from "./scope.ts";

/** Positions of the axes. */
export const [BATCH, HEADS, QUERIES, KEYS, HEAD] = [0, 1, 2, 3, 4] as const;

export type AnyAttention = AttentionKernel | AttentionGradientKernel;

/** The scope of one batch element and head. */
export const sampleScope = (frame: Frame): Scope =>
  openScope(frame, undefined, { axes: new Map([BATCH, HEADS].map((axis) => [axis, frame.indices[axis]!])) });

export interface View {
  /** The first element of this head. */
  readonly at: string;
  /** Strides from one query or key to the next, and along the head. */
  readonly row: string;
  readonly step: string;
}

export function view(scope: Scope, position: number): View {
  const kernel = scope.frame.kernel as AnyAttention;
  const access = kernel.accesses[position]!;
  if (access.lookups.length > 0 || access.guard !== undefined || !isFloat(operandAt(kernel, position).dtype)) {
    throw new CompilerBug("targets", `${kernel.name} reads or writes a${position} in a way attention cannot`);
  }
  const [queries, keys, head] = [QUERIES, KEYS, HEAD].map((axis) => access.strides[axis] ?? ZERO) as [Dim, Dim, Dim];
  const text = (dim: Dim): string => dimText(scope.frame, dim);
  return { at: pointerTo(scope, position), row: text(queries === ZERO ? keys : queries), step: text(head) };
}

export const operandAt = (kernel: AnyAttention, access: number): Operand =>
  kernel.operands[kernel.accesses[access]!.operand]!;

/** The segments of the keys, as C++: where each begins, how long it can be, and how long it is for this sample. */
export function maskView(scope: Scope, kernel: AnyAttention) {
  let first: Dim = ZERO;
  const segments = kernel.mask.segments.map(({ extent, lengths }) => {
    const segment = {
      first: dimText(scope.frame, first),
      extent: printExtent(scope.frame, extent),
      length: placeOf(scope, lengths),
    };
    first = add(first, extent);
    return segment;
  });
  return { segments };
}

function printExtent(frame: Frame, extent: Dim): string {
  const text = dimText(frame, extent);
  return /^\d+$/.test(text) ? `int64_t(${text})` : text;
}
