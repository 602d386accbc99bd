import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { compileEvaluator } from "../../compiler/notation/evaluate.ts";
import { variable } from "../../compiler/notation/expression.ts";
import type { Expression } from "../../compiler/notation/expression.ts";
import { parseFormula } from "../../compiler/notation/formula.ts";
import { evaluateCall, FUNCTION_NAMES } from "../../compiler/notation/functions.ts";
import { assignments, pools, VARIABLES } from "./random-expressions.ts";

/** The meaning, spelled out: leaves first, one table look-up per node. */
function naive(root: Expression, values: Readonly<Record<string, number>>, done: Map<Expression, number>): number {
  if (root.kind === "literal") return root.value;
  if (root.kind === "variable") return values[root.name]!;
  const known = done.get(root);
  if (known !== undefined) return known;
  const args = root.args.map((arg) => naive(arg, values, done));
  const value = evaluateCall(root.name, root.args[0]!.type, args);
  done.set(root, value);
  return value;
}

describe("the compiled evaluator", () => {
  test("agrees with recursion over the table to the bit, for whole pools of random expressions", () => {
    const names = Object.keys(VARIABLES);
    fc.assert(
      fc.property(pools(FUNCTION_NAMES), assignments, (pool, values) => {
        const results = new Float64Array(pool.length);
        const done = new Map<Expression, number>();
        compileEvaluator(pool, names)(
          names.map((name) => values[name]!),
          results,
        );
        expect([...results]).toEqual(pool.map((each) => naive(each, values, done)));
      }),
      { numRuns: 2000 },
    );
  });

  test("variables are found by name, in any order", () => {
    const results = new Float64Array(2);
    const types = { a: "f32", b: "f32" } as const;
    const evaluate = compileEvaluator([parseFormula("a - b", types), parseFormula("b", types)], ["unused", "b", "a"]);
    evaluate([100, 2, 7], results);
    expect([...results]).toEqual([5, 2]);
  });

  test("a variable without a value is our mistake", () => {
    expect(() => compileEvaluator([variable("a", "f32")], ["b"])).toThrow("compiler bug in evaluate");
  });

  test("a million elements of GELU take well under a second", () => {
    const evaluate = compileEvaluator(
      [parseFormula("0.5 * x * (1 + tanh(0.79788456 * (x + 0.044715 * x^3)))", { x: "f32" })],
      ["x"],
    );
    const values = new Float64Array(1);
    const results = new Float64Array(1);
    let sum = 0;
    const start = performance.now();
    for (let k = 0; k < 1_000_000; k++) {
      values[0] = (k % 1000) / 500 - 1;
      evaluate(values, results);
      sum += results[0]!;
    }
    expect(performance.now() - start).toBeLessThan(2000);
    expect(sum).toBeGreaterThan(0);
  });
});
