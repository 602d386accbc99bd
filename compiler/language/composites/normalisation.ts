/** Normalisations. */
import { composite } from "../place.ts";
import type { Tensor } from "../tensor.ts";

/** (x - mean) / sqrt(variance + eps) over the last axis, without scale and shift (Ba, Kiros and Hinton, 2016). */
export const layerNorm = composite("layerNorm", (x: Tensor, eps?: number): Tensor => {
  const last = x.axes.at(-1) ?? "";
  const centred = x.sub(x.mean(last));
  const variance = centred.apply("x * x").mean(last);
  return centred.apply("x * rsqrt(variance + eps)", { variance, eps: eps ?? 1e-6 });
});
