/** Rows that are read more than once: a normalisation and a softmax, as models have them. */
import type { Spelled } from "./kernel-builder.ts";

export const layerNorm = (x: "f32" | "bf16", hidden: number): Spelled => ({
  anchor: "rows",
  name: "layer_norm_modulate_rows",
  formula: "y = (x - mean) * rstd * (1 + scale) + shift",
  axes: { batch: "batch", tokens: "tokens", hidden },
  reads: { x: [x, "batch tokens hidden"], scale: ["f32", "batch hidden"], shift: ["f32", "batch hidden"] },
  writes: {
    y: [x, "batch tokens hidden", `(a0 - r0 / ${hidden}) * rsqrt(r1 / ${hidden} + s0) * (1 + a1) + a2`],
    mean: ["f32", "batch tokens", `r0 / ${hidden}`],
    rstd: ["f32", "batch tokens", `rsqrt(r1 / ${hidden} + s0)`],
  },
  scalars: ["f32"],
  outer: 2,
  stages: [["sum a0"], [`sum (a0 - r0 / ${hidden})^2`]],
});

export const softmax: Spelled = {
  anchor: "rows",
  name: "softmax_rows",
  axes: { queries: "queries", keys: "keys" },
  reads: { scores: ["f32", "queries keys"] },
  writes: { weights: ["f32", "queries keys", "exp(a0 - r0) / r1"], lse: ["f32", "queries", "r0 + log(r1)"] },
  outer: 1,
  stages: [["max a0"], ["sum exp(a0 - r0)"]],
};
