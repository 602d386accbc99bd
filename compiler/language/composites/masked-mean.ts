/** The loss of a sample whose tokens are partly padding. */
import { composite } from "../place.ts";
import { formula, type Tensor } from "../tensor.ts";
import type { LossMean } from "./process.ts";

/**
 * For each sample, the sum of `term` [batch, tokens, …] over its valid tokens, divided by the number of all its
 * elements ("padded", as published) or of the valid ones ("valid"). A padded element does not enter, whatever it is.
 */
export const maskedMean = composite("maskedMean", (term: Tensor, mask: Tensor | undefined, mean: LossMean): Tensor => {
  const inner = term.axes.filter((axis) => axis !== "batch");
  if (mask === undefined) return term.mean(...inner);
  const kept = formula("select(mask != 0, term, 0)", { term, mask });
  if (mean === "padded") return kept.mean(...inner);
  const perToken = kept.mean(...inner.filter((axis) => axis !== "tokens"));
  const count = mask.sum("tokens").cast("f32");
  return perToken.sum("tokens").apply("x / max(count, 1)", { count });
});
