/**
 * Formulas: `"0.5 * x * (1 + tanh(0.79788456 * (x + 0.044715 * x^3)))"` to a typed scalar expression and back.
 *
 * A number is a literal that takes the type of what it meets, and f32 where it meets nothing (`2` and `2.0` are the
 * same); `i32(2)` spells another type. `inf`, `nan`, `pi`, `true` and `false` are constants. `^` is power; bits have
 * functions. `//` and `%` are the integers' floor division and its rest. `t = x * x; t + t` names a part.
 */
import { Diagnostic, didYouMean } from "../../contract/diagnostic.ts";
import type { Location } from "../../contract/diagnostic.ts";
import type { ScalarType } from "../../contract/dtype.ts";
import { literal, variable } from "./expression.ts";
import type { Expression } from "./expression.ts";
import { parseSyntax } from "./formula-grammar.ts";
import type { Syntax } from "./formula-grammar.ts";
import { call, FUNCTION_NAMES, isFunctionName } from "./functions.ts";
import { CONSTANTS } from "./precedence.ts";
import { slip } from "./slip.ts";
import type { Source } from "./slip.ts";

export { printFormula } from "./print-formula.ts";

const parsed = new Map<string, Expression>();

/**
 * The expression of a formula over variables of the given types. `where` is the place of the formula in the user's
 * file. Throws a `Diagnostic` of kind `formula` that quotes the text with a caret under the mistake.
 */
export function parseFormula(text: string, types: Readonly<Record<string, ScalarType>>, where?: Location): Expression {
  const key = JSON.stringify([text, Object.entries(types).sort(([a], [b]) => (a < b ? -1 : 1))]);
  const known = parsed.get(key);
  if (known !== undefined) return known;
  const source: Source = { kind: "formula", text, where };
  const scope = new Map<string, Expression>();
  for (const [name, type] of Object.entries(types)) {
    if (Object.hasOwn(CONSTANTS, name)) throw reserved(source, name);
    scope.set(name, variable(name, type));
  }
  const syntax = parseSyntax(source);
  for (const { name, value, offset } of syntax.bindings) {
    if (Object.hasOwn(CONSTANTS, name)) throw slip(source, offset, `\`${name}\` is a constant`, "choose another name");
    if (scope.has(name)) throw slip(source, offset, `\`${name}\` has a value already`, "choose another name");
    scope.set(name, elaborate(value, scope, source));
  }
  const expression = elaborate(syntax.value, scope, source);
  parsed.set(key, expression);
  return expression;
}

function elaborate(syntax: Syntax, scope: ReadonlyMap<string, Expression>, source: Source): Expression {
  switch (syntax.kind) {
    case "number":
      return literal(Number(syntax.image), "f32");
    case "name": {
      const constant = Object.hasOwn(CONSTANTS, syntax.name) ? CONSTANTS[syntax.name] : undefined;
      if (constant !== undefined) return literal(constant.value, constant.type);
      const found = scope.get(syntax.name);
      if (found === undefined) throw unknownName(syntax.name, syntax.offset, scope, source);
      return found;
    }
    case "apply": {
      if (scope.has(syntax.name) && !isFunctionName(syntax.name)) {
        const fix = "a product needs its `*`";
        throw slip(source, syntax.offset, `\`${syntax.name}\` is a value, and no function`, fix);
      }
      const args = syntax.args.map((arg) => elaborate(arg, scope, source));
      try {
        return call(syntax.name, args);
      } catch (error) {
        if (!(error instanceof Diagnostic)) throw error;
        throw slip(source, syntax.offset, error.parts.message, error.parts.fix);
      }
    }
    default:
      return syntax satisfies never;
  }
}

function unknownName(name: string, offset: number, scope: ReadonlyMap<string, Expression>, source: Source): Diagnostic {
  if (isFunctionName(name)) return slip(source, offset, `\`${name}\` is a function`, `give it arguments: ${name}(…)`);
  const names = [...scope.keys()];
  // Of two letters, any other two are a near miss: then all names are the better help.
  const near = name.length > 2 ? didYouMean(name, [...names, ...Object.keys(CONSTANTS), ...FUNCTION_NAMES]) : undefined;
  const list = names.length === 0 ? "this formula has no variables" : `the variables are ${names.join(", ")}`;
  return slip(
    source,
    offset,
    `there is no variable \`${name}\``,
    near === undefined ? list : `did you mean \`${near}\`?`,
  );
}

function reserved(source: Source, name: string): Diagnostic {
  const message = `\`${name}\` is a constant of formulas and cannot name a variable`;
  return new Diagnostic({ kind: "formula", message, where: source.where, fix: "choose another name" });
}
