/**
 * Generated CUDA kernels against the float64 interpreter, in the simulator or on a GPU: the cases of the CPU, for both
 * forms, under several schedules. `SORACC_SEED` and `SORACC_RUNS` look for more.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Arch } from "../../contract/plan.ts";
import { generate } from "../../compiler/targets/cuda/target.ts";
import { casesOf, narrowHead, ROUNDING, SETTINGS } from "./attention-cases.ts";
import { acc, assemble, caseOf, read, recipes, type Part } from "./contract-cases.ts";
import { type Case } from "./harness.ts";
import { caseOf as caseOfRows, noise } from "./kernel-builder.ts";
import { randomCases, type Anchor } from "./random-kernels.ts";
import { layerNorm, softmax } from "./rows-cases.ts";
import { gpuMistakesOf } from "./gpu-harness.ts";

const seed = Number(process.env["SORACC_SEED"] ?? 20240318);
const runs = Number(process.env["SORACC_RUNS"] ?? 8);
const SCHEDULES = [1, 2];

test.each<Anchor>(["map", "rows", "columns"])("random %s kernels", async (anchor) => {
  const cases = randomCases(anchor, anchor === "columns" ? Math.ceil(runs / 4) : runs, seed);
  const tolerance = { relative: 2e-5, absolute: 2e-5 };
  expect(await gpuMistakesOf(cases, tolerance, { arch: "sm_80", seeds: SCHEDULES })).toEqual([]);
});

test("rows that are held, by part of a warp to a block, and rows that are not", async () => {
  const random = (operand: string, element: number): number => noise(operand.charCodeAt(0), element);
  const norms = [32, 77, 400, 1152, 2500, 3100].flatMap((hidden) =>
    (["f32", "bf16"] as const).map((x) =>
      caseOfRows({ ...layerNorm(x, hidden), name: `norm_${x}_${hidden}` }, random, {
        sizes: { batch: 2, tokens: 3 },
        scalars: [1e-6],
        inPlace: { y: "x" },
      }),
    ),
  );
  const open = caseOfRows(softmax, (_, i) => 20 * noise(3, i), { sizes: { queries: 7, keys: 501 } });
  const tolerance = { relative: 1e-5, absolute: 2e-6 };
  expect(await gpuMistakesOf([...norms, open], tolerance, { arch: "sm_90a", seeds: SCHEDULES })).toEqual([]);
});

describe("contractions", () => {
  test("of any axes, prologues, epilogues and types", async () => {
    const cases = fc.sample(recipes, { numRuns: 2 * runs, seed: 7 }).map(caseOf);
    const tolerance = { relative: 2e-5, absolute: 5e-5 };
    expect(await gpuMistakesOf(cases, tolerance, { arch: "sm_80", seeds: SCHEDULES })).toEqual([]);
  });

  /** Sides along depth and across, sizes that end between two tiles. */
  const products = (dtype: "bf16" | "f16" | "f32"): Case[] =>
    (
      [
        [200, 72, 136, true],
        [97, 40, 264, true],
      ] as const
    ).flatMap(([m, n, k, fixed], shape) =>
      [0, 1, 2, 3].map((layout) => {
        const list: Part[] = [
          { role: "m", size: m, fixed },
          { role: "n", size: n, fixed: true },
          { role: "k", size: k, fixed: true },
        ];
        const made = assemble(`product_${dtype}_${shape}_${layout}`, list);
        const left = read(made.tensor("read", dtype, layout % 2 === 0 ? [0, 2] : [2, 0]));
        const right = read(made.tensor("read", dtype, layout < 2 ? [1, 2] : [2, 1]));
        return made.finish(left, right, [{ access: made.tensor("write", "f32", [0, 1]), value: acc }]);
      }),
    );

  test.each<[Arch, "bf16" | "f16" | "f32"]>([
    ["sm_80", "bf16"],
    ["sm_80", "f16"],
    ["sm_80", "f32"],
    ["sm_90a", "bf16"],
    ["sm_90a", "f16"],
  ])("%s, %s, in every layout", async (arch, dtype) => {
    const cases = products(dtype);
    const isHopper = cases.map((one) => generate(one.kernel, arch).source.includes("warpgroups.cuh"));
    expect(isHopper).toEqual(cases.map(() => arch === "sm_90a"));
    const tolerance = { relative: 2e-5, absolute: 1e-4 };
    expect(await gpuMistakesOf(cases, tolerance, { arch, seeds: SCHEDULES })).toEqual([]);
  });

  test("weight gradients, whose sums are cut into chunks", async () => {
    const cases = (["k", "own"] as const).map((along) => {
      const list: Part[] = [
        { role: "m", size: 40, fixed: true },
        { role: "n", size: 72, fixed: true },
        { role: "k", size: 2100, fixed: false },
      ];
      const made = assemble(`weight_gradient_${along}`, list);
      const left = read(made.tensor("read", "bf16", along === "k" ? [0, 2] : [2, 0]));
      const right = read(made.tensor("read", "bf16", along === "k" ? [1, 2] : [2, 1]));
      return made.finish(left, right, [{ access: made.tensor("write", "f32", [0, 1]), value: acc }]);
    });
    for (const arch of ["sm_80", "sm_90a"] as const) {
      expect(generate(cases[0]!.kernel, arch).phases.length).toBeGreaterThan(1);
      expect(await gpuMistakesOf(cases, { relative: 2e-5, absolute: 1e-3 }, { arch, seeds: [1] })).toEqual([]);
    }
  });

  test("products of few rows, whose sums are cut into chunks", async () => {
    const list: Part[] = [
      { role: "m", size: 3, fixed: true },
      { role: "n", size: 72, fixed: true },
      { role: "k", size: 1100, fixed: true },
    ];
    const made = assemble("few_rows", list);
    const [left, right] = [made.tensor("read", "bf16", [0, 2]), made.tensor("read", "f32", [1, 2])];
    const one = made.finish(read(left), read(right), [{ access: made.tensor("write", "f32", [0, 1]), value: acc }]);
    expect(generate(one.kernel, "sm_90a").phases.length).toBeGreaterThan(1);
    expect(await gpuMistakesOf([one], { relative: 2e-5, absolute: 1e-3 }, { arch: "sm_90a", seeds: [1] })).toEqual([]);
  });
});

describe.each<Arch>(["sm_80", "sm_90a"])("attention and its gradient, %s", (arch) => {
  test.each(["f32", "bf16", "f16"] as const)("of %s", async (dtype) => {
    const settings = SETTINGS.filter((setting) => (setting.dtype ?? "f32") === dtype);
    const heads = dtype === "f32" ? [] : [8, 64, 72, 136].map((head) => narrowHead(dtype, head));
    const cases = [...settings, ...heads].map(casesOf).flatMap(({ forward, backward }) => [forward, backward]);
    const tolerance = { relative: 2e-5, absolute: ROUNDING[dtype] };
    expect(await gpuMistakesOf(cases, tolerance, { arch, seeds: [1, 2] })).toEqual([]);
  });
});
