/** The C++ and the CUDA of typical kernels, reviewed like source. `npx vitest run -u test/golden` accepts a change. */
import { expect, it } from "vitest";
import { generate as generateCpu } from "../../compiler/targets/cpu/target.ts";
import { generate as generateCuda } from "../../compiler/targets/cuda/target.ts";
import { spell, type Spelled } from "../numerics/kernel-builder.ts";

const hidden = { batch: "batch", tokens: "tokens", hidden: 1152 };

const kernels: readonly Spelled[] = [
  {
    anchor: "map",
    name: "gated_residual",
    formula: "y = x + gate * gelu(h)",
    axes: hidden,
    reads: {
      x: ["f32", "batch tokens hidden"],
      h: ["bf16", "batch tokens hidden"],
      gate: ["f32", "batch hidden"],
    },
    writes: {
      y: ["f32", "batch tokens hidden", "a0 + a2 * (0.5 * a1 * (1 + tanh(0.79788456 * (a1 + 0.044715 * a1^3))))"],
    },
  },
  {
    anchor: "map",
    name: "dropout",
    formula: "y = x / (1 - p) where uniform > p, else 0",
    axes: { elements: "elements" },
    reads: { x: ["f32", "elements"] },
    writes: { y: ["f32", "elements", "select(uniform(s0, s1, 5, linear) > s2, a0 / (1 - s2), 0)"] },
    scalars: ["u32", "u32", "f32"],
  },
  {
    anchor: "rows",
    name: "layer_norm_modulate_rows",
    formula: "y = (x - mean) * rstd * (1 + scale) + shift",
    axes: hidden,
    reads: {
      x: ["bf16", "batch tokens hidden"],
      scale: ["bf16", "batch hidden"],
      shift: ["bf16", "batch hidden"],
    },
    writes: {
      y: ["bf16", "batch tokens hidden", "(a0 - r0 / 1152) * rsqrt(r1 / 1152 + s0) * (1 + a1) + a2"],
      rstd: ["f32", "batch tokens", "rsqrt(r1 / 1152 + s0)"],
    },
    scalars: ["f32"],
    outer: 2,
    stages: [["sum a0"], ["sum (a0 - r0 / 1152)^2"]],
  },
  {
    anchor: "rows",
    name: "squared_error_rows",
    formula: "loss = mean((prediction - target)^2) per clip",
    axes: { clips: "clips", elements: "elements" },
    reads: { prediction: ["f32", "clips elements"], target: ["f32", "clips elements"] },
    writes: { loss: ["f32", "clips", "r0 * s0"] },
    scalars: ["f32"],
    outer: 1,
    stages: [["sum (a0 - a1)^2"]],
  },
  {
    anchor: "columns",
    name: "modulation_gradient_columns",
    formula: "dscale = sum dy * x, dshift = sum dy, over tokens",
    axes: hidden,
    reads: { dy: ["bf16", "batch tokens hidden"], x: ["bf16", "batch tokens hidden"] },
    writes: { dscale: ["f32", "batch hidden", "r0"], dshift: ["f32", "batch hidden", "r1"] },
    reduced: "tokens",
    reductions: ["sum a0 * a1", "sum a0"],
  },
];

it.each(kernels.map((kernel) => [kernel.name, kernel] as const))("%s", async (name, kernel) => {
  await expect(generateCpu(spell(kernel)).source).toMatchFileSnapshot(`cpu/${name}.cpp`);
  await expect(generateCuda(spell(kernel), "sm_80").source).toMatchFileSnapshot(`cuda/${name}.cu`);
});
