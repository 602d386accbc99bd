/**
 * Symbolic derivatives, forward: each node's tangent follows from its arguments' by the formula in its record.
 *
 * A tangent is an expression or `undefined`, the structural zero: it is never multiplied, so differentiation creates
 * no `0 * inf`. The work and the size of the result are linear in the number of distinct subexpressions.
 */
import { Diagnostic } from "../../contract/diagnostic.ts";
import type { ScalarType } from "../../contract/dtype.ts";
import { literal, subexpressions } from "./expression.ts";
import type { Call, Expression } from "./expression.ts";
import { parseFormula } from "./formula.ts";
import { add, call, div, functionNamed, mul, neg, select, sub } from "./functions.ts";
import { isFloatType } from "./typing.ts";

/** An expression, or the structural zero. */
type Tangent = Expression | undefined;

/**
 * The derivative of a float expression by one of its variables, times `seed`; `undefined` when it is zero everywhere.
 *
 * With the result's gradient as the seed this is the variable's gradient, and the seed then sits inside the arms of
 * every `select`. Prefer it to a multiplication afterwards, which would meet infinite gradients with the zeros of the
 * arms not taken. The seed (1 by default) is converted to the variable's type.
 */
export function derivative(expression: Expression, variableName: string, seed?: Expression): Expression | undefined {
  if (!isFloatType(expression.type)) {
    const message = `only a float has a derivative, and this formula gives ${expression.type}`;
    throw new Diagnostic({ kind: "formula", message, fix: "convert the result: f32(…)" });
  }
  const tangents = new Map<Expression, Tangent>();
  for (const each of subexpressions([expression])) {
    if (each.kind === "call") tangents.set(each, tangentOf(each, tangents));
    else if (each.kind === "variable" && each.name === variableName && isFloatType(each.type)) {
      tangents.set(each, seed === undefined ? literal(1, each.type) : call(each.type, [seed]));
    }
  }
  return tangents.get(expression);
}

function tangentOf(expression: Call, tangents: ReadonlyMap<Expression, Tangent>): Tangent {
  const { parameters, tangent } = functionNamed(expression.name);
  const incoming = expression.args.map((arg) => tangents.get(arg));
  if (tangent === undefined || incoming.every((each) => each === undefined)) return undefined;
  const types: Record<string, ScalarType> = { y: expression.type };
  const values = new Map<string, Tangent>([["y", expression]]);
  parameters.forEach((parameter, i) => {
    const arg = expression.args[i]!;
    types[parameter] = types[`d${parameter}`] = arg.type;
    values.set(parameter, arg).set(`d${parameter}`, incoming[i]);
  });
  const rule = parseFormula(tangent, types);
  const done = new Map<Expression, Tangent>();
  for (const each of subexpressions([rule])) {
    if (each.kind === "literal") done.set(each, each);
    else if (each.kind === "variable") done.set(each, values.get(each.name));
    else
      done.set(
        each,
        withoutZeros(
          each,
          each.args.map((arg) => done.get(arg)),
        ),
      );
  }
  const result = done.get(rule);
  return isZero(result) ? undefined : result;
}

/** A call of a rule with its arguments filled in, some of which may be the structural zero. */
function withoutZeros(expression: Call, args: readonly Tangent[]): Tangent {
  const build = SIMPLIFYING[expression.name];
  if (build !== undefined) return build(args[0], args[1], args[2]);
  if (args.some((arg) => arg === undefined)) return undefined;
  return call(expression.name, args as readonly Expression[]);
}

/** How the structural zero passes the operations that rules apply to tangents; `and` is for their conditions. */
const SIMPLIFYING: Readonly<Record<string, (a: Tangent, b: Tangent, c: Tangent) => Tangent>> = {
  and: (a, b) => (isZero(a) || isZero(b) ? literal(0, "bool") : call("and", [a!, b!])),
  // d(x x) = x dx + x dx = 2 x dx
  add: (a, b) => (a === undefined ? b : b === undefined ? a : a === b ? mul(literal(2, a.type), a) : add(a, b)),
  sub: (a, b) => (b === undefined ? a : a === undefined ? neg(b) : sub(a, b)),
  mul: (a, b) => (a === undefined || b === undefined ? undefined : mul(a, b)),
  div: (a, b) => (a === undefined || b === undefined ? undefined : div(a, b)),
  neg: (a) => (a === undefined ? undefined : neg(a)),
  select: (condition, a, b) => {
    if (condition === undefined || (isZero(a) && isZero(b))) return undefined;
    const type = (isZero(a) ? b : a)!.type;
    return select(condition, a ?? literal(0, type), b ?? literal(0, type));
  },
};

const isZero = (tangent: Tangent): boolean =>
  tangent === undefined || (tangent.kind === "literal" && tangent.value === 0);
