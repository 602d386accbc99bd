/** How much memory and arithmetic a plan takes for one shape of batch, told from its text alone. */
import type { Plan } from "../../../contract/plan.ts";
import { evaluateSize } from "../../../contract/size.ts";
import { place } from "../../../runtime/program/placement.ts";
import { toSize } from "../../graph/dim.ts";
import type { Kernel } from "../../kernels/kernel.ts";

/** A batch to speak about. */
export interface Example {
  readonly batch: number;
  readonly frames: number;
  /** Patches along height and width. */
  readonly side: number;
  readonly words: number;
}

export interface Estimate {
  readonly example: string;
  readonly peakBytes: number;
  readonly flopsPerToken: number;
}

const FRAMES = 16;
const SIDE = 16;
const WORDS = 32;

/** Of a training step; undefined when there is none, or its sizes are not those of batches of videos. */
export function estimate(plan: Plan, kernels: readonly Kernel[], batch: number): Estimate | undefined {
  const program = plan.programs["train"];
  if (program === undefined) return undefined;
  const tokens = FRAMES * SIDE * SIDE;
  const known = new Map([
    ["batch", batch],
    ["tokens", tokens],
    ["textTokens", WORDS],
  ]);
  if (program.symbols.some((name) => !known.has(name))) return undefined;
  const symbols = new Map(program.symbols.map((name) => [name, known.get(name) ?? 0]));

  const bytes = program.buffers.map((buffer) => evaluateSize(buffer.bytes, symbols));
  const temporaries = program.buffers.flatMap(({ kind, first = 0, last = 0 }, index) =>
    kind === "temporary" ? [{ bytes: bytes[index]!, first, last }] : [],
  );
  const kept = program.buffers.reduce((sum, { kind }, index) => sum + (kind === "temporary" ? 0 : bytes[index]!), 0);
  const flops = program.steps.reduce((sum, step) => {
    const kernel = kernels[step.kernel];
    if (kernel === undefined) return sum;
    const sizes = new Map(kernel.symbols.map((name, i) => [name, evaluateSize(step.sizes[i] ?? 0, symbols)]));
    return sum + flopsOf(kernel, sizes);
  }, 0);
  const patch = typeof plan.model.config["patch"] === "number" ? plan.model.config["patch"] : undefined;
  const size = patch === undefined ? `${SIDE} x ${SIDE} patches` : `${SIDE * patch} x ${SIDE * patch}`;
  return {
    example: `${batch} clips of ${FRAMES} frames of ${size} (${tokens} tokens each)`,
    peakBytes: kept + place(temporaries).total,
    flopsPerToken: flops / (batch * tokens),
  };
}

/** Multiplications and additions of products of matrices; everything else is small beside them. */
function flopsOf(kernel: Kernel, sizes: ReadonlyMap<string, number>): number {
  const factor = FLOPS_PER_ELEMENT[kernel.anchor];
  if (factor === 0) return 0;
  return kernel.axes.reduce((product, { size }) => product * evaluateSize(toSize(size), sizes), factor);
}

/** Per element of all axes: one product is 2; attention has 2 of them, its gradient 5. */
const FLOPS_PER_ELEMENT: Readonly<Record<Kernel["anchor"], number>> = {
  map: 0,
  rows: 0,
  columns: 0,
  contract: 2,
  attention: 4,
  attentionGradient: 10,
};
