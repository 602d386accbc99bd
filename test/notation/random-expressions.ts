/** Random scalar expressions: a pool grows call by call, so that shared subexpressions come up by themselves. */
import fc from "fast-check";
import { Diagnostic } from "../../contract/diagnostic.ts";
import type { ScalarType } from "../../contract/dtype.ts";
import { literal, variable } from "../../compiler/notation/expression.ts";
import type { Expression } from "../../compiler/notation/expression.ts";
import { call, functionNamed } from "../../compiler/notation/functions.ts";

export const VARIABLES: Readonly<Record<string, ScalarType>> = {
  x: "f32",
  y: "f32",
  wide: "f64",
  i: "i32",
  j: "i32",
  u: "u32",
  p: "bool",
  q: "bool",
};

const specials = [0, -0, 1, -1, 2, 0.5, 3, -3, 4, 1e-4, 1e21, 1e-7, Math.PI, Infinity, -Infinity, NaN];
const float = fc.oneof(fc.constantFrom(...specials), fc.double(), fc.double({ min: -10, max: 10 }));
const i32 = fc.oneof(fc.constantFrom(0, 1, -1, 7, -(2 ** 31), 2 ** 31 - 1), fc.integer());
const u32 = fc.oneof(fc.constantFrom(0, 1, 31, 32, 2 ** 32 - 1), fc.nat());

/** A value a variable of the type can have. */
export const valueOf: Readonly<Record<ScalarType, fc.Arbitrary<number>>> = {
  f32: float,
  f64: float,
  i32,
  u32,
  bool: fc.constantFrom(0, 1),
};

const anyLiteral = fc
  .constantFrom<ScalarType>("f32", "f32", "f64", "i32", "u32", "bool")
  .chain((type) => valueOf[type].map((value) => literal(value, type)));

/** Every expression of a pool over `VARIABLES` built by `steps` calls of the named functions; the last is the largest. */
export function pools(names: readonly string[], literals = anyLiteral, steps = 30): fc.Arbitrary<Expression[]> {
  const step = fc.record({
    name: fc.constantFrom(...names),
    // A negative pick counts from the newest, so that expressions grow deep.
    picks: fc.array(fc.oneof(fc.nat(100), fc.integer({ min: -4, max: -1 })), { minLength: 4, maxLength: 4 }),
  });
  const start = Object.entries(VARIABLES).map(([name, type]) => variable(name, type));
  return fc
    .tuple(fc.array(literals, { maxLength: 6 }), fc.array(step, { minLength: 1, maxLength: steps, size: "max" }))
    .map(([constants, calls]) => {
      const pool = [...start, ...constants];
      for (const { name, picks } of calls) {
        const args = functionNamed(name).parameters.map((_, k) => pool.at(picks[k]! % pool.length)!);
        const made = callOrNothing(name, args);
        if (made !== undefined) pool.push(made);
      }
      return pool;
    });
}

/** The call, or nothing where the types do not fit. */
export function callOrNothing(name: string, args: readonly Expression[]): Expression | undefined {
  try {
    return call(name, args);
  } catch (error) {
    if (error instanceof Diagnostic) return undefined;
    throw error;
  }
}

export const expressions = (names: readonly string[]): fc.Arbitrary<Expression> =>
  pools(names).map((pool) => pool.at(-1)!);

/** One value for each of `VARIABLES`. */
export const assignments: fc.Arbitrary<Readonly<Record<string, number>>> = fc.record(
  Object.fromEntries(Object.entries(VARIABLES).map(([name, type]) => [name, valueOf[type]])),
);
