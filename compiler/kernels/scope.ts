/** What the variables of a kernel's expressions stand for, and of which type each is. */
import { registerOf, type ScalarType } from "../../contract/dtype.ts";
import type { Expression } from "../notation/expression.ts";
import type { Kernel, Reduction } from "./kernel.ts";

export type Types = Readonly<Record<string, ScalarType>>;

type Parts = Pick<Kernel, "operands" | "scalars" | "axes"> & {
  readonly accesses: readonly { readonly operand: number }[];
};

/** The variables every expression of a kernel may use: accesses, indices, scalar arguments, the linear index. */
export function commonTypes({ operands, scalars, axes, accesses }: Parts): Types {
  const types: Record<string, ScalarType> = { linear: "i32" };
  accesses.forEach(({ operand }, i) => (types[`a${String(i)}`] = registerOf(operands[operand]?.dtype ?? "f32")));
  axes.forEach((_, i) => (types[`i${String(i)}`] = "i32"));
  scalars.forEach((type, i) => (types[`s${String(i)}`] = type));
  return types;
}

/** The results of reductions, numbered from `first`. */
export const reductionTypes = (reductions: readonly Pick<Reduction, "value">[], first = 0): Types =>
  Object.fromEntries(reductions.map(({ value }, i) => [`r${String(first + i)}`, value.type]));

/** The accumulator of a contraction: float32, or float64 when a factor is. */
export const accumulatorTypes = (left: Expression, right: Expression): Types => ({
  acc: left.type === "f64" || right.type === "f64" ? "f64" : "f32",
});
