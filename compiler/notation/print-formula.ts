/**
 * Expressions as formulas: as few brackets as the grammar allows, and reading one back gives the same object.
 *
 * Literals. A bare number is f32, or what it meets; where that is not the literal's type it is written as a
 * conversion, which parsing folds away: `i32(3)`, `f64(0.1)`. Numbers are the shortest decimals that read back exactly.
 *
 * Sharing. An expression is a DAG, and a tree can be exponentially larger. Above `LARGE` nodes of tree, subexpressions
 * used more than once are bound first: `t1 = x * x; t1 * t1`.
 *
 * What is promised holds for expressions built by `call` (see functions.ts), as all of the compiler's are.
 */
import { Diagnostic } from "../../contract/diagnostic.ts";
import { literal, subexpressions } from "./expression.ts";
import type { Call, Expression, Literal } from "./expression.ts";
import { call, functionNamed } from "./functions.ts";
import { COMPARISONS, levelOf, POWER, PREFIX, spellingOf, VALUE } from "./precedence.ts";

/** Text and how tightly it holds together (a level of precedence.ts). */
interface Printed {
  readonly text: string;
  readonly level: number;
}

/** Tree nodes up to which a formula is one line without bindings. */
const LARGE = 120;

export function printFormula(expression: Expression): string {
  const order = subexpressions([expression]);
  const shared = sharedIn(order, expression);
  const taken = new Set(order.flatMap((each) => (each.kind === "variable" ? [each.name] : [])));
  const printed = new Map<Expression, Printed>();
  const bindings: string[] = [];
  for (const each of order) {
    const made = printOne(each, printed);
    if (!shared.has(each)) {
      printed.set(each, made);
      continue;
    }
    let number = bindings.length + 1;
    while (taken.has(`t${number}`)) number++;
    taken.add(`t${number}`);
    bindings.push(`t${number} = ${made.text}; `);
    printed.set(each, { text: `t${number}`, level: VALUE });
  }
  return bindings.join("") + printed.get(expression)!.text;
}

/** The calls worth a binding: used more than once, in an expression whose tree is large. */
function sharedIn(order: readonly Expression[], root: Expression): ReadonlySet<Expression> {
  const treeSize = new Map<Expression, number>();
  const uses = new Map<Expression, number>();
  for (const each of order) {
    let size = 1;
    for (const arg of each.kind === "call" ? each.args : []) {
      size += treeSize.get(arg)!;
      uses.set(arg, (uses.get(arg) ?? 0) + 1);
    }
    treeSize.set(each, size);
  }
  if (treeSize.get(root)! <= LARGE) return new Set();
  return new Set(order.filter((each) => each.kind === "call" && (uses.get(each) ?? 0) > 1));
}

function printOne(expression: Expression, printed: ReadonlyMap<Expression, Printed>): Printed {
  if (expression.kind === "variable") return { text: expression.name, level: VALUE };
  if (expression.kind === "literal") return printLiteral(expression);
  const { name } = expression;
  const bare = readsBare(expression);
  const args = expression.args.map((arg) => (arg.kind === "literal" && bare ? printNumber(arg) : printed.get(arg)!));
  const [first, second] = args as [Printed, Printed];
  if (name === "neg" || name === "not") return { text: spellingOf(name) + within(first, PREFIX), level: PREFIX };
  if (name === "pow") return { text: `${within(first, VALUE)}^${within(second, PREFIX)}`, level: POWER };
  const level = levelOf(name);
  if (level < 0) return { text: `${name}(${args.map(({ text }) => text).join(", ")})`, level: VALUE };
  const left = within(first, level === COMPARISONS ? level + 1 : level);
  return { text: `${left} ${functionNamed(name).infix} ${within(second, level + 1)}`, level };
}

const within = ({ text, level }: Printed, needed: number): string => (level >= needed ? text : `(${text})`);

/** Whether the call comes out the same when its literals are written as bare numbers. */
function readsBare(expression: Call): boolean {
  const bare = expression.args.map((arg) => (needsType(arg) ? literal(arg.value, "f32") : arg));
  try {
    return call(expression.name, bare) === expression;
  } catch (error) {
    if (error instanceof Diagnostic) return false;
    throw error;
  }
}

const needsType = (arg: Expression): arg is Literal =>
  arg.kind === "literal" && arg.type !== "f32" && arg.type !== "bool";

function printLiteral(number: Literal): Printed {
  if (!needsType(number)) return printNumber(number);
  return { text: `${number.type}(${printNumber(number).text})`, level: VALUE };
}

function printNumber({ value, type }: Literal): Printed {
  if (type === "bool") return { text: value === 0 ? "false" : "true", level: VALUE };
  const magnitude = Math.abs(value);
  const digits = magnitude === Infinity ? "inf" : magnitude === Math.PI ? "pi" : String(magnitude);
  if (Number.isNaN(value)) return { text: "nan", level: VALUE };
  const isNegative = value < 0 || Object.is(value, -0);
  return isNegative ? { text: `-${digits}`, level: PREFIX } : { text: digits, level: VALUE };
}
