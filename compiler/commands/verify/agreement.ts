/**
 * When do a computed and a recorded tensor agree?
 *
 *               float32                          f16                              bfloat16
 *   outputs     max error <= 1e-5 x largest      max error <= 4e-3 x largest      max error <= 3e-2 x largest
 *   gradients   max error <= 1e-4 x largest      L2 error <= 5e-3 x L2 norm       L2 error <= 4e-2 x L2 norm
 *   trained     max error <= 1e-4 x largest      not compared                     not compared
 *   sampled     max error <= 1e-4 x largest      max error <= 4e-3 x largest      not compared
 *
 * "largest" is the tensor's largest magnitude, of the entries that are compared. A gradient counts as at least 1e-2 of
 * the largest magnitude of all gradients in the file: some are zero in exact arithmetic, and what is recorded of them is
 * rounding noise.
 *
 * f16 has three bits of significand more than bfloat16: an eighth of its rounding error, and of its tolerance. The
 * recordings in test/fixtures bear it out. The worst of their outputs is off by 8.0e-4 in f16 and by 7.9e-3 in bfloat16,
 * the worst gradient by 2.0e-3 and 2.2e-2, the worst sampled video by 7.8e-4 in f16. Trained parameters say nothing in
 * 16 bits: Adam's first steps are as long for a gradient that is rounding noise as for any other.
 */
import type { Precision } from "../../../contract/precision.ts";
import type { RecordedTensor } from "./recording.ts";

export type Kind = "output" | "gradient" | "trained" | "sampled";

export interface Comparison {
  readonly name: string;
  readonly kind: Kind;
  readonly recorded: RecordedTensor;
  readonly computed: ArrayLike<number>;
  /** 0/1 over leading axes of the recorded tensor. */
  readonly valid?: RecordedTensor | undefined;
}

export interface Verdict {
  readonly name: string;
  readonly kind: Kind;
  readonly error: number;
  readonly tolerance: number;
  readonly ok: boolean;
}

/** How the size of a tensor and of a difference are measured, and how much of it may differ. */
interface Rule {
  readonly measure: (values: Iterable<number>) => number;
  readonly share: number;
}

const largest = (values: Iterable<number>): number => {
  let most = 0;
  for (const value of values) {
    const magnitude = Math.abs(value);
    if (!(magnitude <= most)) most = magnitude; // NaN stays, and fails
    if (Number.isNaN(most)) return NaN;
  }
  return most;
};

const norm = (values: Iterable<number>): number => {
  let sum = 0;
  for (const value of values) sum += value * value;
  return Math.sqrt(sum);
};

const RULES: Readonly<Record<Precision, Readonly<Record<Kind, Rule | undefined>>>> = {
  f32: {
    output: { measure: largest, share: 1e-5 },
    gradient: { measure: largest, share: 1e-4 },
    trained: { measure: largest, share: 1e-4 },
    sampled: { measure: largest, share: 1e-4 },
  },
  f16: {
    output: { measure: largest, share: 4e-3 },
    gradient: { measure: norm, share: 5e-3 },
    trained: undefined,
    sampled: { measure: largest, share: 4e-3 },
  },
  bf16: {
    output: { measure: largest, share: 3e-2 },
    gradient: { measure: norm, share: 4e-2 },
    trained: undefined,
    sampled: undefined,
  },
};

export const isCompared = (kind: Kind, precision: Precision): boolean => RULES[precision][kind] !== undefined;

const GRADIENT_FLOOR = 1e-2;

export function compare(comparisons: readonly Comparison[], precision: Precision): Verdict[] {
  const rules = RULES[precision];
  const sizes = comparisons.map((each) => {
    const rule = rules[each.kind];
    return rule === undefined ? 0 : rule.measure(compared(each).map(([recorded]) => recorded));
  });
  const gradients = comparisons.filter((each) => each.kind === "gradient");
  const magnitudes = gradients.map((each) => largest(compared(each).map(([recorded]) => recorded)));
  const floor = GRADIENT_FLOOR * magnitudes.reduce((a, b) => Math.max(a, b), 0);
  return comparisons.flatMap((each, i): Verdict[] => {
    const rule = rules[each.kind];
    if (rule === undefined) return [];
    const size = each.kind === "gradient" ? Math.max(sizes[i]!, floor) : sizes[i]!;
    const error = rule.measure(compared(each).map(([recorded, computed]) => computed - recorded));
    const tolerance = rule.share * size;
    return [{ name: each.name, kind: each.kind, error, tolerance, ok: error <= tolerance }];
  });
}

/** Pairs of recorded and computed values, without the entries that padding fills. */
function compared({ recorded, computed, valid }: Comparison): [number, number][] {
  const perFlag = valid === undefined ? 1 : recorded.data.length / valid.data.length;
  const pairs: [number, number][] = [];
  recorded.data.forEach((value, i) => {
    if (valid?.data[Math.floor(i / perFlag)] !== 0) pairs.push([value, computed[i] ?? NaN]);
  });
  return pairs;
}
