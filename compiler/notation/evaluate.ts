/**
 * Fast evaluation for the reference interpreter: the expressions become one JavaScript function, each distinct
 * subexpression computed once. Operators of floats become JavaScript's own; all else calls the function table.
 */
import { CompilerBug } from "../../contract/diagnostic.ts";
import type { Evaluate } from "./arithmetic.ts";
import { subexpressions } from "./expression.ts";
import type { Call, Expression } from "./expression.ts";
import { functionNamed } from "./functions.ts";
import { isFloatType } from "./typing.ts";

export type Evaluator = (values: ArrayLike<number>, results: Float64Array) => void;

/**
 * A function that reads one number for each of `variableNames` and writes one for each expression. Agrees with
 * `evaluateCall` applied from the leaves up: float64 for floats, wrapped i32 and u32, 0 and 1 for bools.
 */
export function compileEvaluator(expressions: readonly Expression[], variableNames: readonly string[]): Evaluator {
  const functions: Evaluate[] = [];
  const spelled = new Map<Expression, string>();
  const lines: string[] = [];
  for (const each of subexpressions(expressions)) {
    if (each.kind === "literal") {
      spelled.set(each, Object.is(each.value, -0) ? "-0" : each.value < 0 ? `(${each.value})` : String(each.value));
      continue;
    }
    spelled.set(each, `v${each.id}`);
    if (each.kind === "variable") {
      const position = variableNames.indexOf(each.name);
      if (position < 0) throw new CompilerBug("evaluate", `there is no value for the variable ${each.name}`);
      lines.push(`const v${each.id} = values[${position}];`);
    } else {
      const args = each.args.map((arg) => spelled.get(arg)!);
      lines.push(`const v${each.id} = ${spellOperator(each, args) ?? spellCall(each, args, functions)};`);
    }
  }
  expressions.forEach((expression, i) => lines.push(`results[${i}] = ${spelled.get(expression)!};`));
  const names = functions.map((_, i) => `f${i}`);
  const source = `${names.length === 0 ? "" : `const [${names.join(", ")}] = functions;\n`}return (values, results) => {\n${lines.join("\n")}\n};`;
  // Names and numbers in the source are ours alone: a variable's own name never enters it.
  // eslint-disable-next-line @typescript-eslint/no-implied-eval
  const build = new Function("functions", source) as (functions: readonly Evaluate[]) => Evaluator;
  return build(functions);
}

const ARITHMETIC: ReadonlySet<string> = new Set(["add", "sub", "mul", "div"]);
const COMPARISON: ReadonlySet<string> = new Set(["lt", "le", "gt", "ge", "eq", "ne"]);

/** The call as a JavaScript operator, where that computes just what the table does. */
function spellOperator({ name, args: expressions, type }: Call, args: readonly string[]): string | undefined {
  const [a, b, c] = args;
  if (name === "select") return `${a} !== 0 ? ${b} : ${c}`;
  if (COMPARISON.has(name)) return `${a} ${functionNamed(name).infix} ${b} ? 1 : 0`;
  if (!isFloatType(type)) return undefined;
  if (ARITHMETIC.has(name)) return `${a} ${functionNamed(name).infix} ${b}`;
  if (name === "neg") return `-${a}`;
  return (name === "f32" || name === "f64") && expressions.length === 1 ? a : undefined;
}

function spellCall(expression: Call, args: readonly string[], functions: Evaluate[]): string {
  functions.push(functionNamed(expression.name).evaluate(expression.args[0]!.type));
  return `f${functions.length - 1}(${args.join(", ")})`;
}
