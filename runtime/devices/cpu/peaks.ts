/**
 * What the processor can do at most, measured with kernels of their own that go the way of all kernels: multiply-adds of
 * floats and of bf16 in registers, and a copy of more memory than any cache holds. On all threads at once.
 */
import { PLAN_VERSION, type Plan, type PlanKernel, type PlanStep } from "../../../contract/plan.ts";
import type { BoundProgram, Device } from "../device.ts";

export interface Peaks {
  /** 10^9 floating point operations a second, of products of either type. */
  readonly gflops: { readonly f32: number; readonly bf16: number };
  /** 10^9 bytes a second, read and written. */
  readonly gigabytes: number;
}

/** Of one task: a few milliseconds. */
const TIMES = 2 ** 20;
const TASKS = 64;
const COPIED = 2 ** 28; // bytes, of which each task takes its part
const RUNS = 3;
const LINE = 8; // doubles
const LINES = LINE * TASKS;

const kernel = (symbol: string, formula: string, body: string): PlanKernel => ({
  symbol,
  formula,
  source: `// ${formula}
#include "prelude.hpp"
#include "peaks.hpp"

SORACC_EXPORT void ${symbol}_0(const Launch* launch, int64_t task) {
  ${body}
}
`,
  phases: [`${symbol}_0`],
  sizes: [],
  work: { flops: 0, products: "f32", bytes: 0 },
});

/** A task writes how many operations it made to its own line of the output, and a result, so that it has to make them. */
const products = (name: string): string => `alignas(64) float registers[16 * 16];
  double* const done = static_cast<double*>(launch->buffers[0]) + task * ${LINE};
  done[0] = peaks::${name}(${TIMES}, registers);
  done[1] = registers[0];`;

const KERNELS: readonly PlanKernel[] = [
  kernel("peak_float", "multiply-adds of floats in registers", products("float_products")),
  kernel("peak_narrow", "multiply-adds of bf16 in registers", products("narrow_products")),
  kernel(
    "peak_copy",
    "to[i] = from[i]",
    `constexpr int64_t PART = ${COPIED / TASKS};
  const char* const from = static_cast<const char*>(launch->buffers[0]) + task * PART;
  __builtin_memcpy(static_cast<char*>(launch->buffers[1]) + task * PART, from, PART);`,
  ),
];

const step = (at: number, buffers: readonly number[]): PlanStep => ({
  kernel: at,
  arguments: buffers.map((buffer) => ({ buffer, offset: 0 })),
  ...{ sizes: [], scalars: [], tasks: [TASKS], scratch: 0, once: false, origin: "peaks" },
});

function peaksPlan(): Plan {
  const counts = (name: string, buffer: number) => ({ name, dtype: "f64" as const, axes: [{ name: "count", size: LINES }], buffer }); // prettier-ignore
  const life = { kind: "temporary" as const, first: 2, last: 2 };
  return {
    version: PLAN_VERSION,
    model: { name: "peaks", config: {}, preset: undefined, recipe: {} },
    ...{ target: "cpu", precision: "f32", kernels: KERNELS, constants: [], parameters: [] },
    programs: {
      peaks: {
        ...{ symbols: [], inputs: [], state: [], guards: [] },
        outputs: [counts("f32", 0), counts("bf16", 1)],
        buffers: [
          { name: "f32", bytes: 8 * LINES, kind: "output" },
          { name: "bf16", bytes: 8 * LINES, kind: "output" },
          { name: "from", bytes: COPIED, ...life },
          { name: "to", bytes: COPIED, ...life },
        ],
        steps: [step(0, [0]), step(1, [1]), step(2, [2, 3])],
      },
    },
  };
}

/** The best of a few runs. @param device a CPU */
export async function measurePeaks(device: Device): Promise<Peaks> {
  const loaded = await device.load(peaksPlan());
  try {
    const bound = loaded.bind("peaks", {}, new Map());
    await bound.run(); // memory is touched for the first time
    const least = [Infinity, Infinity, Infinity];
    for (let run = 0; run < RUNS; run++) {
      const before = bound.profile().map(({ nanoseconds }) => nanoseconds);
      await bound.run(1, { profile: true });
      bound.profile().forEach(({ nanoseconds }, i) => (least[i] = Math.min(least[i]!, nanoseconds - before[i]!)));
    }
    const [floats, narrow, copy] = least as [number, number, number];
    return {
      gflops: { f32: operations(bound, "f32") / floats, bf16: operations(bound, "bf16") / narrow },
      gigabytes: (2 * COPIED) / copy,
    };
  } finally {
    await loaded.close();
  }
}

const operations = (bound: BoundProgram, output: "f32" | "bf16"): number =>
  [...(bound.read(output) as Float64Array)].filter((_, at) => at % LINE === 0).reduce((sum, count) => sum + count, 0);
