import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { compileEvaluator } from "../../compiler/notation/evaluate.ts";
import { literal, subexpressions, typedCall, variable } from "../../compiler/notation/expression.ts";
import { parseFormula, printFormula } from "../../compiler/notation/formula.ts";
import { call, FUNCTION_NAMES } from "../../compiler/notation/functions.ts";
import { messageOf } from "./message-of.ts";
import { expressions, pools, VARIABLES } from "./random-expressions.ts";

const parse = (text: string) => parseFormula(text, VARIABLES);
const x = variable("x", "f32");
const y = variable("y", "f32");

function valueAt(text: string, values: Readonly<Record<string, number>>): number {
  const names = Object.keys(values);
  const results = new Float64Array(1);
  compileEvaluator([parse(text)], names)(Object.values(values), results);
  return results[0]!;
}

describe("parsing", () => {
  test.each([
    ["x + y * 2", "x + (y * 2)"],
    ["x - y - 1", "(x - y) - 1"],
    ["x / y / 2", "(x / y) / 2"],
    ["-x^2", "-(x^2)"],
    ["x^y^0.5", "x^(y^0.5)"],
    ["2^-x", "2^(-x)"],
    ["-x * y", "(-x) * y"],
    ["!p && q || p", "((!p) && q) || p"],
    ["x < y + 1 && x != 2", "(x < (y + 1)) && (x != 2)"],
    ["!p == q", "(!p) == q"],
    ["i // 2 % 3 * 4", "((i // 2) % 3) * 4"],
    ["s = x * y; s + s", "x * y + x * y"],
    ["1e-4 + .5 + 2. + 3.25E+1", "0.0001 + 0.5 + 2 + 32.5"],
  ])("%s reads as %s", (text, same) => {
    expect(parse(text)).toBe(parse(same));
  });

  test("the tree is the one meant", () => {
    expect(parse("x - y - 1")).toBe(call("sub", [call("sub", [x, y]), literal(1, "f32")]));
    expect(parse("-x^2.5")).toBe(call("neg", [call("pow", [x, literal(2.5, "f32")])]));
    expect(parse("2")).toBe(literal(2, "f32"));
    expect(parse("i32(2)")).toBe(literal(2, "i32"));
    expect(parse("f64(0.1)")).toBe(literal(0.1, "f64"));
    expect(parse("-inf")).toBe(literal(-Infinity, "f32"));
    expect(parse("true")).toBe(literal(1, "bool"));
    expect(parse("0 * x")).toBe(typedCall("mul", [literal(0, "f32"), x], "f32"));
  });

  test("formulas compute what they say", () => {
    const gelu = (v: number) => 0.5 * v * (1 + Math.tanh(0.79788456 * (v + 0.044715 * v ** 3)));
    const text = "0.5 * x * (1 + tanh(0.79788456 * (x + 0.044715 * x^3)))";
    for (const v of [-3, -0.5, 0, 0.7, 2]) expect(valueAt(text, { x: v })).toBeCloseTo(gelu(v), 14);
    expect(valueAt("select(i == 0, x, y)", { i: 0, x: 5, y: NaN })).toBe(5);
    expect(valueAt("select(x < y && !p, 1, 0)", { x: 1, y: 2, p: 0 })).toBe(1);
    expect(valueAt("i // 3 * 3 + i % 3", { i: -8 })).toBe(-8);
    expect(valueAt("x * sigmoid(x)", { x: 2 })).toBeCloseTo(2 / (1 + Math.exp(-2)), 15);
  });

  test("names may carry dots and Greek letters", () => {
    const types = { "next.m": "f32", β: "f32" } as const;
    const text = "next.m * β + 1";
    expect(printFormula(parseFormula(text, types))).toBe(text);
  });

  test("types belong to the memory of a text", () => {
    expect(parseFormula("v + 1", { v: "i32" }).type).toBe("i32");
    expect(parseFormula("v + 1", { v: "f64" }).type).toBe("f64");
    expect(parseFormula("v + 1", { v: "f64" })).toBe(parseFormula("v + 1", { v: "f64" }));
  });
});

describe("printing", () => {
  test.each([
    "0.5 * x * (1 + tanh(0.79788456 * (x + 0.044715 * (x * x * x))))",
    "select(i == 0, x, y)",
    "x < y && !p",
    "(p || q) && p",
    "x - (y - 1)",
    "x / (y * 2)",
    "-(x + y)",
    "-x * y",
    "(-x)^2.5",
    "-x^2.5",
    "(x^y)^0.5",
    "x^y^0.5",
    "2^-x",
    "(x < y) == (y < x)",
    "select(p, i32(1), i32(0))",
    "clamp(i, 0, 10)",
    "f64(x) * wide",
    "f32(i) * 0.5",
    "f64(1) / f64(0)",
    "uniform(1, u, 3, i)",
    "1e-7 + x * pi",
    "select(p, -1, x)",
    "-2147483648 + j",
  ])("%s prints as it is written", (text) => {
    expect(printFormula(parse(text))).toBe(text);
  });

  test("a large shared expression is printed with bindings, not as its tree", () => {
    let power = x;
    for (let k = 0; k < 40; k++) power = typedCall("mul", [power, power], "f32");
    const text = printFormula(power);
    expect(text.length).toBeLessThan(1000);
    expect(text.startsWith("t1 = x * x; t2 = t1 * t1; ")).toBe(true);
    expect(parse(text)).toBe(power);
  });

  test("bindings avoid the names of variables", () => {
    const t1 = variable("t1", "f32");
    let power = call("mul", [t1, t1]);
    for (let k = 0; k < 12; k++) power = call("mul", [power, power]);
    expect(printFormula(power).startsWith("t2 = t1 * t1; ")).toBe(true);
    expect(parseFormula(printFormula(power), { t1: "f32" })).toBe(power);
  });

  test("reading back gives the same object, for random expressions of all functions", () => {
    fc.assert(
      fc.property(expressions(FUNCTION_NAMES), (expression) => {
        expect(parse(printFormula(expression))).toBe(expression);
      }),
      { numRuns: 3000 },
    );
  });

  test("and for such that share much", () => {
    let bound = 0;
    const shared = pools(["add", "mul", "sub", "tanh", "max", "neg", "pow"], undefined, 60);
    fc.assert(
      fc.property(shared, (pool) => {
        const text = printFormula(pool.at(-1)!);
        if (text.includes(";")) bound++;
        expect(parse(text)).toBe(pool.at(-1)!);
      }),
      { numRuns: 500 },
    );
    expect(bound).toBeGreaterThan(5);
  });

  test("brackets are minimal: without any one pair the text means something else, or nothing", () => {
    const infix = ["add", "sub", "mul", "div", "neg", "pow", "lt", "and", "not", "eq"];
    fc.assert(
      fc.property(expressions(infix), (expression) => {
        const text = printFormula(expression);
        if (text.includes(";") || subexpressions([expression]).length > 12) return;
        for (const [open, close] of bracketPairs(text)) {
          const without = text.slice(0, open) + text.slice(open + 1, close) + text.slice(close + 1);
          expect(parseOrNothing(without), without).not.toBe(expression);
        }
      }),
      { numRuns: 500 },
    );
  });
});

/** The pairs of brackets that group; those of a function's arguments follow a name. */
function bracketPairs(text: string): [number, number][] {
  const pairs: [number, number][] = [];
  const open: number[] = [];
  for (const [at, character] of text.split("").entries()) {
    if (character === "(") open.push(at);
    if (character !== ")") continue;
    const start = open.pop()!;
    if (!/\w/.test(text[start - 1] ?? " ")) pairs.push([start, at]);
  }
  return pairs;
}

function parseOrNothing(text: string) {
  try {
    return parse(text);
  } catch (error) {
    if (error instanceof Diagnostic) return undefined;
    throw error;
  }
}

describe("mistakes", () => {
  const cases: readonly (readonly string[])[] = [
    ["formula: expected a value, found `*`", "  0.5 * * x", "        ^", "  fix: a power is written x^2"],
    ["formula: expected a value, found `*`", "  x ** 2", "     ^", "  fix: a power is written x^2"],
    ["formula: expected an operator, found `x`", "  2x", "   ^", "  fix: a product needs its `*`"],
    ["formula: expected `)`, found the end", "  sin(x", "       ^"],
    ["formula: expected a value, found the end", "  x +", "     ^"],
    ["formula: expected an operator, found `)`", "  x)", "   ^"],
    [
      "formula: expected `;`, found the end",
      "  x = 1",
      "       ^",
      "  fix: to compare write ==; a binding is t = x * x; t + 1",
    ],
    [
      "formula: `&` is not part of a formula",
      "  p & q",
      "    ^",
      "  fix: for conditions write `&&`, for bits bitand(a, b)",
    ],
    ["formula: `$` is not part of a formula", "  x + $ )", "      ^"],
    [
      "formula: expected an operator, found `<`",
      "  x < y < 3",
      "        ^",
      "  fix: comparisons do not chain: write a < b && b < c",
    ],
    ["formula: there is no function `softpuls`", "  1 + softpuls(x)", "      ^", "  fix: did you mean `softplus`?"],
    ["formula: there is no variable `z`", "  x + z", "      ^", "  fix: the variables are x, y, wide, i, j, u, p, q"],
    ["formula: there is no variable `wid`", "  x * wid", "      ^", "  fix: did you mean `wide`?"],
    ["formula: `sin` is a function", "  sin + 1", "  ^", "  fix: give it arguments: sin(…)"],
    ["formula: `x` is a value, and no function", "  x(3)", "  ^", "  fix: a product needs its `*`"],
    [
      "formula: `clamp` takes 3 arguments, and got 2",
      "  y * clamp(x, 1)",
      "      ^",
      "  fix: write clamp(x, low, high)",
    ],
    [
      "formula: argument 2 of `+` is a bool, and wants a number",
      "  x + (x < y)",
      "    ^",
      "  fix: turn a condition into a number with select(condition, 1, 0)",
    ],
    [
      "formula: the condition of `select` is an f32, and wants a bool",
      "  select(x, 1, 2)",
      "  ^",
      "  fix: compare it with something, as in x != 0",
    ],
    ["formula: `x` has a value already", "  x = 2; x", "  ^", "  fix: choose another name"],
    ["formula: `pi` is a constant", "  pi = 3; pi", "  ^", "  fix: choose another name"],
  ];
  test.each(cases.map((lines) => [lines[1]!.slice(2), lines.join("\n")]))("%s", (text, message) => {
    expect(messageOf(() => parse(text))).toBe(message);
  });

  test("the place in the file leads, and only the line of the mistake is quoted", () => {
    const text = "x *\n\t(1 + q1) *\n2";
    expect(
      messageOf(() => parseFormula(text, { x: "f32" }, { file: "models/dit.sora.ts", line: 41, column: 18 })),
    ).toBe(
      [
        "models/dit.sora.ts:41:18  formula: there is no variable `q1`",
        "  \t(1 + q1) *",
        "  \t     ^",
        "  fix: the variables are x",
      ].join("\n"),
    );
  });

  test("a constant's name is refused to variables", () => {
    expect(messageOf(() => parseFormula("inf", { inf: "f32" }))).toBe(
      "formula: `inf` is a constant of formulas and cannot name a variable\n  fix: choose another name",
    );
  });

  test("no text makes anything but an expression or a diagnostic", () => {
    const alphabet = fc.constantFrom(
      ...["x", "i", "p", "1", "2.5", " ", "+", "-", "*", "/", "^", "(", ")", ",", "<", "=="],
    );
    const noise = fc.oneof(
      fc.string(),
      fc
        .array(fc.oneof(alphabet, fc.constantFrom("sin", "!", "&&", "=", ";")), { maxLength: 12 })
        .map((parts) => parts.join("")),
    );
    fc.assert(
      fc.property(noise, (text) => {
        parseOrNothing(text);
      }),
      { numRuns: 2000 },
    );
  });
});
