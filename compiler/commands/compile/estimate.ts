/** How much memory and arithmetic a plan takes for one shape of batch, told from its text alone. */
import type { Plan, PlanProgram } from "../../../contract/plan.ts";
import { evaluateSize } from "../../../contract/size.ts";
import { place } from "../../../runtime/program/placement.ts";
import { toSize } from "../../graph/dim.ts";
import type { Kernel } from "../../kernels/kernel.ts";

export interface Estimate {
  readonly example: string;
  readonly peakBytes: number;
  readonly flopsPerToken: number;
}

/** A batch to speak about: frames, patches along height and width, words. */
const FRAMES = 16;
const SIDE = 16;
const WORDS = 32;

/** The programs of a training step, one after the other. */
const STEP = ["accumulate", "update"];

/** Of a training step; undefined when there is none, or its sizes are not those of batches of videos. */
export function estimate(plan: Plan, kernels: readonly Kernel[], batch: number): Estimate | undefined {
  const programs = STEP.map((name) => plan.programs[name]).filter((program) => program !== undefined);
  const tokens = FRAMES * SIDE * SIDE;
  const sizes = new Map([
    ["batch", batch],
    ["tokens", tokens],
    ["textTokens", WORDS],
  ]);
  if (programs.length < STEP.length) return undefined;
  if (programs.some(({ symbols }) => symbols.some((name) => !sizes.has(name)))) return undefined;
  const flops = programs.reduce((sum, program) => sum + flopsOf(program, kernels, sizes), 0);
  const patch = typeof plan.model.config["patch"] === "number" ? plan.model.config["patch"] : undefined;
  const size = patch === undefined ? `${SIDE} x ${SIDE} patches` : `${SIDE * patch} x ${SIDE * patch}`;
  return {
    example: `${batch} clips of ${FRAMES} frames of ${size} (${tokens} tokens each)`,
    peakBytes: peakOf(programs, sizes),
    flopsPerToken: flops / (batch * tokens),
  };
}

type Sizes = ReadonlyMap<string, number>;

/** The larger program's own memory, and the state of both. */
function peakOf(programs: readonly PlanProgram[], sizes: Sizes): number {
  const state = new Map<string, number>();
  const own = programs.map(({ buffers, state: ports }) => {
    const bytes = buffers.map((buffer) => evaluateSize(buffer.bytes, sizes));
    for (const { name, buffer } of ports) state.set(name, bytes[buffer]!);
    const temporaries = buffers.flatMap(({ kind, first = 0, last = 0 }, index) =>
      kind === "temporary" ? [{ bytes: bytes[index]!, first, last }] : [],
    );
    const kept = buffers.reduce(
      (sum, { kind }, index) => sum + (kind === "temporary" || kind === "state" ? 0 : bytes[index]!),
      0,
    );
    return kept + place(temporaries).total;
  });
  return Math.max(...own) + [...state.values()].reduce((a, b) => a + b, 0);
}

function flopsOf({ steps }: PlanProgram, kernels: readonly Kernel[], sizes: Sizes): number {
  return steps.reduce((sum, step) => {
    const kernel = kernels[step.kernel];
    if (kernel === undefined) return sum;
    const own = new Map(kernel.symbols.map((name, i) => [name, evaluateSize(step.sizes[i] ?? 0, sizes)]));
    return sum + flopsOfKernel(kernel, own);
  }, 0);
}

/** Multiplications and additions of products of matrices; everything else is small beside them. */
function flopsOfKernel(kernel: Kernel, sizes: Sizes): number {
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
