/**
 * Which types a scalar function accepts, and what its arguments become.
 *
 * A literal takes the type of what it meets: beside an integer a whole literal is that integer, beside a float any
 * literal is that float, and a literal of type f32 (the default) yields to every other. What is no literal keeps its
 * type, or gets a visible conversion: an integer beside a float becomes that float, f32 beside f64 becomes f64.
 * i32 beside u32, and bool beside any number, are mistakes.
 *
 * A literal's value is not rounded to its type: f32 0.1 is the double 0.1, and a device rounds it when it prints it.
 */
import { Diagnostic } from "../../contract/diagnostic.ts";
import type { ScalarType } from "../../contract/dtype.ts";
import { literal, typedCall } from "./expression.ts";
import type { Expression, Literal } from "./expression.ts";

/** Arguments after literal typing and conversion, and the type of the result. */
export interface Typed {
  readonly args: readonly Expression[];
  readonly type: ScalarType;
}

/** The type rule of a function; throws a `Diagnostic` of kind `formula`. */
export type Signature = (name: string, args: readonly Expression[]) => Typed;

/** Numbers of one type, which is the result's. */
export const numeric: Signature = (name, args) => {
  const type = commonType(name, args);
  return { args: args.map((arg) => coerce(name, arg, type)), type };
};

/** Floats of one type, which is the result's; integers become f32. */
export const floating: Signature = (name, args) => {
  const common = commonType(name, args);
  const type = isInteger(common) ? "f32" : common;
  return { args: args.map((arg) => coerce(name, arg, type)), type };
};

/** As `floating`, but two integers are a mistake: whether their quotient is whole would be a guess. */
export const dividing: Signature = (name, args) => {
  if (isInteger(commonType(name, args))) {
    throw mistake(
      "`/` divides floats, and both sides are integers",
      "write a // b for the whole quotient, or f32(a) / b",
    );
  }
  return floating(name, args);
};

/** Integers of one type, which is the result's. */
export const integral: Signature = (name, args) => {
  const whole = args.every((arg) => arg.kind === "literal" && arg.type === "f32" && Number.isInteger(arg.value));
  const type = whole ? "i32" : commonType(name, args);
  if (!isInteger(type)) {
    throw mistake(`\`${name}\` wants integers, and got ${listTypes(args)}`, "convert with i32(…) or u32(…)");
  }
  return { args: args.map((arg) => coerce(name, arg, type)), type };
};

/** Numbers of one type, to a bool. */
export const comparing: Signature = (name, args) => ({ args: numeric(name, args).args, type: "bool" });

/** Numbers of one type or bools, to a bool. */
export const equating: Signature = (name, args) =>
  args.every((arg) => arg.type === "bool") ? { args, type: "bool" } : comparing(name, args);

/** A float, to a bool. */
export const testing: Signature = (name, args) => ({ args: floating(name, args).args, type: "bool" });

export const logical: Signature = (name, args) => {
  const wrong = args.findIndex((arg) => arg.type !== "bool");
  if (wrong >= 0) {
    throw mistake(`argument ${wrong + 1} of \`${name}\` is ${typeName(args[wrong]!)}, and wants a bool`, COMPARE);
  }
  return { args, type: "bool" };
};

/** A bool, then two numbers of one type or two bools. */
export const choosing: Signature = (name, args) => {
  const [condition, ...arms] = args as [Expression, Expression, Expression];
  if (condition.type !== "bool") {
    throw mistake(`the condition of \`${name}\` is ${typeName(condition)}, and wants a bool`, COMPARE);
  }
  const typed = arms.every((arm) => arm.type === "bool") ? { args: arms, type: "bool" as const } : numeric(name, arms);
  return { args: [condition, ...typed.args], type: typed.type };
};

/** Any one value, to `type`. */
export const converting =
  (type: ScalarType): Signature =>
  (_name, args) => ({ args, type });

/** One float brought into an f32 register, where it stays. */
export const rounding: Signature = (name, args) => ({
  args: floating(name, args).args.map((arg) => coerce(name, arg, "f32")),
  type: "f32",
});

/** Integers, each of its own type (a literal is u32 where it can be), to an f32. */
export const drawing: Signature = (name, args) => ({
  args: args.map((arg, i) => {
    if (arg.kind === "literal" && arg.type === "f32" && Number.isInteger(arg.value)) {
      return coerce(name, arg, arg.value < 0 ? "i32" : "u32");
    }
    if (isInteger(arg.type)) return arg;
    throw mistake(`argument ${i + 1} of \`${name}\` is ${typeName(arg)}, and wants an integer`, "convert with i32(…)");
  }),
  type: "f32",
});

export const isInteger = (type: ScalarType): boolean => type === "i32" || type === "u32";
export const isFloatType = (type: ScalarType): boolean => type === "f32" || type === "f64";

const COMPARE = "compare it with something, as in x != 0";

/** The numeric type all arguments can take under the rules at the head of this file. */
function commonType(name: string, args: readonly Expression[]): ScalarType {
  const wrong = args.findIndex((arg) => arg.type === "bool");
  if (wrong >= 0) {
    const fix = "turn a condition into a number with select(condition, 1, 0)";
    throw mistake(`argument ${wrong + 1} of \`${name}\` is a bool, and wants a number`, fix);
  }
  const literals = args.filter((arg) => arg.kind === "literal");
  const firm = args.filter((arg) => arg.kind !== "literal").map((arg) => arg.type);
  const deciding = firm.length > 0 ? firm : literals.map((arg) => arg.type).filter((type) => type !== "f32");
  if (deciding.includes("f64")) return "f64";
  if (deciding.length === 0 || deciding.includes("f32")) return "f32";
  if (deciding.includes("i32") && deciding.includes("u32")) {
    throw mistake(`\`${name}\` mixes i32 with u32`, "convert one side: i32(…) or u32(…)");
  }
  const fraction = literals.find((arg) => !Number.isInteger(arg.value));
  return fraction?.type ?? deciding[0]!;
}

function coerce(name: string, arg: Expression, type: ScalarType): Expression {
  if (arg.type === type) return arg;
  if (arg.kind !== "literal") return typedCall(type, [arg], type);
  if (isInteger(type) && !fits(arg.value, type)) {
    const range = type === "i32" ? "-2147483648 to 2147483647" : "0 to 4294967295";
    throw mistake(`${arg.value} does not fit the ${type} of \`${name}\` (${range})`, "convert the other side: f64(…)");
  }
  return retype(arg, type);
}

function fits(value: number, type: ScalarType): boolean {
  return type === "u32" ? value >= 0 && value < 2 ** 32 : value >= -(2 ** 31) && value < 2 ** 31;
}

/** Integers have no negative zero. */
const retype = (from: Literal, type: ScalarType): Expression =>
  literal(isInteger(type) ? from.value + 0 : from.value, type);

const typeName = (arg: Expression): string => (/^[if]/.test(arg.type) ? `an ${arg.type}` : `a ${arg.type}`);
const listTypes = (args: readonly Expression[]): string => args.map((arg) => arg.type).join(" and ");

export function mistake(message: string, fix: string): Diagnostic {
  return new Diagnostic({ kind: "formula", message, fix });
}
