/** Every scalar function as generated C++ against the function table, in every type it accepts. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { DType, ScalarType } from "../../contract/dtype.ts";
import { constant, ONE } from "../../compiler/graph/dim.ts";
import { canPrint } from "../../compiler/targets/code/print.ts";
import { variable, type Expression } from "../../compiler/notation/expression.ts";
import { call, evaluateCall, FUNCTION_NAMES, functionNamed } from "../../compiler/notation/functions.ts";
import { compileCases, runCase, type Case, type Library } from "./harness.ts";

const TYPES: readonly ScalarType[] = ["f32", "f64", "i32", "u32", "bool"];

/** Allowed error in units in the last place, where it is not exact. f64 is the C library's. */
const ULPS: Readonly<Record<string, number>> = {
  ...{
    exp: 1.5,
    exp2: 1.5,
    log: 1.5,
    log1p: 2.5,
    tanh: 2.5,
    sigmoid: 2.5,
    erf: 2,
    softplus: 2.5,
    pow: 1,
    sin: 1,
    cos: 1,
  },
  ...{ normal: 3, rsqrt: 1.5, div: 0.6, sqrt: 0.6, add: 0.6, sub: 0.6, mul: 0.6 },
};

const ENDS = [
  0,
  -0,
  1,
  -1,
  0.5,
  -0.5,
  1.5,
  2.5,
  -2.5,
  3,
  100,
  -100,
  1e-30,
  -1e-30,
  1e30,
  -1e30,
  Infinity,
  -Infinity,
  NaN,
];
const TINY = [
  2 ** -126,
  2 ** -149,
  2 ** -140,
  -(2 ** -130),
  3.4028234663852886e38,
  88.72,
  88.73,
  -87.3,
  -103.9,
  -104,
  127.9,
  128,
  -149,
  -150.1,
];
const MIDDLE = Array.from({ length: 600 }, (_, i) => (i - 300) / 23);
const WIDE = Array.from({ length: 400 }, (_, i) => (i % 2 === 0 ? 1 : -1) * 10 ** ((i - 200) / 8.3));
const ANGLES = Array.from({ length: 400 }, (_, i) => (i - 200) * 487.3);
const WHOLE = [
  0, 1, -1, 2, -2, 3, 5, -7, 31, 32, 33, 64, 100, -100, 65535, 65536, 2147483647, -2147483648, -2147483647, 123456789,
];

const VALUES: Readonly<Record<ScalarType, readonly number[]>> = {
  f32: [
    ...ENDS,
    ...TINY,
    ...MIDDLE,
    ...WIDE,
    ...ANGLES,
    2147483647,
    2147483648,
    -2147483648,
    4294967295,
    4294967296,
    5e9,
  ].map(Math.fround),
  f64: [...ENDS, ...MIDDLE, ...WIDE, 2147483647.5, -2147483648.9, 4294967295.5],
  i32: WHOLE,
  u32: WHOLE.map((value) => value >>> 0),
  bool: [0, 1],
};

interface Subject {
  readonly label: string;
  readonly name: string;
  readonly operand: ScalarType;
  readonly args: readonly (readonly number[])[];
  readonly result: ScalarType;
  readonly one: Case;
}

const DTYPE_OF: Readonly<Record<ScalarType, DType>> = { f32: "f32", f64: "f64", i32: "i32", u32: "u32", bool: "bool" };

/** Pairs and triples that meet every end with every end, and the rest with something. */
function argumentsFor(types: readonly ScalarType[]): number[][] {
  const [first, second, third] = types.map((type) => VALUES[type]);
  if (second === undefined) return [[...first!]];
  const rows: number[][] = [];
  const short = (values: readonly number[]) => values.slice(0, third === undefined ? 36 : 19);
  for (const a of short(first!))
    for (const b of short(second)) {
      if (third === undefined) rows.push([a, b]);
      else for (const c of short(third).slice(0, 9)) rows.push([a, b, c]);
    }
  first!.forEach((a, i) =>
    rows.push([
      a,
      second[(i * 7 + 3) % second.length]!,
      ...(third === undefined ? [] : [third[(i * 5 + 1) % third.length]!]),
    ]),
  );
  return types.map((_, i) => rows.map((row) => row[i]!));
}

function subjectsOf(name: string): Subject[] {
  const { parameters } = functionNamed(name);
  return TYPES.flatMap((type) => {
    const types: ScalarType[] = parameters.map((_, i) =>
      name === "select" && i === 0
        ? "bool"
        : name === "uniform" || name === "normal"
          ? type === "u32" && i > 2
            ? "i32"
            : type
          : type,
    );
    let value: Expression;
    try {
      value = call(
        name,
        types.map((each, i) => variable(`a${i}`, each)),
      );
    } catch {
      return []; // not a type this function accepts
    }
    // An integer that the function would turn into a float is tested as that float.
    if (value.kind === "call" && value.args.some((arg, i) => arg.kind !== "variable" || arg.type !== types[i]))
      return [];
    let args = argumentsFor(types.length > 3 ? types.slice(0, 1) : types);
    if (types.length > 3)
      args = types.map((_, i) =>
        Array.from({ length: 500 }, (_unused, n) => (i === 3 ? n * 7919 : i === 0 ? n % 3 : i)),
      );
    const count = args[0]!.length;
    const operands = [...types, value.type].map((each, i) => ({
      name: i < types.length ? "abcd"[i]! : "y",
      dtype: DTYPE_OF[each],
      role: i < types.length ? ("read" as const) : ("write" as const),
    }));
    const one: Case = {
      kernel: {
        anchor: "map",
        name: `${name}_${type}`,
        formula: `y = ${name}(${"abcd".slice(0, types.length).split("").join(", ")})`,
        operands,
        scalars: [],
        symbols: [],
        axes: [{ name: "n", size: constant(count) }],
        accesses: operands.map((_, operand) => ({ operand, strides: [ONE], lookups: [] })),
        stores: [{ access: types.length, value }],
      },
      sizes: {},
      operands: [...args, count],
    };
    return [
      {
        label: `${name} of ${type}`,
        name,
        operand: value.kind === "call" ? value.args[0]!.type : type,
        args,
        result: value.type,
        one,
      },
    ];
  });
}

/** The distance in units in the last place of `expected` in its type. */
function ulps(got: number, expected: number, type: ScalarType): number {
  if (Object.is(got, expected) || got === expected) return 0;
  if (type === "f32") {
    if (Math.abs(expected) >= 3.4028235677973366e38 && got === Math.sign(expected) * Infinity) return 0;
    if (!Number.isFinite(got) || !Number.isFinite(expected)) return Infinity;
    const exponent = Math.max(Math.floor(Math.log2(Math.abs(expected))), -126);
    return Math.abs(got - expected) / 2 ** (exponent - 23);
  }
  if (type !== "f64" || !Number.isFinite(got) || !Number.isFinite(expected)) return Infinity;
  return Math.abs(got - expected) / Math.max(Math.abs(expected) * 2 ** -52, 5e-324);
}

const subjects = FUNCTION_NAMES.flatMap(subjectsOf);
let library: Library;
beforeAll(async () => (library = await compileCases(subjects.map((subject) => subject.one))));
afterAll(() => library.close());

describe("scalar functions on the CPU", () => {
  it("cover the table", () => {
    expect(FUNCTION_NAMES.filter((name) => !canPrint(name))).toEqual([]);
    expect(FUNCTION_NAMES.filter((name) => !subjects.some((subject) => subject.name === name))).toEqual([]);
  });

  it.each(subjects.map((subject, i) => [subject.label, subject, i] as const))("%s", (_label, subject, i) => {
    const { got } = runCase(library, i, subject.one);
    const results = got.at(-1)!;
    let worst = { error: 0, text: "" };
    results.forEach((value, n) => {
      const args = subject.args.map((list) => list[n]!);
      const expected = evaluateCall(subject.name, subject.operand, args);
      // Beyond a million the argument of a float's sine has few bits left: it stays within its range.
      const far = (subject.name === "sin" || subject.name === "cos") && Math.abs(args[0]!) > 1e6;
      if (far && Math.abs(value) <= 1) return;
      const error = ulps(value, expected, subject.result);
      if (error > worst.error)
        worst = { error, text: `${subject.name}(${args.join(", ")}) is ${value}, not ${expected}: ${error} ulp` };
    });
    const allowed = subject.result === "f64" ? 4 : (ULPS[subject.name] ?? 0.5);
    if (process.env["SORACC_ULPS"]) console.log(worst.text);
    expect(worst.error, worst.text).toBeLessThanOrEqual(allowed);
  });
});
