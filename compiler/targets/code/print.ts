/**
 * Scalar expressions as C++ text. One call becomes one operator or one function of the prelude's `scalar.hpp`, which
 * has an overload per register type; statements and shared subexpressions are the business of `scope.ts`.
 */
import { CompilerBug } from "../../../contract/diagnostic.ts";
import type { DType, ScalarType } from "../../../contract/dtype.ts";

/** C++ text and how tightly its outermost operator binds: what decides about parentheses. */
export interface Text {
  readonly text: string;
  readonly binds: number;
}

/** How tightly C++ operators bind; a larger number binds tighter. */
export const BINDS = {
  primary: 12,
  unary: 11,
  multiply: 10,
  add: 9,
  shift: 8,
  compare: 7,
  equal: 6,
  and: 5,
  xor: 4,
  or: 3,
  select: 2,
} as const;

/** The C++ type of a value in a register. */
export const REGISTER_TYPES: Readonly<Record<ScalarType, string>> = {
  f64: "double",
  f32: "float",
  i32: "int32_t",
  u32: "uint32_t",
  bool: "bool",
};

/** The C++ type of an element in memory; those that are not built in convert from and to their register type. */
export const ELEMENT_TYPES: Readonly<Record<DType, string>> = {
  f64: "double",
  f32: "float",
  bf16: "bf16",
  f16: "f16",
  i32: "int32_t",
  u32: "uint32_t",
  u8: "uint8_t",
  bool: "boolean",
};

export const primary = (text: string): Text => ({ text, binds: BINDS.primary });

/** The text, in parentheses unless it binds at least as tightly as `binds`. */
export const within = (part: Text, binds: number): string => (part.binds >= binds ? part.text : `(${part.text})`);

/** A literal that the C++ compiler reads back as exactly this value. */
export function printLiteral(value: number, type: ScalarType): Text {
  switch (type) {
    case "bool":
      return primary(value !== 0 ? "true" : "false");
    case "i32":
      if (value === -2147483648) return primary("INT32_MIN");
      return value < 0 ? { text: String(value), binds: BINDS.unary } : primary(String(value));
    case "u32":
      return primary(`${value}u`);
    case "f32":
      return printFloat(Math.fround(value), "f");
    case "f64":
      return printFloat(value, "");
    default:
      return type satisfies never;
  }
}

/** Short decimals that are exact stay decimal; everything else is spelled in hexadecimal. */
function printFloat(value: number, suffix: "f" | ""): Text {
  if (Number.isNaN(value)) return primary(`__builtin_nan${suffix}("")`);
  const sign = value < 0 || Object.is(value, -0) ? "-" : "";
  const binds = sign === "" ? BINDS.primary : BINDS.unary;
  const magnitude = Math.abs(value);
  if (magnitude === Infinity) return { text: `${sign}__builtin_inf${suffix}()`, binds };
  const exactDecimal = magnitude < 2 ** 20 && Number.isInteger(magnitude * 16);
  const digits = exactDecimal ? `${magnitude}${Number.isInteger(magnitude) ? ".0" : ""}` : hexadecimal(magnitude);
  return { text: `${sign}${digits}${suffix}`, binds };
}

/** `0x1.8p+1` for 3: the 52 bits of the fraction without trailing zeros, then the power of two. */
function hexadecimal(magnitude: number): string {
  const bits = new DataView(new ArrayBuffer(8));
  bits.setFloat64(0, magnitude);
  const biased = bits.getUint16(0) >> 4;
  const fraction = (bits.getBigUint64(0) % 2n ** 52n).toString(16).padStart(13, "0").replace(/0+$/, "");
  const exponent = biased === 0 ? -1022 : biased - 1023;
  return `0x${biased === 0 ? 0 : 1}${fraction === "" ? "" : "."}${fraction}p${exponent < 0 ? "" : "+"}${exponent}`;
}

type PrintCall = (args: readonly Text[], types: readonly ScalarType[], result: ScalarType) => Text;

/** The text of a call of `name` whose arguments have these texts and types. */
export function printCall(name: string, args: readonly Text[], types: readonly ScalarType[], result: ScalarType): Text {
  const print = CALLS.get(name);
  if (print === undefined) throw new CompilerBug("targets", `the printer does not know the function ${name}`);
  return print(args, types, result);
}

/** Whether the printer knows a function: a test holds this against the table of functions. */
export const canPrint = (name: string): boolean => CALLS.has(name);

/** The value as another type, with the language's corner cases: floats saturate on their way to integers. */
export function convert(value: Text, from: ScalarType, to: ScalarType): Text {
  if (from === to) return value;
  return invoke(`to_${to}`, [value]);
}

const invoke = (name: string, args: readonly Text[]): Text =>
  primary(`${name}(${args.map((arg) => arg.text).join(", ")})`);

/** `a + b` for left-associative operators: the right side must bind tighter. */
const joined = (operator: string, binds: number, args: readonly Text[]): Text => ({
  text: args.map((arg, i) => within(arg, i === 0 ? binds : binds + 1)).join(` ${operator} `),
  binds,
});

const infix =
  (operator: string, binds: number): PrintCall =>
  (args) =>
    joined(operator, binds, args);

/** An operator on floats and u32; on i32, where C++ leaves overflow undefined, a prelude function that wraps around. */
const arithmetic =
  (operator: string, binds: number, wrapping: string): PrintCall =>
  (args, _types, result) =>
    result === "i32" ? invoke(wrapping, args) : joined(operator, binds, args);

/** A function of the prelude, overloaded by type. */
const scalarFunction =
  (name: string): PrintCall =>
  (args) =>
    invoke(name, args);

const conversion =
  (to: ScalarType): PrintCall =>
  ([value = NOTHING], [from = to]) =>
    convert(value, from, to);

const NOTHING = primary("");

const CALLS: ReadonlyMap<string, PrintCall> = new Map<string, PrintCall>([
  ["add", arithmetic("+", BINDS.add, "wrapping_add")],
  ["sub", arithmetic("-", BINDS.add, "wrapping_sub")],
  ["mul", arithmetic("*", BINDS.multiply, "wrapping_mul")],
  ["div", infix("/", BINDS.multiply)],
  ["quotient", scalarFunction("quotient")],
  [
    "neg",
    ([value = NOTHING], _types, result) =>
      result === "i32"
        ? invoke("wrapping_neg", [value])
        : { text: `-${within(value, BINDS.unary + 1)}`, binds: BINDS.unary },
  ],
  ["lt", infix("<", BINDS.compare)],
  ["le", infix("<=", BINDS.compare)],
  ["gt", infix(">", BINDS.compare)],
  ["ge", infix(">=", BINDS.compare)],
  ["eq", infix("==", BINDS.equal)],
  ["ne", infix("!=", BINDS.equal)],
  // Bit operators on bools: a loop body without branches vectorises.
  ["and", infix("&", BINDS.and)],
  ["or", infix("|", BINDS.or)],
  ["not", ([value = NOTHING]) => ({ text: `!${within(value, BINDS.unary)}`, binds: BINDS.unary })],
  [
    "select",
    (args) => {
      const [condition = "", yes = "", no = ""] = args.map((arg) => within(arg, BINDS.select + 1));
      return { text: `${condition} ? ${yes} : ${no}`, binds: BINDS.select };
    },
  ],
  ["bitand", infix("&", BINDS.and)],
  ["bitor", infix("|", BINDS.or)],
  ["bitxor", infix("^", BINDS.xor)],
  ["shl", scalarFunction("shift_left")],
  ["shr", scalarFunction("shift_right")],
  ["f64", conversion("f64")],
  ["f32", conversion("f32")],
  ["i32", conversion("i32")],
  ["u32", conversion("u32")],
  ["bool", conversion("bool")],
  ["float32", scalarFunction("round_to_f32")],
  ["bf16", scalarFunction("round_to_bf16")],
  ["f16", scalarFunction("round_to_f16")],
  ["isfinite", scalarFunction("is_finite")],
  ...[
    ...["min", "max", "clamp", "abs", "sign", "floor", "ceil", "round", "sqrt", "rsqrt", "pow", "floordiv", "mod"],
    ...["exp", "exp2", "log", "log1p", "sin", "cos", "tanh", "sigmoid", "erf", "softplus", "uniform", "normal"],
  ].map((name): [string, PrintCall] => [name, scalarFunction(name)]),
]);
