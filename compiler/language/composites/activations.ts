/** Activations and modulation: scalar formulas with a name. */
import { composite } from "../place.ts";
import type { Tensor } from "../tensor.ts";

/** x sigmoid(x). */
export const silu = composite("silu", (x: Tensor): Tensor => x.apply("x * sigmoid(x)"));

/**
 * GELU by its tanh approximation (Hendrycks and Gimpel, 2016): 0.5 x (1 + tanh(u)) with u = 0.79788456 (x + 0.044715 x^3),
 * written as x sigmoid(2 u), which keeps the digits of small results and takes one exponential.
 */
export const gelu = composite("gelu", (x: Tensor): Tensor =>
  x.apply("x * sigmoid(x * (1.5957691216057308 + 0.07135481627260025 * x^2))"),
);

/** x (1 + scale) + shift: adaptive normalisation (Perez et al., 2018); [batch, width] meets [batch, tokens, width]. */
export const modulate = composite("modulate", (x: Tensor, shift: Tensor, scale: Tensor): Tensor =>
  x.apply("x * (1 + scale) + shift", { scale, shift }),
);
