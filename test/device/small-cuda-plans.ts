/** The small plans as CUDA: the same programs, with kernels written by hand as the compiler writes them. */
import type { Plan, PlanKernel, PlanProgram } from "../../contract/plan.ts";
import { affine, NO_WORK, smallPlan } from "./small-plans.ts";

const THREADS = 32;

/** `fields` are those of `Arguments`; `bodies` are one per phase, over `block` and `thread`. */
export function cudaKernel(
  symbol: string,
  formula: string,
  fields: readonly string[],
  ...bodies: readonly string[]
): PlanKernel {
  const phases = bodies.map((_, index) => `${symbol}_${index}`);
  const functions = bodies.map((body, index) =>
    [
      `extern "C" __global__ void __launch_bounds__(${THREADS}) ${phases[index]}(const __grid_constant__ Arguments arguments) {`,
      "  const int64_t block = block_index(), thread = thread_index();",
      ...fields.map((field) => {
        const [, type = "", name = ""] = /^(.*?)(\w+)$/.exec(field) ?? [];
        return `  ${type}${name} = arguments.${name};`;
      }),
      body,
      "}",
    ].join("\n"),
  );
  return {
    symbol,
    formula,
    source: [
      `// ${symbol}: ${formula}`,
      '#include "prelude.cuh"',
      "namespace soracc {",
      `struct Arguments {\n${fields.map((field) => `  ${field};`).join("\n")}\n};`,
      ...functions,
      "}  // namespace soracc\n",
    ].join("\n"),
    phases,
    sizes: [],
    work: NO_WORK,
    gpu: { phases: bodies.map(() => ({ threads: THREADS, sharedBytes: 0 })), tensorMaps: [] },
  };
}

/** y = scale * x + shift; blocks of 64 elements. */
export const affineCuda = cudaKernel(
  "affine_map",
  affine.formula,
  ["const float* x", "float* y", "int64_t n", "double scale", "double shift"],
  "  for (int64_t i = block * 64 + thread; i < block * 64 + 64; i += 32)\n    if (i < n) y[i] = float(scale) * x[i] + float(shift);",
);

/** y[0] = sum of x, in chunks of 64 (phase 0, into a workspace), then over the chunks (phase 1). */
const sumCuda = cudaKernel(
  "sum_rows",
  "y = sum over i of x[i]",
  ["const float* x", "float* y", "float* partial", "int64_t n"],
  `  if (thread > 0) return;
  float all = 0;
  for (int64_t i = block * 64; i < block * 64 + 64; ++i)
    if (i < n) all += x[i];
  partial[block] = all;`,
  `  if (thread > 0) return;
  float all = 0;
  for (int64_t c = 0; c < (n + 63) / 64; ++c) all += partial[c];
  y[0] = all;`,
);

/** y += x */
const accumulateCuda = cudaKernel(
  "accumulate_map",
  "y = y + x",
  ["const float* x", "float* y", "int64_t n"],
  "  for (int64_t i = thread; i < n; i += 32) y[i] += x[i];",
);

/** y[i] = i */
const rampCuda = cudaKernel(
  "ramp_map",
  "y[i] = i",
  ["float* y", "int64_t n"],
  "  for (int64_t i = thread; i < n; i += 32) y[i] = float(i);",
);

export const cudaPlan = (
  kernels: readonly PlanKernel[],
  programs: Readonly<Record<string, PlanProgram>>,
  rest: Partial<Plan> = {},
): Plan => ({
  ...smallPlan(),
  target: "cuda",
  arch: "sm_80",
  constants: [],
  kernels,
  programs,
  ...rest,
});

/** As `smallPlan`, where every step that has one task is one block. */
export const smallCudaPlan = (): Plan =>
  cudaPlan([affineCuda, sumCuda, accumulateCuda, rampCuda], smallPlan().programs, {
    constants: smallPlan().constants,
  });
