import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { literal, subexpressions, typedCall, variable } from "../../compiler/notation/expression.ts";
import {
  add,
  call,
  div,
  evaluateCall,
  FUNCTION_NAMES,
  mul,
  neg,
  replaceVariables,
  select,
  sub,
} from "../../compiler/notation/functions.ts";
import { messageOf } from "./message-of.ts";
import { assignments, callOrNothing, expressions, pools, VARIABLES } from "./random-expressions.ts";

const x = variable("x", "f32");
const wide = variable("wide", "f64");
const i = variable("i", "i32");
const u = variable("u", "u32");
const p = variable("p", "bool");
const f32 = (value: number) => literal(value, "f32");

describe("typing", () => {
  test("a literal takes the type of what it meets", () => {
    expect(call("add", [i, f32(2)])).toBe(typedCall("add", [i, literal(2, "i32")], "i32"));
    expect(call("mul", [f32(0.1), wide])).toBe(typedCall("mul", [literal(0.1, "f64"), wide], "f64"));
    expect(call("mul", [literal(0.1, "f64"), x]).type).toBe("f32");
    expect(call("lt", [u, f32(3)])).toBe(typedCall("lt", [u, literal(3, "u32")], "bool"));
  });

  test("among literals f32 yields, and an integer stays one beside whole numbers", () => {
    expect(call("add", [literal(0.5, "f64"), f32(1)])).toBe(literal(1.5, "f64"));
    expect(call("mul", [literal(3, "i32"), f32(2)])).toBe(literal(6, "i32"));
    expect(call("mul", [literal(3, "i32"), f32(0.5)])).toBe(f32(1.5));
  });

  test("a literal fits to the last number of its type", () => {
    expect(call("lt", [u, f32(2 ** 32 - 1)]).type).toBe("bool");
    expect(call("lt", [i, f32(-(2 ** 31))]).type).toBe("bool");
    expect(messageOf(() => call("lt", [u, f32(2 ** 32)]))).toContain("4294967296 does not fit the u32 of `<`");
    expect(messageOf(() => call("lt", [i, f32(2 ** 31)]))).toContain("2147483648 does not fit the i32 of `<`");
  });

  test("what is no literal is converted visibly", () => {
    expect(call("add", [i, x])).toBe(typedCall("add", [typedCall("f32", [i], "f32"), x], "f32"));
    expect(call("add", [x, wide])).toBe(typedCall("add", [typedCall("f64", [x], "f64"), wide], "f64"));
    expect(call("mul", [i, f32(0.5)])).toBe(typedCall("mul", [typedCall("f32", [i], "f32"), f32(0.5)], "f32"));
    expect(call("sqrt", [i])).toBe(typedCall("sqrt", [typedCall("f32", [i], "f32")], "f32"));
    expect(call("bf16", [wide])).toBe(typedCall("bf16", [typedCall("f32", [wide], "f32")], "f32"));
  });

  test("a conversion to the type a value has is the value", () => {
    expect(call("f32", [x])).toBe(x);
    expect(call("i32", [i])).toBe(i);
  });

  test.each([
    [() => call("add", [i, u]), "formula: `+` mixes i32 with u32\n  fix: convert one side: i32(…) or u32(…)"],
    [
      () => call("add", [x, p]),
      "formula: argument 2 of `+` is a bool, and wants a number\n" +
        "  fix: turn a condition into a number with select(condition, 1, 0)",
    ],
    [
      () => call("and", [p, x]),
      "formula: argument 2 of `&&` is an f32, and wants a bool\n  fix: compare it with something, as in x != 0",
    ],
    [
      () => call("div", [i, f32(2)]),
      "formula: `/` divides floats, and both sides are integers\n" +
        "  fix: write a // b for the whole quotient, or f32(a) / b",
    ],
    [
      () => call("shl", [x, f32(2)]),
      "formula: `shl` wants integers, and got f32 and f32\n  fix: convert with i32(…) or u32(…)",
    ],
    [
      () => call("gt", [u, f32(-1)]),
      "formula: -1 does not fit the u32 of `>` (0 to 4294967295)\n  fix: convert the other side: f64(…)",
    ],
    [
      () => call("normal", [u, u, u, x]),
      "formula: argument 4 of `normal` is an f32, and wants an integer\n  fix: convert with i32(…)",
    ],
    [() => call("clamp", [x, x]), "formula: `clamp` takes 3 arguments, and got 2\n  fix: write clamp(x, low, high)"],
    [() => call("sofplus", [x]), "formula: there is no function `sofplus`\n  fix: did you mean `softplus`?"],
  ])("a wrong call says what is wrong, case %#", (wrong, message) => {
    expect(messageOf(wrong)).toBe(message);
  });
});

describe("folding", () => {
  test("literals are computed, whole powers become products", () => {
    expect(call("add", [f32(1), f32(2)])).toBe(f32(3));
    expect(call("floordiv", [f32(-7), f32(2)])).toBe(literal(-4, "i32"));
    expect(call("pow", [x, f32(3)])).toBe(call("mul", [call("mul", [x, x]), x]));
    expect(call("pow", [x, f32(-2)])).toBe(call("div", [f32(1), call("mul", [x, x])]));
    expect(call("pow", [i, f32(2)])).toBe(call("mul", [i, i]));
    expect(call("pow", [x, f32(0)])).toBe(f32(1));
    expect(call("pow", [x, f32(5)])).toBe(typedCall("pow", [x, f32(5)], "f32"));
    expect(call("pow", [x, f32(-4)])).toBe(typedCall("pow", [x, f32(-4)], "f32"));
  });

  test("a result that is no ordinary number of its type stays a call", () => {
    for (const wild of [
      call("div", [f32(1), f32(0)]),
      call("exp", [f32(100)]),
      call("mul", [f32(1e-30), f32(1e-30)]),
      call("sqrt", [f32(-1)]),
      call("uniform", [f32(1), f32(2), f32(3), f32(4)]),
    ]) {
      expect(wild.kind).toBe("call");
    }
    expect(call("exp", [literal(100, "f64")])).toBe(literal(Math.exp(100), "f64"));
    expect(call("neg", [f32(Infinity)])).toBe(f32(-Infinity));
  });

  test("what call builds is in normal form, and every function occurs in the sample", () => {
    const met = new Set<string>();
    fc.assert(
      fc.property(pools(FUNCTION_NAMES), (pool) => {
        for (const each of subexpressions(pool)) {
          if (each.kind !== "call") continue;
          met.add(each.name);
          expect(call(each.name, each.args)).toBe(each);
        }
      }),
      { numRuns: 3000 },
    );
    expect([...met].sort()).toEqual([...FUNCTION_NAMES].sort());
  });

  test("folding agrees with computing later", () => {
    // A random draw is not folded, and a power whose exponent becomes known turns into products that round otherwise.
    const exact = FUNCTION_NAMES.filter((name) => !["uniform", "normal", "pow"].includes(name));
    fc.assert(
      fc.property(expressions(exact), assignments, (root, values) => {
        const folded = replaceVariables(root, (name) => literal(values[name]!, VARIABLES[name]!));
        if (folded.kind !== "literal") return;
        const computed = evaluate(root, values);
        expect(folded.value).toBe(computed);
      }),
      { numRuns: 1000 },
    );
  });
});

function evaluate(root: ReturnType<typeof call>, values: Readonly<Record<string, number>>): number {
  if (root.kind === "literal") return root.value;
  if (root.kind === "variable") return values[root.name]!;
  return evaluateCall(
    root.name,
    root.args[0]!.type,
    root.args.map((arg) => evaluate(arg, values)),
  );
}

describe("small constructors", () => {
  test("neutral elements vanish, whatever type the literal came in", () => {
    for (const same of [
      add(x, f32(0)),
      add(f32(0), x),
      sub(x, f32(0)),
      mul(f32(1), x),
      mul(x, f32(1)),
      div(x, f32(1)),
    ]) {
      expect(same).toBe(x);
    }
    expect(mul(f32(1), i)).toBe(i);
    expect(mul(literal(1, "f64"), wide)).toBe(wide);
    expect(neg(neg(x))).toBe(x);
    expect(sub(f32(0), x)).toBe(neg(x));
    expect(mul(x, f32(-1))).toBe(neg(x));
    expect(select(literal(1, "bool"), x, f32(2))).toBe(x);
    expect(select(literal(0, "bool"), x, f32(2))).toBe(f32(2));
    expect(select(p, x, x)).toBe(x);
  });

  test("a written zero factor stays: it may meet infinity", () => {
    expect(mul(f32(0), x)).toBe(typedCall("mul", [f32(0), x], "f32"));
  });

  test("what a user writes with call is kept as it is", () => {
    expect(call("add", [x, f32(0)]).kind).toBe("call");
  });
});

describe("corner cases of the numbers", () => {
  test.each([
    ["add", "i32", [2 ** 31 - 1, 1], -(2 ** 31)],
    ["add", "u32", [2 ** 32 - 1, 1], 0],
    ["sub", "u32", [0, 1], 2 ** 32 - 1],
    ["mul", "i32", [65537, 65537], 131073],
    ["mul", "u32", [2 ** 32 - 1, 2 ** 32 - 1], 1],
    ["neg", "i32", [-(2 ** 31)], -(2 ** 31)],
    ["neg", "i32", [0], 0],
    ["abs", "i32", [-(2 ** 31)], -(2 ** 31)],
    ["floordiv", "i32", [-7, 2], -4],
    ["floordiv", "i32", [7, 0], 0],
    ["floordiv", "i32", [-(2 ** 31), -1], -(2 ** 31)],
    ["mod", "i32", [-7, 3], 2],
    ["mod", "i32", [7, -3], -2],
    ["mod", "i32", [7, 0], 7],
    ["mod", "u32", [2 ** 32 - 1, 10], 5],
    ["shr", "i32", [-8, 1], -4],
    ["shr", "u32", [2 ** 32 - 8, 1], 2 ** 31 - 4],
    ["shl", "u32", [1, 31], 2 ** 31],
    ["shl", "i32", [1, 33], 2],
    ["bitand", "u32", [0xffffffff, 0xf0f0f0f0], 0xf0f0f0f0],
    ["i32", "f32", [-2.9], -2],
    ["i32", "f32", [1e10], 2 ** 31 - 1],
    ["i32", "f32", [NaN], 0],
    ["i32", "u32", [2 ** 32 - 1], -1],
    ["u32", "f32", [-3], 0],
    ["u32", "i32", [-1], 2 ** 32 - 1],
    ["u32", "f64", [Infinity], 2 ** 32 - 1],
    ["bool", "f32", [NaN], 1],
    ["round", "f32", [2.5], 2],
    ["round", "f32", [-3.5], -4],
    ["min", "f32", [NaN, 1], NaN],
    ["max", "f32", [1, NaN], NaN],
    ["clamp", "f32", [NaN, 0, 1], NaN],
    ["clamp", "f32", [3, 2, 1], 1],
    ["sign", "f32", [-0], -0],
    ["sign", "f32", [NaN], NaN],
    ["pow", "f32", [1, NaN], 1],
    ["pow", "f32", [-1, Infinity], 1],
    ["sigmoid", "f32", [-1000], 0],
    ["sigmoid", "f32", [1000], 1],
    ["softplus", "f32", [1000], 1000],
    ["softplus", "f32", [-800], 0],
    ["softplus", "f32", [NaN], NaN],
    ["erf", "f32", [Infinity], 1],
    ["erf", "f32", [-0], -0],
    ["erf", "f32", [NaN], NaN],
    ["isfinite", "f32", [-Infinity], 0],
    ["float32", "f32", [0.1], Math.fround(0.1)],
    ["bf16", "f32", [1.00390625], 1],
    ["f16", "f32", [65520], Infinity],
    ["f32", "f64", [0.1], 0.1],
  ] as const)("%s on %s of %j", (name, type, values, wanted) => {
    expect(evaluateCall(name, type, values)).toBe(wanted);
  });

  test("erf agrees with tables to the last digits, on both branches and at their seam", () => {
    const table = [
      [0.1, 0.1124629160182849],
      [0.5, 0.5204998778130465],
      [1, 0.8427007929497149],
      [-1.5, -0.9661051464753108],
      [2, 0.9953222650189527],
      [2.4999, 0.9995928300996666],
      [2.5, 0.999593047982555],
      [3, 0.9999779095030014],
      [4, 0.9999999845827421],
      [5.5, 0.9999999999999927],
    ] as const;
    for (const [at, wanted] of table) {
      expect(Math.abs(evaluateCall("erf", "f64", [at]) - wanted)).toBeLessThan(4e-16);
    }
  });

  test("every function takes some arguments", () => {
    for (const name of FUNCTION_NAMES) {
      const candidates = [x, i, p, u];
      const four = candidates.flatMap((a) => candidates.map((b) => [a, b, b, b]));
      const made = four.map((args) => [1, 2, 3, 4].map((n) => callOrNothing(name, args.slice(0, n))));
      expect(
        made.flat().some((each) => each !== undefined),
        name,
      ).toBe(true);
    }
  });
});
