/**
 * Dims: the symbolic sizes of axes. A dim is a polynomial with whole coefficients over symbols (`batch`, `tokens`) and
 * atoms (`floorDiv(height, 2)`, `max(262144, tokens)`). Dims are interned in a normal form: equal polynomials are one
 * object, so `===` decides equality wherever algebra can. What algebra cannot decide becomes a guard (see `shape.ts`).
 *
 * Every symbol is a whole number of at least 1.
 */
import { applySizeOperation, printSize, type Size } from "../../contract/size.ts";

export interface Dim {
  readonly key: string;
  /** Different for different dims: a short name for keys of things that contain dims. */
  readonly id: number;
  /** The terms of the polynomial, sorted by their key; an empty list is zero. */
  readonly terms: readonly Term[];
}

interface Term {
  readonly coefficient: number;
  /** The factors, sorted by key; a power is a repeated factor. */
  readonly factors: readonly Factor[];
  readonly key: string;
}

export type Factor =
  | { readonly kind: "symbol"; readonly name: string; readonly key: string }
  | { readonly kind: "atom"; readonly operation: AtomOperation; readonly args: readonly Dim[]; readonly key: string };

type AtomOperation = "floorDiv" | "mod" | "min" | "max" | "ceilSqrt";
export type DimLike = Dim | number;

const interned = new Map<string, Dim>();
const constants = new Map<number, Dim>();
const sums = new Map<number, Dim>();
const products = new Map<number, Dim>();

export function constant(value: number): Dim {
  const known = constants.get(value);
  if (known !== undefined) return known;
  const made = fromTerms([{ coefficient: value, factors: [], key: "" }]);
  constants.set(value, made);
  return made;
}

export const symbol = (name: string): Dim => fromFactor({ kind: "symbol", name, key: name });

export const toDim = (value: DimLike): Dim => (typeof value === "number" ? constant(value) : value);

export const ZERO = constant(0);
export const ONE = constant(1);

export function add(...dims: readonly DimLike[]): Dim {
  const [first, second] = dims;
  if (dims.length !== 2 || first === undefined || second === undefined) {
    return fromTerms(dims.flatMap((dim) => toDim(dim).terms));
  }
  const [a, b] = [toDim(first), toDim(second)];
  if (a === ZERO) return b;
  if (b === ZERO) return a;
  return remembered(sums, a, b, () => fromTerms([...a.terms, ...b.terms]));
}

export const subtract = (a: DimLike, b: DimLike): Dim => add(a, multiply(b, -1));

export function multiply(...dims: readonly DimLike[]): Dim {
  return dims.map(toDim).reduce(product, ONE);
}

function product(a: Dim, b: Dim): Dim {
  if (a === ONE || b === ZERO) return b;
  if (b === ONE || a === ZERO) return a;
  return remembered(products, a, b, () =>
    fromTerms(
      a.terms.flatMap((x) =>
        b.terms.map((y): Term => {
          const factors = [...x.factors, ...y.factors].sort(byKey);
          return {
            coefficient: x.coefficient * y.coefficient,
            factors,
            key: factors.map((factor) => factor.key).join("*"),
          };
        }),
      ),
    ),
  );
}

/** The same few sizes meet again and again: a pair's result is kept. */
function remembered(results: Map<number, Dim>, a: Dim, b: Dim, make: () => Dim): Dim {
  const pair = a.id * 2 ** 26 + b.id;
  const known = results.get(pair);
  if (known !== undefined) return known;
  const made = make();
  results.set(pair, made);
  return made;
}

/** `floor(a / b)`; exact when every term of `a` contains `b`. */
export function floorDiv(a: DimLike, b: DimLike): Dim {
  const exact = divideExactly(toDim(a), toDim(b));
  return exact ?? atom("floorDiv", [toDim(a), toDim(b)]);
}

export const ceilDiv = (a: DimLike, b: DimLike): Dim => divideExactly(toDim(a), toDim(b)) ?? floorDiv(add(a, b, -1), b);

export function mod(a: DimLike, b: DimLike): Dim {
  return divideExactly(toDim(a), toDim(b)) !== undefined ? ZERO : atom("mod", [toDim(a), toDim(b)]);
}

export const min = (a: DimLike, b: DimLike): Dim =>
  toDim(a) === toDim(b) ? toDim(a) : atom("min", [toDim(a), toDim(b)]);
export const max = (a: DimLike, b: DimLike): Dim =>
  toDim(a) === toDim(b) ? toDim(a) : atom("max", [toDim(a), toDim(b)]);
export const ceilSqrt = (a: DimLike): Dim => atom("ceilSqrt", [toDim(a)]);

/** The number a dim stands for when it contains no symbol. */
export function staticValue(dim: Dim): number | undefined {
  if (dim.terms.length === 0) return 0;
  const [only] = dim.terms;
  return dim.terms.length === 1 && only?.factors.length === 0 ? only.coefficient : undefined;
}

/** `a / b` when it leaves no remainder for any value of the symbols. */
export function divideExactly(a: Dim, b: Dim): Dim | undefined {
  if (a === b) return ONE;
  if (b === ONE || a === ZERO) return a;
  const [divisor] = b.terms;
  if (b.terms.length !== 1 || divisor === undefined) return undefined;
  const terms: Term[] = [];
  for (const term of a.terms) {
    const coefficient = term.coefficient / divisor.coefficient;
    if (!Number.isInteger(coefficient)) return undefined;
    const factors = [...term.factors];
    for (const factor of divisor.factors) {
      const at = factors.findIndex((candidate) => candidate.key === factor.key);
      if (at < 0) return undefined;
      factors.splice(at, 1);
    }
    terms.push({ coefficient, factors, key: factors.map((factor) => factor.key).join("*") });
  }
  return fromTerms(terms);
}

const knownSymbols = new WeakMap<Dim, readonly string[]>();

/** The names of the symbols a dim depends on, sorted. */
export function symbolsOf(dim: Dim): readonly string[] {
  const known = knownSymbols.get(dim);
  if (known !== undefined) return known;
  const names = new Set<string>();
  const visit = (each: Dim): void => {
    for (const term of each.terms) {
      for (const factor of term.factors) {
        if (factor.kind === "symbol") names.add(factor.name);
        else factor.args.forEach(visit);
      }
    }
  };
  visit(dim);
  const sorted = Object.freeze([...names].sort());
  knownSymbols.set(dim, sorted);
  return sorted;
}

/** The size expression the runtime evaluates. */
export function toSize(dim: Dim): Size {
  if (dim.terms.length === 0) return 0;
  const terms = dim.terms.map((term): Size => {
    const factors = term.factors.map(factorToSize);
    if (factors.length === 0) return term.coefficient;
    const all = term.coefficient === 1 ? factors : [term.coefficient, ...factors];
    return all.length === 1 ? (all[0] ?? 1) : ["*", ...all];
  });
  return terms.length === 1 ? (terms[0] ?? 0) : ["+", ...terms];
}

const factorToSize = (factor: Factor): Size =>
  factor.kind === "symbol" ? factor.name : [factor.operation, ...factor.args.map(toSize)];

/** The dim that a size expression spells: the inverse of `toSize`. */
export function fromSize(size: Size): Dim {
  if (typeof size === "number") return constant(size);
  if (typeof size === "string") return symbol(size);
  const [operation, ...args] = size;
  const dims = args.map(fromSize);
  const [a = ZERO, b = ONE] = dims;
  switch (operation) {
    case "+":
      return add(...dims);
    case "*":
      return multiply(...dims);
    case "floorDiv":
      return floorDiv(a, b);
    case "mod":
      return mod(a, b);
    case "min":
      return min(a, b);
    case "max":
      return max(a, b);
    case "ceilSqrt":
      return ceilSqrt(a);
    default:
      return operation satisfies never;
  }
}

export const printDim = (dim: Dim): string => printSize(toSize(dim));

/** The dim with symbols replaced by other dims. */
export function substituteDim(dim: Dim, by: ReadonlyMap<string, Dim>): Dim {
  return add(
    ...dim.terms.map((term) =>
      multiply(
        term.coefficient,
        ...term.factors.map((factor) =>
          factor.kind === "symbol"
            ? (by.get(factor.name) ?? fromFactor(factor))
            : fromSize([factor.operation, ...factor.args.map((arg) => toSize(substituteDim(arg, by)))]),
        ),
      ),
    ),
  );
}

function atom(operation: AtomOperation, args: readonly Dim[]): Dim {
  const values = args.map(staticValue);
  if (values.every((value) => value !== undefined)) return constant(applySizeOperation(operation, values));
  const key = `${operation}(${args.map((arg) => arg.key).join(",")})`;
  return fromFactor({ kind: "atom", operation, args: Object.freeze([...args]), key });
}

const fromFactor = (factor: Factor): Dim =>
  fromTerms([{ coefficient: 1, factors: [Object.freeze(factor)], key: factor.key }]);

function fromTerms(terms: readonly Term[]): Dim {
  const collected = new Map<string, Term>();
  for (const term of terms) {
    const known = collected.get(term.key);
    collected.set(
      term.key,
      known === undefined ? term : { ...term, coefficient: known.coefficient + term.coefficient },
    );
  }
  const kept = [...collected.values()].filter((term) => term.coefficient !== 0).sort(byKey);
  const key = kept.map((term) => `${String(term.coefficient)}${term.key === "" ? "" : `*${term.key}`}`).join("+");
  const known = interned.get(key);
  if (known !== undefined) return known;
  const made: Dim = Object.freeze({
    key,
    id: interned.size,
    terms: Object.freeze(kept.map((term) => Object.freeze(term))),
  });
  interned.set(key, made);
  return made;
}

/** Hoisted, as the constants at the top of this file already sort. */
function byKey(a: { readonly key: string }, b: { readonly key: string }): number {
  return a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
}
