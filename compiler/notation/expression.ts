/**
 * Scalar expressions: what one element of a pointwise operator, a prologue or an epilogue computes.
 *
 * Semantics
 *   - Values have one of five types: f64, f32, i32, u32, bool. Mixed floats widen (f32 with f64 is f64); an integer
 *     meeting a float becomes that float; a literal takes the type of what it meets. bool meets nothing but bool.
 *   - Floats follow IEEE 754: overflow is infinite, invalid is NaN, nothing traps. i32 and u32 wrap around.
 *   - `select(c, a, b)` evaluates both arms and keeps one: a NaN in the arm not taken does not show.
 *   - `min` and `max` give NaN when either side is NaN, as PyTorch's do; their gradient at a tie is shared in halves.
 *   - Evaluation has no side effects and no order; equal expressions are one object (`===`), so a shared
 *     subexpression is computed once.
 *
 * Every operator is a call of a function in `functions.ts`; the infix spelling belongs to the grammar alone.
 */
import type { ScalarType } from "../../contract/dtype.ts";

export type Expression = Variable | Literal | Call;

export interface Variable {
  readonly kind: "variable";
  readonly name: string;
  readonly type: ScalarType;
  readonly id: number;
}

export interface Literal {
  readonly kind: "literal";
  readonly value: number;
  readonly type: ScalarType;
  readonly id: number;
}

export interface Call {
  readonly kind: "call";
  /** A name in the table of `functions.ts`. */
  readonly name: string;
  readonly args: readonly Expression[];
  readonly type: ScalarType;
  readonly id: number;
}

const interned = new Map<string, Expression>();
let nextId = 0;

export function variable(name: string, type: ScalarType): Expression {
  return intern(`v:${name}:${type}`, (id) => ({ kind: "variable", name, type, id }));
}

export function literal(value: number, type: ScalarType): Expression {
  const spelled = Object.is(value, -0) ? "-0" : String(value);
  return intern(`l:${spelled}:${type}`, (id) => ({ kind: "literal", value, type, id }));
}

/** A call whose result type is already known; `functions.ts` has `call`, which derives it and checks the arguments. */
export function typedCall(name: string, args: readonly Expression[], type: ScalarType): Expression {
  const key = `c:${name}:${type}:${args.map((arg) => arg.id).join(",")}`;
  return intern(key, (id) => ({ kind: "call", name, args: Object.freeze([...args]), type, id }));
}

function intern(key: string, build: (id: number) => Expression): Expression {
  const known = interned.get(key);
  if (known !== undefined) return known;
  const made = Object.freeze(build(nextId++));
  interned.set(key, made);
  return made;
}

/** The expression with every variable replaced by what `by` gives for it (by default itself), shared parts once. */
export function substitute(
  expression: Expression,
  by: (variable: Variable) => Expression,
  done = new Map<Expression, Expression>(),
): Expression {
  const known = done.get(expression);
  if (known !== undefined) return known;
  let result: Expression;
  if (expression.kind === "variable") result = by(expression);
  else if (expression.kind === "literal") result = expression;
  else {
    const args = expression.args.map((arg) => substitute(arg, by, done));
    const same = args.every((arg, i) => arg === expression.args[i]);
    result = same ? expression : typedCall(expression.name, args, expression.type);
  }
  done.set(expression, result);
  return result;
}

/** Every distinct subexpression, arguments before their call. */
export function subexpressions(roots: readonly Expression[]): Expression[] {
  const seen = new Set<Expression>();
  const order: Expression[] = [];
  const visit = (expression: Expression): void => {
    if (seen.has(expression)) return;
    seen.add(expression);
    if (expression.kind === "call") expression.args.forEach(visit);
    order.push(expression);
  };
  roots.forEach(visit);
  return order;
}

export const variablesOf = (roots: readonly Expression[]): Variable[] =>
  subexpressions(roots).filter((expression) => expression.kind === "variable");
