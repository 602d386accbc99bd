/**
 * How scalar expressions are built: `call` checks types, converts arguments and folds constants; the small
 * constructors below it also drop neutral elements. The functions themselves are in `function-table.ts`.
 *
 * What `call` builds is in normal form: `call(e.name, e.args) === e`. Folding happens only where every device would
 * see the same ordinary number: a result that is infinite, NaN, or outside the range of its type stays a call.
 *
 * Zeros. `0 * x` is not 0 when x is infinite or NaN, so a product is never dropped here: a formula that says `0 * x`
 * keeps it. The zeros of differentiation are structural (the absence of a tangent), and derivative.ts drops those.
 * `x + 0`, `x - 0`, `x * 1` and `x / 1` written in a formula stay too; `add`, `sub`, `mul` and `div` called from
 * TypeScript simplify them, which can only change the sign of a zero.
 */
import type { ScalarType } from "../../contract/dtype.ts";
import { literal, typedCall } from "./expression.ts";
import type { Expression, Literal } from "./expression.ts";
import { functionNamed } from "./function-table.ts";
import type { ScalarFunction } from "./function-table.ts";
import { isFloatType, mistake } from "./typing.ts";
import type { Typed } from "./typing.ts";

export { FUNCTIONS, FUNCTION_NAMES, functionNamed, isFunctionName } from "./function-table.ts";
export type { FunctionName, ScalarFunction } from "./function-table.ts";

/**
 * The call of a scalar function: arguments converted by the rules of `typing.ts`, literals folded, whole powers from
 * -3 to 4 written as products. Throws a `Diagnostic` of kind `formula` for an unknown name or wrong arguments.
 */
export function call(name: string, args: readonly Expression[]): Expression {
  const record = functionNamed(name);
  const wanted = record.parameters.length;
  if (args.length !== wanted) {
    const count = `${wanted} argument${wanted === 1 ? "" : "s"}`;
    throw mistake(
      `\`${name}\` takes ${count}, and got ${args.length}`,
      `write ${name}(${record.parameters.join(", ")})`,
    );
  }
  const typed = record.signature(record.infix ?? name, args);
  if (name === "pow") return expandPower(args[0]!, args[1]!) ?? fold(name, record, typed);
  const isIdentity = name === typed.type && typed.args[0]!.type === typed.type;
  return isIdentity ? typed.args[0]! : fold(name, record, typed);
}

/** The number a call computes from the numbers of its arguments, in the reference's float64. */
export function evaluateCall(name: string, operand: ScalarType, values: readonly number[]): number {
  const [a = 0, b = 0, c = 0, d = 0] = values;
  return functionNamed(name).evaluate(operand)(a, b, c, d);
}

/** The expression with every variable replaced, rebuilt with `call`: replacing by a literal folds again. */
export function replaceVariables(
  expression: Expression,
  by: (name: string, type: ScalarType) => Expression,
  done = new Map<Expression, Expression>(),
): Expression {
  const known = done.get(expression);
  if (known !== undefined) return known;
  let result: Expression;
  if (expression.kind === "literal") result = expression;
  else if (expression.kind === "variable") result = by(expression.name, expression.type);
  else {
    const args = expression.args.map((arg) => replaceVariables(arg, by, done));
    result = args.every((arg, i) => arg === expression.args[i]) ? expression : call(expression.name, args);
  }
  done.set(expression, result);
  return result;
}

const isLiteral = (expression: Expression): expression is Literal => expression.kind === "literal";
const isNumber = (expression: Expression | undefined, value: number): boolean =>
  expression?.kind === "literal" && expression.value === value;

function fold(name: string, record: ScalarFunction, { args, type }: Typed): Expression {
  if (record.folds !== false && args.every(isLiteral)) {
    const values = args.map((arg) => arg.value);
    const value = evaluateCall(name, args[0]!.type, values);
    // A changed sign or type is exact, whatever the value; so `-inf` and `f64(nan)` are literals.
    if (name === "neg" || name === type || !isFloatType(type) || isOrdinary(value, type)) return literal(value, type);
  }
  return typedCall(name, args, type);
}

/** Zero, or a finite number that the type holds without losing digits to underflow. */
function isOrdinary(value: number, type: ScalarType): boolean {
  const magnitude = Math.abs(value);
  if (type === "f32") return magnitude === 0 || (magnitude >= 2 ** -126 && magnitude < 2 ** 127);
  return magnitude === 0 || (magnitude >= 2 ** -1022 && magnitude < Infinity);
}

/** x^3 is (x * x) * x, and x^-2 is 1 / (x * x); undefined for an exponent that is not -3, …, 4. */
function expandPower(base: Expression, exponent: Expression): Expression | undefined {
  if (!isLiteral(exponent) || !Number.isInteger(exponent.value)) return undefined;
  if (exponent.value < 0) {
    const inverse = expandPower(base, literal(-exponent.value, exponent.type));
    return exponent.value < -3 || inverse === undefined
      ? undefined
      : call("div", [literal(1, "f32"), toFloat(inverse)]);
  }
  const square = (): Expression => call("mul", [base, base]);
  const powers: readonly (() => Expression)[] = [
    () => literal(1, base.type),
    () => base,
    square,
    () => call("mul", [square(), base]),
    () => call("mul", [square(), square()]),
  ];
  return powers[exponent.value]?.();
}

const toFloat = (expression: Expression): Expression =>
  isFloatType(expression.type) ? expression : call("f32", [expression]);

/** The arguments of a call after typing; undefined when it was folded. */
const argsOf = (expression: Expression, name: string): readonly Expression[] =>
  expression.kind === "call" && expression.name === name ? expression.args : [];

/** a + b; x + 0 is x. */
export function add(a: Expression, b: Expression): Expression {
  const sum = call("add", [a, b]);
  const [left, right] = argsOf(sum, "add");
  if (isNumber(left, 0)) return right!;
  return isNumber(right, 0) ? left! : sum;
}

/** a - b; x - 0 is x, and 0 - x is -x. */
export function sub(a: Expression, b: Expression): Expression {
  const difference = call("sub", [a, b]);
  const [left, right] = argsOf(difference, "sub");
  if (isNumber(left, 0)) return neg(right!);
  return isNumber(right, 0) ? left! : difference;
}

/** a b; x * 1 is x, and x * -1 is -x. A factor 0 stays. */
export function mul(a: Expression, b: Expression): Expression {
  const product = call("mul", [a, b]);
  const [left, right] = argsOf(product, "mul");
  if (isNumber(left, 1)) return right!;
  if (isNumber(right, 1)) return left!;
  if (isNumber(left, -1)) return neg(right!);
  return isNumber(right, -1) ? neg(left!) : product;
}

/** a / b; x / 1 is x. */
export function div(a: Expression, b: Expression): Expression {
  const quotient = call("div", [a, b]);
  const [left, right] = argsOf(quotient, "div");
  return isNumber(right, 1) ? left! : quotient;
}

/** -a; -(-x) is x. */
export function neg(a: Expression): Expression {
  return argsOf(a, "neg")[0] ?? call("neg", [a]);
}

/** `condition ? a : b`; a literal condition chooses now, equal arms need none. */
export function select(condition: Expression, a: Expression, b: Expression): Expression {
  const choice = call("select", [condition, a, b]);
  const [test, left, right] = argsOf(choice, "select");
  if (test !== undefined && isLiteral(test)) return test.value !== 0 ? left! : right!;
  return left !== undefined && left === right ? left : choice;
}
