/**
 * The scalar functions: one record each, with its parameters, its type rule, what it computes and its tangent.
 *
 * A tangent is itself a formula: over the parameters, `y` (the result) and `da` (the tangent of parameter `a`), it
 * gives the tangent of the result. It is linear in the tangents, and it selects rather than multiplying by a mask, so
 * that an infinite value in an arm not taken stays out. A record without one has derivative zero.
 */
import { didYouMean } from "../../contract/diagnostic.ts";
import { roundHalfToEven, roundToBf16, roundToF16 } from "../../contract/dtype.ts";
import type { ScalarType } from "../../contract/dtype.ts";
import { philoxNormal, philoxUniform } from "../../contract/philox.ts";
import { byType, erf, floorDivide, floorModulo, power, sigmoid, softplus, toI32, toU32, wrap } from "./arithmetic.ts";
import type { Evaluate } from "./arithmetic.ts";
import * as typing from "./typing.ts";
import type { Signature } from "./typing.ts";

export interface ScalarFunction {
  readonly parameters: readonly string[];
  /** How the grammar spells the call between (or, with one parameter, before) its arguments. */
  readonly infix?: string;
  readonly signature: Signature;
  /** The computation, given the type of the first argument. */
  readonly evaluate: (operand: ScalarType) => Evaluate;
  readonly tangent?: string;
  /** False where a call of literals must not be computed at compile time. */
  readonly folds?: false;
}

/** A function of floats: the same computation whatever the type. */
const float = (parameters: string, evaluate: Evaluate, tangent?: string): ScalarFunction => ({
  parameters: parameters.split(" "),
  signature: typing.floating,
  evaluate: () => evaluate,
  ...(tangent === undefined ? {} : { tangent }),
});

const comparison = (infix: string, evaluate: Evaluate, signature: Signature = typing.comparing): ScalarFunction => ({
  parameters: ["a", "b"],
  infix,
  signature,
  evaluate: () => evaluate,
});

/** A function of integers, wrapped to their type. */
const integer = (evaluate: Evaluate, infix?: string): ScalarFunction => ({
  parameters: ["a", "b"],
  ...(infix === undefined ? {} : { infix }),
  signature: typing.integral,
  evaluate: (operand) => (a, b, c, d) => wrap(evaluate(a, b, c, d), operand),
});

/** A conversion to the type of the same name. */
const conversion = (type: ScalarType, evaluate: (from: ScalarType) => Evaluate, tangent?: string): ScalarFunction => ({
  parameters: ["x"],
  signature: typing.converting(type),
  evaluate,
  ...(tangent === undefined ? {} : { tangent }),
});

/** Rounds a value that stays in an f32 register; to the derivative it is the identity. */
const rounding = (evaluate: Evaluate): ScalarFunction => ({
  parameters: ["x"],
  signature: typing.rounding,
  evaluate: () => evaluate,
  tangent: "dx",
});

/** Counter-based, see contract/philox.ts: the same arguments give the same value on every device. */
const random = (evaluate: Evaluate): ScalarFunction => ({
  parameters: ["seed", "step", "path", "index"],
  signature: typing.drawing,
  evaluate: () => evaluate,
  folds: false,
});

export const FUNCTIONS = {
  add: {
    parameters: ["a", "b"],
    infix: "+",
    signature: typing.numeric,
    evaluate: byType(
      (a, b) => a + b,
      (a, b) => (a + b) | 0,
      (a, b) => (a + b) >>> 0,
    ),
    tangent: "da + db",
  },
  sub: {
    parameters: ["a", "b"],
    infix: "-",
    signature: typing.numeric,
    evaluate: byType(
      (a, b) => a - b,
      (a, b) => (a - b) | 0,
      (a, b) => (a - b) >>> 0,
    ),
    tangent: "da - db",
  },
  mul: {
    parameters: ["a", "b"],
    infix: "*",
    signature: typing.numeric,
    evaluate: byType(
      (a, b) => a * b,
      (a, b) => Math.imul(a, b),
      (a, b) => Math.imul(a, b) >>> 0,
    ),
    tangent: "b * da + a * db",
  },
  div: { ...float("a b", (a, b) => a / b, "(da - y * db) / b"), infix: "/", signature: typing.dividing },
  neg: {
    parameters: ["a"],
    infix: "-",
    signature: typing.numeric,
    evaluate: byType(
      (a) => -a,
      (a) => -a | 0,
      (a) => -a >>> 0,
    ),
    tangent: "-da",
  },
  /** As C's pow. `call` writes whole exponents from -3 to 4 as products. */
  pow: {
    ...float("a b", power, "select(b == 0, 0, b * a ^ (b - 1) * da) + select(a == 0 && b >= 0, 0, y * log(a) * db)"),
    infix: "^",
  },

  lt: comparison("<", (a, b) => (a < b ? 1 : 0)),
  le: comparison("<=", (a, b) => (a <= b ? 1 : 0)),
  gt: comparison(">", (a, b) => (a > b ? 1 : 0)),
  ge: comparison(">=", (a, b) => (a >= b ? 1 : 0)),
  eq: comparison("==", (a, b) => (a === b ? 1 : 0), typing.equating),
  ne: comparison("!=", (a, b) => (a !== b ? 1 : 0), typing.equating),
  and: comparison("&&", (a, b) => a & b, typing.logical),
  or: comparison("||", (a, b) => a | b, typing.logical),
  not: { ...comparison("!", (a) => 1 - a, typing.logical), parameters: ["a"] },
  isfinite: { ...float("x", (x) => (Number.isFinite(x) ? 1 : 0)), signature: typing.testing },
  select: {
    parameters: ["c", "a", "b"],
    signature: typing.choosing,
    evaluate: () => (c, a, b) => (c !== 0 ? a : b),
    tangent: "select(c, da, db)",
  },

  /** NaN when either side is. At a tie each side gets half of the gradient. */
  min: {
    ...float("a b", (a, b) => Math.min(a, b), "select(a < b, da, select(a > b, db, 0.5 * (da + db)))"),
    signature: typing.numeric,
  },
  max: {
    ...float("a b", (a, b) => Math.max(a, b), "select(a > b, da, select(a < b, db, 0.5 * (da + db)))"),
    signature: typing.numeric,
  },
  /** min(max(x, low), high). The gradient passes inside and on the bounds. */
  clamp: {
    ...float(
      "x low high",
      (x, low, high) => Math.min(Math.max(x, low), high),
      "select(x >= low && x <= high, dx, select(x < low && low <= high, dlow, dhigh))",
    ),
    signature: typing.numeric,
  },
  abs: {
    ...float("x", () => 0, "sign(x) * dx"),
    signature: typing.numeric,
    evaluate: byType(
      (x) => Math.abs(x),
      (x) => Math.abs(x) | 0,
      (x) => x,
    ),
  },
  /** -1, 0 or 1; a zero keeps its sign and NaN stays NaN. */
  sign: { ...float("x", (x) => Math.sign(x)), signature: typing.numeric },
  floor: float("x", (x) => Math.floor(x)),
  ceil: float("x", (x) => Math.ceil(x)),
  /** Half-way cases go to the even neighbour. */
  round: float("x", roundHalfToEven),

  sqrt: float("x", (x) => Math.sqrt(x), "0.5 * dx / y"),
  rsqrt: float("x", (x) => 1 / Math.sqrt(x), "-0.5 * (y * y * y) * dx"),
  exp: float("x", (x) => Math.exp(x), "y * dx"),
  exp2: float("x", (x) => power(2, x), "0.6931471805599453 * y * dx"),
  log: float("x", (x) => Math.log(x), "dx / x"),
  log1p: float("x", (x) => Math.log1p(x), "dx / (1 + x)"),
  sin: float("x", (x) => Math.sin(x), "cos(x) * dx"),
  cos: float("x", (x) => Math.cos(x), "-sin(x) * dx"),
  tanh: float("x", (x) => Math.tanh(x), "(1 - y * y) * dx"),
  sigmoid: float("x", sigmoid, "y * (1 - y) * dx"),
  /** d erf(x) = 2 / sqrt(pi) e^(-x^2) dx */
  erf: float("x", erf, "1.1283791670955126 * exp(-(x * x)) * dx"),
  softplus: float("x", softplus, "sigmoid(x) * dx"),

  /** By zero: floordiv gives 0, mod gives its first argument. */
  floordiv: integer(floorDivide, "//"),
  mod: integer(floorModulo, "%"),
  bitand: integer((a, b) => a & b),
  bitor: integer((a, b) => a | b),
  bitxor: integer((a, b) => a ^ b),
  /** The count is taken modulo 32. */
  shl: integer((a, b) => a << b),
  /** Arithmetic on i32, logical on u32. */
  shr: {
    ...integer((a) => a),
    evaluate: (operand) => (operand === "u32" ? (a, b) => a >>> b : (a, b) => a >> b),
  },

  f64: conversion("f64", () => (x) => x, "f64(dx)"),
  f32: conversion("f32", () => (x) => x, "f32(dx)"),
  i32: conversion("i32", toI32),
  u32: conversion("u32", toU32),
  bool: conversion("bool", () => (x) => (x !== 0 ? 1 : 0)),
  float32: rounding((x) => Math.fround(x)),
  bf16: rounding(roundToBf16),
  f16: rounding((x) => roundToF16(Math.fround(x))),

  uniform: random(philoxUniform),
  normal: random(philoxNormal),
} as const satisfies Readonly<Record<string, ScalarFunction>>;

export type FunctionName = keyof typeof FUNCTIONS;
export const FUNCTION_NAMES = Object.keys(FUNCTIONS) as readonly FunctionName[];

export const isFunctionName = (name: string): name is FunctionName => Object.hasOwn(FUNCTIONS, name);

/** The record of a name; an unknown one is a `Diagnostic` with the nearest known name. */
export function functionNamed(name: string): ScalarFunction {
  if (isFunctionName(name)) return FUNCTIONS[name];
  const near = didYouMean(name, FUNCTION_NAMES);
  throw typing.mistake(
    `there is no function \`${name}\``,
    near === undefined ? `the functions are ${FUNCTION_NAMES.join(", ")}` : `did you mean \`${near}\`?`,
  );
}
