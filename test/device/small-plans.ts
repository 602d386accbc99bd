/** Plans written by hand, with kernels written by hand, for the tests of the device. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { KernelWork, Plan, PlanBuffer, PlanKernel, PlanProgram, PlanStep, Port } from "../../contract/plan.ts";
import { PLAN_VERSION } from "../../contract/plan.ts";
import type { DType } from "../../contract/dtype.ts";
import type { Size } from "../../contract/size.ts";

const root = join(import.meta.dirname, "../..");

export const hostSource = readFileSync(join(root, "templates/cpu/host/executor.cpp"), "utf8");

/** Only what the kernels below need; the full prelude is tested with the kernels that use it. */
export const prelude = {
  "launch.hpp": readFileSync(join(root, "templates/cpu/prelude/launch.hpp"), "utf8"),
  "prelude.hpp": '#include "launch.hpp"\n#include <math.h>\n#include <time.h>\n',
};

export const NO_WORK: KernelWork = { flops: 0, products: "f32", bytes: 0 };

export function kernel(symbol: string, formula: string, ...bodies: readonly string[]): PlanKernel {
  const phases = bodies.map((_, index) => `${symbol}_${index}`);
  const functions = bodies.map(
    (body, index) => `SORACC_EXPORT void ${phases[index]}(const Launch* launch, int64_t task) {\n${body}\n}\n`,
  );
  return {
    symbol,
    formula,
    source: `// ${symbol}: ${formula}\n#include "prelude.hpp"\n${functions.join("\n")}`,
    phases,
    sizes: [],
    work: NO_WORK,
  };
}

const FLOATS = (index: number, name: string): string => `float* ${name} = (float*)launch->buffers[${index}];`;

/** y = scale * x + shift; tasks of 64 elements. */
export const affine = kernel(
  "affine_map",
  "y = scale * x + shift",
  `${FLOATS(0, "x")} ${FLOATS(1, "y")}
  int64_t n = launch->sizes[0], end = task * 64 + 64 < n ? task * 64 + 64 : n;
  for (int64_t i = task * 64; i < end; i++) y[i] = float(launch->scalars[0]) * x[i] + float(launch->scalars[1]);`,
);

/** y[0] = sum of x, in chunks of 64 (phase 0, into a workspace), then over the chunks (phase 1). */
export const sum = kernel(
  "sum_rows",
  "y = sum over i of x[i]",
  `${FLOATS(0, "x")} ${FLOATS(2, "partial")}
  int64_t n = launch->sizes[0], end = task * 64 + 64 < n ? task * 64 + 64 : n;
  float* mine = (float*)launch->scratch; mine[0] = 0;
  for (int64_t i = task * 64; i < end; i++) mine[0] += sqrtf(x[i]) * sqrtf(x[i]);
  partial[task] = mine[0];`,
  `${FLOATS(1, "y")} ${FLOATS(2, "partial")}
  float all = 0;
  for (int64_t c = 0; c < (launch->sizes[0] + 63) / 64; c++) all += partial[c];
  y[0] = all;`,
);

/** y += x */
export const accumulate = kernel(
  "accumulate_map",
  "y = y + x",
  `${FLOATS(0, "x")} ${FLOATS(1, "y")} for (int64_t i = 0; i < launch->sizes[0]; i++) y[i] += x[i];`,
);

/** y[i] = i */
export const ramp = kernel(
  "ramp_map",
  "y[i] = i",
  `${FLOATS(0, "y")} for (int64_t i = 0; i < launch->sizes[0]; i++) y[i] = float(i);`,
);

/** Keeps a processor busy for scalars[0] milliseconds per task. */
export const linger = kernel(
  "linger_map",
  "waits",
  `(void)task;
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  double end = now.tv_sec * 1e3 + now.tv_nsec * 1e-6 + launch->scalars[0];
  while (now.tv_sec * 1e3 + now.tv_nsec * 1e-6 < end) clock_gettime(CLOCK_MONOTONIC, &now);`,
);

export const port = (name: string, dtype: DType, axes: readonly Size[], buffer: number): Port => ({
  name,
  dtype,
  axes: axes.map((size, index) => ({ name: typeof size === "string" ? size : `axis${index}`, size })),
  buffer,
});

export const step = (kernelIndex: number, buffers: readonly number[], rest: Partial<PlanStep> = {}): PlanStep => ({
  kernel: kernelIndex,
  arguments: buffers.map((buffer) => ({ buffer, offset: 0 })),
  sizes: ["n"],
  scalars: [],
  tasks: [1],
  scratch: 0,
  once: false,
  origin: "test",
  ...rest,
});

export const program = (parts: Partial<PlanProgram>): PlanProgram => ({
  symbols: ["n"],
  inputs: [],
  outputs: [],
  state: [],
  buffers: [],
  steps: [],
  guards: [],
  ...parts,
});

export const plan = (
  kernels: readonly PlanKernel[],
  programs: Readonly<Record<string, PlanProgram>>,
  rest: Partial<Plan> = {},
): Plan => ({
  version: PLAN_VERSION,
  model: { name: "small", config: {}, preset: undefined, recipe: {} },
  target: "cpu",
  precision: "f32",
  kernels,
  constants: [],
  parameters: [],
  programs,
  ...rest,
});

const BYTES: Size = ["*", 4, "n"];
const CHUNKS: Size = ["floorDiv", ["+", "n", 63], 64];

const buffer = (name: string, kind: PlanBuffer["kind"], bytes: Size, rest: Partial<PlanBuffer> = {}): PlanBuffer => ({
  name,
  bytes,
  kind,
  ...rest,
});

/**
 * `step`: h = 2 x + 1; total = sum(h + 0); state += h + ramp; y = constant[0..] untouched. One kernel of two phases, one
 * step of the kind `once`, one state in place, a constant read at an offset.
 */
export const smallPlan = (): Plan =>
  plan(
    [affine, sum, accumulate, ramp],
    {
      step: program({
        inputs: [port("x", "f32", ["n"], 0)],
        outputs: [port("total", "f32", [1], 1), port("first", "f32", [1], 6)],
        state: [port("running", "f32", ["n"], 2)],
        buffers: [
          buffer("x", "input", BYTES),
          buffer("total", "output", 4),
          buffer("running", "state", BYTES),
          buffer("h", "temporary", BYTES, { first: 1, last: 3 }),
          buffer("partial", "temporary", ["*", 4, CHUNKS], { first: 2, last: 2 }),
          buffer("ramp", "resident", BYTES),
          buffer("first", "output", 4),
          buffer("table", "constant", 12, { constant: 0 }),
        ],
        steps: [
          step(3, [5], { once: true }),
          step(0, [0, 3], { scalars: [{ type: "f32", value: 2 }, { type: "f32", value: 1 }], tasks: [CHUNKS] }), // prettier-ignore
          step(1, [3, 1, 4], { tasks: [CHUNKS, 1], scratch: 4 }),
          step(2, [3, 2]),
          step(2, [5, 2]),
          {
            ...step(0, [], {
              sizes: [1],
              scalars: [
                { type: "f32", value: 1 },
                { type: "f32", value: "n" },
              ],
            }),
            arguments: [
              { buffer: 7, offset: ["+", 4, 4] },
              { buffer: 6, offset: 0 },
            ],
          },
        ],
        guards: [{ left: ["mod", "n", 2], right: 0, message: "n has to be even" }],
      }),
    },
    { constants: [{ dtype: "f32", data: Buffer.from(new Float32Array([1, 2, 3]).buffer).toString("base64") }] },
  );

/** `wait`: `tasks` tasks of `milliseconds` each, `steps` times over; y counts the steps that were reached. */
export const waitingPlan = (tasks: number, milliseconds: number, steps = 1): Plan =>
  plan([linger, affine], {
    wait: program({
      symbols: [],
      state: [port("count", "f32", [1], 0)],
      buffers: [buffer("count", "state", 4)],
      steps: Array.from({ length: steps }, () => [
        step(0, [], { sizes: [], tasks: [tasks], scalars: [{ type: "f32", value: milliseconds }] }),
        step(1, [0, 0], { sizes: [1], scalars: [{ type: "f32", value: 1 }, { type: "f32", value: 1 }] }), // prettier-ignore
      ]).flat(),
    }),
  });
