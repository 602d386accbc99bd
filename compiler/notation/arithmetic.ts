/**
 * What the scalar functions compute on JavaScript numbers, where `Math` has no word for it.
 *
 * Floats are float64 throughout (the reference computes wider than the devices do); integers are whole numbers of
 * their type's range; a bool is 0 or 1. Nothing traps: the corner cases below are part of the language and every
 * target must reproduce them.
 */
import type { ScalarType } from "../../contract/dtype.ts";

/** A function of up to four numbers. */
export type Evaluate = (a: number, b: number, c: number, d: number) => number;

/** Two's complement: the value modulo 2^32 within the type's range; floats pass. */
export function wrap(value: number, type: ScalarType): number {
  if (type === "i32") return value | 0;
  return type === "u32" ? value >>> 0 : value;
}

/** Chooses the float, i32 or u32 meaning of a function once, so that no evaluation asks again. */
export const byType =
  (float: Evaluate, i32: Evaluate, u32: Evaluate) =>
  (type: ScalarType): Evaluate =>
    type === "i32" ? i32 : type === "u32" ? u32 : float;

/** Truncates toward zero and saturates; NaN becomes 0. An integer of the other sign keeps its bits. */
export const toI32 = (from: ScalarType): Evaluate =>
  from === "f32" || from === "f64"
    ? (x) => Math.min(Math.max(Math.trunc(x) || 0, -2147483648), 2147483647)
    : (x) => x | 0;

export const toU32 = (from: ScalarType): Evaluate =>
  from === "f32" || from === "f64" ? (x) => Math.min(Math.max(Math.trunc(x) || 0, 0), 4294967295) : (x) => x >>> 0;

/** The largest whole number not above a / b; division by zero gives 0, and -2^31 over -1 wraps to itself. */
export const floorDivide = (a: number, b: number): number => (b === 0 ? 0 : Math.floor(a / b));

/** a - b floorDivide(a, b): the sign of b, and a itself when b is 0. */
export function floorModulo(a: number, b: number): number {
  if (b === 0) return a;
  const rest = a % b;
  return rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest + 0;
}

/** C's pow where JavaScript differs: 1 to any power is 1, and so is (-1) to an infinite one. */
export function power(base: number, exponent: number): number {
  if (base === 1 || (base === -1 && Math.abs(exponent) === Infinity)) return 1;
  return Math.pow(base, exponent);
}

/** 1 / (1 + e^-x), from the side on which the exponential cannot overflow. */
export function sigmoid(x: number): number {
  if (x >= 0) return 1 / (1 + Math.exp(-x));
  const small = Math.exp(x);
  return small / (1 + small);
}

/** ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|), which neither overflows nor loses the small end. */
export const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

/**
 * The error function to about one unit in the last place. Below 2.5 by the series of positive terms
 * erf(x) = 2/sqrt(pi) e^(-x^2) sum x (2 x^2)^n / (1 3 5 … (2n+1)), above by the continued fraction of 1 - erf.
 */
export function erf(x: number): number {
  const magnitude = Math.abs(x);
  if (magnitude > 6) return Math.sign(x);
  if (magnitude < 2.5) {
    let term = x;
    let sum = x;
    for (let n = 3; Math.abs(term) > 1e-17 * Math.abs(sum); n += 2) {
      term *= (2 * x * x) / n;
      sum += term;
    }
    return TWO_OVER_ROOT_PI * Math.exp(-x * x) * sum;
  }
  // erfc(x) = e^(-x^2) / sqrt(pi) / (x + (1/2) / (x + (2/2) / (x + (3/2) / …))), evaluated from the tail.
  let fraction = magnitude;
  for (let n = 60; n > 0; n--) fraction = magnitude + n / 2 / fraction;
  return Math.sign(x) * (1 - (0.5 * TWO_OVER_ROOT_PI * Math.exp(-magnitude * magnitude)) / fraction);
}

const TWO_OVER_ROOT_PI = 2 / Math.sqrt(Math.PI);
