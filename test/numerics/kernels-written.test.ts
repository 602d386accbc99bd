/** Kernels as a video model needs them, on the CPU, against the float64 interpreter: many tasks, odd sizes, extremes. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { philoxNormal, philoxUniform } from "../../contract/philox.ts";
import { constant, ONE, ZERO } from "../../compiler/graph/dim.ts";
import type { Kernel } from "../../compiler/kernels/kernel.ts";
import { literal, variable } from "../../compiler/notation/expression.ts";
import { call } from "../../compiler/notation/functions.ts";
import { caseOf, noise, spell, type Spelled } from "./kernel-builder.ts";
import { layerNorm, softmax } from "./rows-cases.ts";
import { compileCases, firstMistake, runCase, type Case, type Library, type Tolerance } from "./harness.ts";

const random = (operand: string, element: number): number => noise(operand.charCodeAt(0), element);
const F32: Tolerance = { relative: 3e-6, absolute: 1e-6 };

interface Written {
  readonly what: string;
  readonly one: Case;
  readonly tolerance: Tolerance;
}

const written = (what: string, one: Case, tolerance = F32): Written => ({ what, one, tolerance });

const total = (dtype: "f32" | "f64" | "i32"): Spelled => ({
  anchor: "rows",
  name: `total_${dtype}`,
  axes: { clips: "clips", elements: "elements" },
  reads: { x: [dtype, "clips elements"] },
  writes: { sum: [dtype, "clips", "r0"], largest: [dtype, "clips", "r1"], smallest: [dtype, "clips", "r2"] },
  outer: 1,
  stages: [["sum a0", "max a0", "min a0"]],
});

const biasGradient = (hidden: number | string): Spelled => ({
  anchor: "columns",
  name: "bias_gradient_columns",
  axes: { batch: "batch", tokens: "tokens", hidden },
  reads: { dy: ["f32", "batch tokens hidden"], x: ["bf16", "batch tokens hidden"] },
  writes: { dbias: ["f32", "hidden", "r0"], dscale: ["f32", "hidden", "r1"], top: ["f32", "hidden", "r2"] },
  reduced: "batch tokens",
  reductions: ["sum a0", "sum a0 * a1", "max a1"],
});

const shiftGradient: Spelled = {
  anchor: "columns",
  name: "shift_gradient_columns",
  axes: { batch: "batch", tokens: "tokens", hidden: 200 },
  reads: { dy: ["f32", "batch tokens hidden"], old: ["f32", "batch hidden"] },
  writes: { dshift: ["f32", "batch hidden", "r0 + a1"] },
  reduced: "tokens",
  reductions: ["sum a0"],
};

const heads: Spelled = {
  anchor: "map",
  name: "split_heads",
  axes: { batch: 2, heads: 5, tokens: "tokens", head: 24 },
  reads: { x: ["f32", "batch tokens heads head"] },
  writes: { y: ["bf16", "batch heads tokens head", "a0"] },
};

const patchify: Spelled = {
  anchor: "map",
  name: "patchify",
  axes: { batch: 2, frames: "frames", height: 16, width: 20, channels: 4, p: 2, q: 2 },
  reads: { x: ["f32", "batch channels frames height p width q"] },
  writes: {
    y: ["f32", "batch frames height width channels p q", "a0 + uniform(1, 2, 3, linear)"],
    keep: ["bool", "batch frames height width channels p q", "uniform(1, 2, 4, linear) < 0.25"],
  },
};

const adam: Spelled = {
  anchor: "map",
  name: "adam",
  axes: { elements: "elements" },
  reads: { g: ["f32", "elements"], m: ["f32", "elements"], v: ["f32", "elements"], w: ["f32", "elements"] },
  writes: {
    nextM: ["f32", "elements", "0.9 * a1 + 0.1 * a0"],
    nextV: ["f32", "elements", "0.999 * a2 + 0.001 * a0 * a0"],
    nextW: ["f32", "elements", "a3 - s0 * (0.9 * a1 + 0.1 * a0) / (sqrt(0.999 * abs(a2) + 0.001 * a0 * a0) + 0.001)"],
    copy: ["bf16", "elements", "a3 - s0 * (0.9 * a1 + 0.1 * a0) / (sqrt(0.999 * abs(a2) + 0.001 * a0 * a0) + 0.001)"],
  },
  scalars: ["f32"],
};

/** The rows of a table, picked by tokens: an embedding whose padding (token -1) is zero. */
const embedding: Kernel = {
  anchor: "map",
  name: "embedding",
  formula: "y = table[token], 0 where token < 0",
  operands: [
    { name: "token", dtype: "i32", role: "read" },
    { name: "table", dtype: "bf16", role: "read" },
    { name: "y", dtype: "f32", role: "write" },
  ],
  scalars: [],
  symbols: [],
  axes: [
    { name: "tokens", size: constant(400) },
    { name: "width", size: constant(63) },
  ],
  accesses: [
    { operand: 0, strides: [ONE, ZERO], lookups: [] },
    {
      operand: 1,
      strides: [ZERO, ONE],
      lookups: [{ stride: constant(63), index: variable("a0", "i32") }],
      guard: call("ge", [variable("a0", "i32"), literal(0, "i32")]),
    },
    { operand: 2, strides: [constant(63), ONE], lookups: [] },
  ],
  stores: [{ access: 2, value: variable("a1", "f32") }],
};

const extremes = [NaN, Infinity, -Infinity, 3e38, -3e38, 1e-40, 0, -0, 65504, 65520, 1e6];
const specials: Spelled = {
  anchor: "map",
  name: "narrow_stores",
  axes: { elements: extremes.length + 3 },
  reads: { x: ["f64", "elements"] },
  writes: {
    half: ["f16", "elements", "a0"],
    brain: ["bf16", "elements", "a0"],
    float: ["f32", "elements", "a0"],
    whole: ["i32", "elements", "i32(a0)"],
    byte: ["u8", "elements", "i32(a0)"],
  },
};
/** Doubles next to the middle of two narrow values: rounding them to float first would tie the wrong way. */
const nearTies = [1 + 2 ** -8 + 2 ** -40, 1 + 2 ** -11 + 2 ** -45, -(1 + 3 * 2 ** -8 - 2 ** -50)];

const kernels: readonly Written[] = [
  written(
    "layer norm, one width and two statistics",
    caseOf(layerNorm("f32", 1152), random, { sizes: { batch: 3, tokens: 17 }, scalars: [1e-6] }),
  ),
  written(
    "layer norm in bf16, odd width",
    caseOf(layerNorm("bf16", 77), random, { sizes: { batch: 2, tokens: 300 }, scalars: [1e-6] }),
  ),
  written(
    "softmax",
    caseOf(softmax, (_, i) => 20 * noise(3, i), { sizes: { queries: 37, keys: 501 } }),
    { relative: 1e-5, absolute: 1e-9 },
  ),
  written(
    "softmax of masked rows",
    caseOf(softmax, (_, i) => (i % 5 < 2 ? -Infinity : noise(4, i)), { sizes: { queries: 9, keys: 50 } }),
  ),
  written(
    "softmax of rows with NaN",
    caseOf(softmax, (_, i) => (i === 130 ? NaN : noise(4, i)), { sizes: { queries: 9, keys: 50 } }),
  ),
  written(
    "softmax of long rows",
    caseOf(softmax, (_, i) => 3 * noise(5, i), { sizes: { queries: 2, keys: 20011 } }),
  ),
  written(
    "one sum of 300001 elements",
    caseOf(total("f32"), (_, i) => 1 + noise(6, i), { sizes: { clips: 1, elements: 300001 } }),
    { relative: 3e-7, absolute: 0 },
  ),
  written(
    "a few long sums",
    caseOf(total("f32"), (_, i) => 0.1 + noise(7, i), { sizes: { clips: 3, elements: 40961 } }),
  ),
  written(
    "long sums with NaN",
    caseOf(total("f32"), (_, i) => (i === 70000 ? NaN : noise(8, i)), { sizes: { clips: 3, elements: 40961 } }),
  ),
  written("many short sums", caseOf(total("f32"), random, { sizes: { clips: 5000, elements: 7 } })),
  written("sums in double", caseOf(total("f64"), random, { sizes: { clips: 2, elements: 9999 } }), {
    relative: 1e-13,
    absolute: 1e-13,
  }),
  written(
    "i32 sums wrap around",
    caseOf(total("i32"), (_, i) => Math.trunc(2e9 * noise(9, i)), { sizes: { clips: 3, elements: 5000 } }),
  ),
  written("bias gradient", caseOf(biasGradient(130), random, { sizes: { batch: 3, tokens: 401 } }), {
    relative: 1e-5,
    absolute: 1e-5,
  }),
  written(
    "bias gradient of one chunk",
    caseOf(biasGradient("hidden"), random, { sizes: { batch: 1, tokens: 50, hidden: 70 } }),
  ),
  written("bias gradient of three columns", caseOf(biasGradient(3), random, { sizes: { batch: 2, tokens: 5003 } }), {
    relative: 1e-5,
    absolute: 1e-4,
  }),
  written(
    "bias gradient of wide rows",
    caseOf(biasGradient("hidden"), random, { sizes: { batch: 1, tokens: 70, hidden: 2500 } }),
    { relative: 1e-5, absolute: 1e-5 },
  ),
  written(
    "shift gradient, in place",
    caseOf(shiftGradient, random, { sizes: { batch: 4, tokens: 333 }, inPlace: { dshift: "old" } }),
    { relative: 1e-5, absolute: 1e-5 },
  ),
  written("heads", caseOf(heads, random, { sizes: { tokens: 301 } })),
  written("patches, with draws by logical index", caseOf(patchify, random, { sizes: { frames: 3 } })),
  written(
    "Adam, in place",
    caseOf(adam, random, {
      sizes: { elements: 50007 },
      scalars: [0.01],
      inPlace: { nextM: "m", nextV: "v", nextW: "w" },
    }),
  ),
  written("an embedding with padding", {
    kernel: embedding,
    sizes: {},
    operands: [
      Array.from({ length: 400 }, (_, i) => ((i * 37) % 12) - 1),
      Array.from({ length: 11 * 63 }, (_, i) => noise(1, i)),
      400 * 63,
    ],
  }),
  written(
    "narrow stores of extremes",
    caseOf(specials, (_, i) => [...extremes, ...nearTies][i]!),
    { relative: 0, absolute: 0 },
  ),
];

let library: Library;
beforeAll(async () => (library = await compileCases(kernels.map(({ one }) => one))));
afterAll(() => library.close());

describe("kernels on the CPU", () => {
  it.each(kernels.map((kernel, i) => [kernel.what, kernel, i] as const))("%s", (_what, { one, tolerance }, i) => {
    expect(firstMistake(one, runCase(library, i, one), tolerance)).toBeUndefined();
  });

  it("round to the element's type exactly", () => {
    const which = kernels.findIndex(({ what }) => what === "narrow stores of extremes");
    const { one } = kernels[which]!;
    const { got, expected } = runCase(library, which, one);
    const [half, brain] = [got[1]!, got[2]!].map((values) => [...values.slice(extremes.length)]);
    expect(half).toEqual([1 + 2 ** -8, 1 + 2 ** -10, -(1 + 3 * 2 ** -8)]);
    expect(brain).toEqual([1 + 2 ** -7, 1, -(1 + 2 ** -7)]);
    const ends = (operands: readonly Float64Array[]) => operands.map((values) => [...values.slice(0, extremes.length)]);
    expect(ends(got)).toEqual(ends(expected));
  });

  it("keep every bit of a literal", async () => {
    const values = [
      0.1,
      1 / 3,
      Math.PI,
      -1e-300,
      5e-324,
      2.2250738585072014e-308,
      1.7976931348623157e308,
      1 - 2 ** -53,
    ];
    const floats = [0.1, 1e-45, 1.17549435e-38, 3.4028234e38, 16777216.5, -0, Infinity, -Infinity, NaN, 1e6 + 1 / 16];
    const literals = [...values.map((value) => literal(value, "f64")), ...floats.map((value) => literal(value, "f32"))];
    const kernel: Kernel = {
      anchor: "map",
      name: "literals",
      formula: "constants",
      operands: literals.map(({ type }, i) => ({ name: `y${i}`, dtype: type, role: "write" })),
      scalars: [],
      symbols: [],
      axes: [{ name: "n", size: constant(1) }],
      accesses: literals.map((_, operand) => ({ operand, strides: [ZERO], lookups: [] })),
      stores: literals.map((value, access) => ({ access, value })),
    };
    const one: Case = { kernel, sizes: {}, operands: literals.map(() => 1) };
    const alone = await compileCases([one]);
    const got = runCase(alone, 0, one).got.map((operand) => operand[0]!);
    await alone.close();
    expect(got).toEqual([...values, ...floats.map(Math.fround)]);
  });

  it("draw what the reference draws, whatever the order of the loops", () => {
    const which = kernels.findIndex(({ what }) => what.startsWith("patches"));
    const { got } = runCase(library, which, kernels[which]!.one);
    const keep = got[2]!;
    expect([...keep]).toEqual(Array.from(keep, (_, i) => (philoxUniform(1, 2, 4, i) < 0.25 ? 1 : 0)));
  });

  it("count draws with 64 bits", async () => {
    const draws = spell({
      anchor: "map",
      name: "draws",
      axes: { n: 300 },
      reads: {},
      scalars: ["u32"],
      writes: { u: ["f32", "n", "uniform(7, s0, 1, 3000000000)"], z: ["f32", "n", "normal(7, s0, 1, linear)"] },
    });
    const one: Case = { kernel: draws, sizes: {}, operands: [300, 300], scalars: [4000000000] };
    const alone = await compileCases([one]);
    const { got } = runCase(alone, 0, one);
    await alone.close();
    expect(got[0]![0]).toBe(philoxUniform(7, 4000000000, 1, 3000000000));
    got[1]!.forEach((value, i) => expect(value).toBeCloseTo(philoxNormal(7, 4000000000, 1, i), 5));
  });
});
