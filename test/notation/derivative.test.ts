import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { derivative } from "../../compiler/notation/derivative.ts";
import { compileEvaluator } from "../../compiler/notation/evaluate.ts";
import { literal, subexpressions, variable } from "../../compiler/notation/expression.ts";
import type { Expression } from "../../compiler/notation/expression.ts";
import { parseFormula, printFormula } from "../../compiler/notation/formula.ts";
import { call, FUNCTION_NAMES, functionNamed } from "../../compiler/notation/functions.ts";
import { messageOf } from "./message-of.ts";
import { callOrNothing } from "./random-expressions.ts";

type Values = Readonly<Record<string, number>>;

function valueOf(expression: Expression | undefined, values: Values): number {
  if (expression === undefined) return 0;
  const results = new Float64Array(1);
  compileEvaluator([expression], Object.keys(values))(Object.values(values), results);
  return results[0]!;
}

/** The slope by central differences, fourth order, with the change between two step widths as its uncertainty. */
function slopeOf(expression: Expression, name: string, values: Values): { slope: number; uncertainty: number } {
  const at = (shift: number) => valueOf(expression, { ...values, [name]: values[name]! + shift });
  const central = (h: number) => (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
  const [wide, narrow] = [central(1e-3), central(5e-4)];
  return { slope: narrow, uncertainty: Math.abs(wide - narrow) };
}

/** Points on a grid of no round numbers, another for each parameter: no point is a kink, where differences mislead. */
const between = (low: number, high: number, parameter = 0): fc.Arbitrary<number> =>
  fc.integer({ min: 0, max: 996 }).map((k) => low + ((k + 0.3719 + 0.1713 * parameter) / 997) * (high - low));

/** Where each function is smooth: the range of each parameter. */
const SMOOTH: Readonly<Record<string, readonly (readonly [number, number])[]>> = {
  add: [[-5, 5], [-5, 5]],
  sub: [[-5, 5], [-5, 5]],
  mul: [[-5, 5], [-5, 5]],
  div: [[-5, 5], [0.5, 5]],
  neg: [[-5, 5]],
  pow: [[0.3, 3], [-3, 3]],
  select: [[-5, 5], [-5, 5]],
  min: [[-5, 5], [-5, 5]],
  max: [[-5, 5], [-5, 5]],
  clamp: [[-5, 5], [-3, -1], [1, 3]],
  abs: [[-5, 5]],
  sqrt: [[0.1, 5]],
  rsqrt: [[0.1, 5]],
  exp: [[-5, 5]],
  exp2: [[-5, 5]],
  log: [[0.1, 5]],
  log1p: [[-0.8, 5]],
  sin: [[-5, 5]],
  cos: [[-5, 5]],
  tanh: [[-5, 5]],
  sigmoid: [[-5, 5]],
  erf: [[-4, 4]],
  softplus: [[-5, 5]],
  f64: [[-5, 5]],
}; // prettier-ignore

/** Derivative 1 by decree, or an identity in the reference. */
const IDENTITIES = ["f32", "float32", "bf16", "f16"];

describe("against finite differences", () => {
  test("every function with a tangent is in the table or an identity", () => {
    const differentiable = FUNCTION_NAMES.filter((name) => functionNamed(name).tangent !== undefined);
    expect(differentiable.sort()).toEqual([...Object.keys(SMOOTH), ...IDENTITIES].sort());
  });

  for (const [name, ranges] of Object.entries(SMOOTH)) {
    test(name, () => {
      const names = ranges.map((_, k) => `v${k}`);
      const variables = names.map((each) => variable(each, "f64"));
      // select has a condition that the differences cannot move.
      const conditions = name === "select" ? [literal(1, "bool"), literal(0, "bool")] : [undefined];
      for (const condition of conditions) {
        const formula = call(name, condition === undefined ? variables : [condition, ...variables]);
        let compared = 0;
        fc.assert(
          fc.property(fc.tuple(...ranges.map(([low, high], k) => between(low, high, k))), (numbers) => {
            const values = Object.fromEntries(numbers.map((number, k) => [`v${k}`, number]));
            for (const by of names) {
              const { slope, uncertainty } = slopeOf(formula, by, values);
              if (uncertainty > 1e-7 * (1 + Math.abs(slope))) continue; // a kink between the points
              compared++;
              expect(Math.abs(valueOf(derivative(formula, by), values) - slope)).toBeLessThan(
                1e-8 * (1 + Math.abs(slope)),
              );
            }
          }),
          { numRuns: 200 },
        );
        expect(compared).toBeGreaterThan(150 * ranges.length);
      }
    });
  }

  test("rounding and conversion pass the tangent on", () => {
    for (const text of ["float32(x)", "bf16(x)", "f16(x)", "f32(f64(x))", "f64(float32(x))"]) {
      expect(valueOf(derivative(parseFormula(text, { x: "f32" }), "x"), { x: 0.3 }), text).toBe(1);
    }
    expect(derivative(parseFormula("float32(sin(x))", { x: "f32" }), "x")).toBe(parseFormula("cos(x)", { x: "f32" }));
  });

  test("random composites", () => {
    const names = Object.keys(SMOOTH).filter((name) => name !== "f64");
    const step = fc.record({
      name: fc.constantFrom(...names),
      picks: fc.array(fc.integer({ min: -3, max: 20 }), { minLength: 3, maxLength: 3 }),
    });
    let compared = 0;
    fc.assert(
      fc.property(
        fc.array(step, { minLength: 2, maxLength: 10 }),
        between(-2, 2, 0),
        between(-2, 2, 1),
        (steps, a, b) => {
          const pool: Expression[] = [variable("a", "f64"), variable("b", "f64"), literal(0.7, "f64")];
          for (const { name, picks } of steps) {
            const picked = picks.map((pick) => pool.at(pick % pool.length)!);
            const args = name === "select" ? [call("lt", [picked[0]!, picked[1]!]), ...picked.slice(1)] : picked;
            pool.push(callOrNothing(name, args.slice(0, functionNamed(name).parameters.length)) ?? picked[0]!);
          }
          const formula = pool.at(-1)!;
          const values = { a, b };
          for (const by of ["a", "b"]) {
            const { slope, uncertainty } = slopeOf(formula, by, values);
            if (!(Math.abs(slope) < 1e3 && uncertainty < 1e-7)) continue;
            const symbolic = valueOf(derivative(formula, by), values);
            if (Number.isNaN(symbolic)) continue; // an infinite slope met a zero one, as in sqrt(a - a)
            if (slope !== 0) compared++;
            expect(Math.abs(symbolic - slope), printFormula(formula)).toBeLessThan(1e-5);
          }
        },
      ),
      { numRuns: 2000 },
    );
    expect(compared).toBeGreaterThan(500);
  });
});

const parse = (text: string): Expression =>
  parseFormula(text, { x: "f32", y: "f32", c: "bool", i: "i32", low: "f32", high: "f32", dy: "f32" });
const slopeAt = (text: string, by: string, values: Values) => valueOf(derivative(parse(text), by), values);

describe("rules that differences cannot see", () => {
  test.each([
    ["max(x, y)", "x", { x: 2, y: 2 }, 0.5],
    ["max(x, y)", "y", { x: 2, y: 2 }, 0.5],
    ["min(x, y)", "x", { x: 2, y: 2 }, 0.5],
    ["min(x, 2)", "x", { x: 2 }, 0.5],
    ["max(x, x)", "x", { x: 2 }, 1],
    ["clamp(x, -1, 1)", "x", { x: 1 }, 1],
    ["clamp(x, -1, 1)", "x", { x: -1 }, 1],
    ["clamp(x, -1, 1)", "x", { x: 1.0001 }, 0],
    ["clamp(x, low, high)", "low", { x: -2, low: -1, high: 1 }, 1],
    ["clamp(x, low, high)", "high", { x: 2, low: -1, high: 1 }, 1],
    ["clamp(x, low, high)", "high", { x: -9, low: 3, high: 1 }, 1],
    ["abs(x)", "x", { x: 0 }, 0],
    ["x^y", "y", { x: 0, y: 2 }, 0],
    ["x^y", "x", { x: 0, y: 0 }, 0],
    ["x^2.5", "x", { x: 0 }, 0],
    ["tanh(x)", "x", { x: 1000 }, 0],
    ["sigmoid(x)", "x", { x: -1000 }, 0],
    ["softplus(x)", "x", { x: 1000 }, 1],
    ["softplus(x)", "x", { x: -1000 }, 0],
    ["erf(x)", "x", { x: 1000 }, 0],
    ["select(x > 0, sqrt(x), 0)", "x", { x: -1 }, 0],
  ] as const)("d %s / d %s at %j is %f", (text, by, values, wanted) => {
    expect(slopeAt(text, by, values)).toBe(wanted);
  });

  test.each([
    "floor(x)",
    "ceil(x)",
    "round(x)",
    "sign(x)",
    "select(x < 1, 2, 3)",
    "f32(i32(x))",
    "f32(i) * 2",
    "y",
    "3.5",
  ])("%s has no derivative by x", (text) => {
    expect(derivative(parse(text), "x")).toBeUndefined();
  });

  test("an integer variable has none", () => {
    expect(derivative(parse("f32(i) * x"), "i")).toBeUndefined();
  });

  test.each([
    ["tanh(x)", "1 - tanh(x) * tanh(x)"],
    ["sigmoid(x)", "sigmoid(x) * (1 - sigmoid(x))"],
    ["exp(2 * x)", "exp(2 * x) * 2"],
    ["softplus(x)", "sigmoid(x)"],
    ["rsqrt(x)", "-0.5 * (rsqrt(x) * rsqrt(x) * rsqrt(x))"],
    ["x * y + 1", "y"],
    ["x^2", "2 * x"],
    ["x / y", "1 / y"],
    ["y / x", "-(y / x) / x"],
    ["select(c, x * y, 3)", "select(c, y, 0)"],
    ["log(x) + f32(i)", "1 / x"],
    ["2^x", "2^x * 0.6931471805599453"],
  ])("d %s / dx reads %s", (text, wanted) => {
    expect(printFormula(derivative(parse(text), "x")!)).toBe(wanted);
  });
});

describe("the seed", () => {
  const dy = variable("dy", "f32");
  const gradient = (text: string, values: Values) => valueOf(derivative(parse(text), "x", dy), values);

  test("scales the derivative", () => {
    expect(gradient("x^3", { x: 2, dy: 0.5 })).toBeCloseTo(6, 14);
    expect(derivative(parse("x"), "x", dy)).toBe(dy);
  });

  test("an infinite gradient does not reach through an arm not taken", () => {
    expect(gradient("select(x > 0, x, 0)", { x: -1, dy: Infinity })).toBe(0);
    expect(gradient("max(x, 0)", { x: -1, dy: NaN })).toBe(0);
    expect(gradient("clamp(x, 0, 1)", { x: 2, dy: Infinity })).toBe(0);
    expect(gradient("select(x > 0, log(x), x)", { x: -1, dy: 2 })).toBe(2);
  });

  test("takes the type of the variable", () => {
    const made = derivative(parseFormula("f32(w * w)", { w: "f64" }), "w", dy)!;
    expect(made.type).toBe("f32");
    expect(valueOf(made, { w: 3, dy: 2 })).toBe(12);
  });
});

describe("size", () => {
  test("is linear in the number of distinct subexpressions", () => {
    let nest: Expression = variable("x", "f32");
    for (let k = 0; k < 200; k++) nest = call("mul", [call("tanh", [nest]), nest]);
    const before = subexpressions([nest]).length;
    const after = subexpressions([derivative(nest, "x")!]).length;
    expect(after).toBeLessThan(6 * before);
  });

  test("a result that is no float is a mistake", () => {
    expect(messageOf(() => derivative(parse("x < y"), "x"))).toBe(
      "formula: only a float has a derivative, and this formula gives bool\n  fix: convert the result: f32(…)",
    );
  });
});
