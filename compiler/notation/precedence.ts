/** The infix operators of formulas, from loosest to tightest: one table for the grammar and the printer. */
import { FUNCTIONS } from "./function-table.ts";

/** Each level is left-associative, except comparisons, which do not chain. */
export const LEVELS = [
  ["or"],
  ["and"],
  ["eq", "ne", "le", "lt", "ge", "gt"],
  ["add", "sub"],
  ["mul", "floordiv", "div", "mod"],
] as const;

export type Infix = (typeof LEVELS)[number][number];

export const COMPARISONS = 2;
/** `-x` and `!x` bind tighter than products, and `x^y` tighter still: -x^2 is -(x^2), and 2^-x needs no brackets. */
export const PREFIX = LEVELS.length;
export const POWER = PREFIX + 1;
export const VALUE = POWER + 1;

export const spellingOf = (name: Infix | "neg" | "not" | "pow"): string => FUNCTIONS[name].infix ?? name;

export const levelOf = (name: string): number => LEVELS.findIndex((names) => names.some((each) => each === name));

/** Names with a meaning of their own, which no variable may take. */
export const CONSTANTS: Readonly<Record<string, { readonly value: number; readonly type: "f32" | "bool" }>> = {
  inf: { value: Infinity, type: "f32" },
  nan: { value: NaN, type: "f32" },
  pi: { value: Math.PI, type: "f32" },
  true: { value: 1, type: "bool" },
  false: { value: 0, type: "bool" },
};
