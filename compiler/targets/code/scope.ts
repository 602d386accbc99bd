/**
 * Statements: from expressions and accesses to straight-line C++ in nested scopes (task, row, element …).
 *
 * A scope is one place in the loop nest. It knows which axes and values are bound there; a value is computed in the
 * outermost scope that binds everything it depends on, so what does not change in a loop stands before it. Within a
 * scope every shared subexpression is one named constant.
 */
import { CompilerBug } from "../../../contract/diagnostic.ts";
import type { DType, ScalarType } from "../../../contract/dtype.ts";
import { registerOf } from "../../../contract/dtype.ts";
import { staticValue } from "../../graph/dim.ts";
import type { Access, Store } from "../../kernels/kernel.ts";
import type { Expression } from "../../notation/expression.ts";
import type { Frame } from "./context.ts";
import { offsetTerms, scaledText } from "./context.ts";
import type { Text } from "./print.ts";
import { BINDS, convert, primary, printCall, printLiteral, REGISTER_TYPES, within } from "./print.ts";

export interface Scope {
  readonly frame: Frame;
  readonly parent: Scope | undefined;
  readonly depth: number;
  /** Axis number -> C++ text of its 64-bit index. */
  readonly axes: ReadonlyMap<number, string>;
  /** Other variables bound here: `r0`, `acc`, `linear` -> C++ text. */
  readonly variables: ReadonlyMap<string, string>;
  /** Statements so far, in order. */
  readonly lines: string[];
  readonly known: Map<Expression, Text>;
  readonly loads: Map<number, Text>;
  /** Access number -> pointer that includes all of its offset that is settled here. */
  readonly pointers: Map<number, string>;
  /** The depth of the innermost scope an expression depends on; infinite when it is not all bound here. */
  readonly depths: Map<Expression, number>;
}

export interface Bindings {
  readonly axes?: ReadonlyMap<number, string>;
  readonly variables?: ReadonlyMap<string, string>;
}

/** A scope inside `parent`; the outermost one binds the scalar arguments. */
export function openScope(frame: Frame, parent: Scope | undefined, bindings: Bindings = {}): Scope {
  const scalars = new Map(parent === undefined ? frame.kernel.scalars.map((_, i) => [`s${i}`, `s${i}`]) : []);
  return {
    frame,
    parent,
    depth: parent === undefined ? 0 : parent.depth + 1,
    axes: bindings.axes ?? new Map<number, string>(),
    variables: new Map([...scalars, ...(bindings.variables ?? [])]),
    lines: [],
    known: new Map(),
    loads: new Map(),
    pointers: new Map(),
    depths: new Map(),
  };
}

/** The statements so far, which the scope forgets: what stands before a loop, then before the next one. */
export const takeLines = (scope: Scope): string[] => scope.lines.splice(0);

/** C++ texts for the values of `roots`; what they need is appended to the scope and to those around it. */
export function emitValues(scope: Scope, roots: readonly Expression[]): Text[] {
  const uses = countUses(roots);
  return roots.map((root) => emit(scope, root, uses));
}

/** Computes all values, then stores them: within an iteration all reads come before all stores. */
export function emitStores(scope: Scope, stores: readonly Store[]): void {
  scope.lines.push(...storeStatements(scope, stores));
}

/** Computes what is to be stored and gives the statements that store it, for where they do no harm to later reads. */
export function storeStatements(scope: Scope, stores: readonly Store[]): string[] {
  const values = storedValues(scope, stores);
  return stores.map((store, i) => `${placeOf(scope, store.access)} = ${values[i]!.text.text};`);
}

/** Computes what is to be stored, as the register type that is assigned to the element. */
export function storedValues(scope: Scope, stores: readonly Store[]): { text: Text; type: ScalarType }[] {
  const { kernel } = scope.frame;
  const types = stores.map((store) => kernel.operands[accessAt(scope, store.access).operand]!.dtype);
  const roots = stores.map((store, i) => unrounded(store.value, types[i]!));
  const values = emitValues(scope, roots);
  return types.map((dtype, i) => {
    const from = roots[i]!.type;
    const to = registerOf(dtype);
    // bf16 and f16 round a double themselves, once.
    const once = from === "f64" && to === "f32" && dtype !== "f32";
    return once ? { text: values[i]!, type: from } : { text: convert(values[i]!, from, to), type: to };
  });
}

/** What is rounded to the type that it is stored as anyway. */
const unrounded = (value: Expression, dtype: DType): Expression =>
  value.kind === "call" && value.name === dtype && value.args[0]!.type === "f32" ? value.args[0]! : value;

function countUses(roots: readonly Expression[]): Map<Expression, number> {
  const uses = new Map<Expression, number>();
  const visit = (expression: Expression): void => {
    const before = uses.get(expression) ?? 0;
    uses.set(expression, before + 1);
    if (before === 0 && expression.kind === "call") expression.args.forEach(visit);
  };
  roots.forEach(visit);
  return uses;
}

const LONG = 72;

function emit(scope: Scope, expression: Expression, uses: ReadonlyMap<Expression, number>): Text {
  if (expression.kind === "literal") return printLiteral(expression.value, expression.type);
  if (expression.kind === "variable") return variableText(scope, expression.name, expression.type);
  const home = scopeAt(scope, depthOf(scope, expression));
  const known = home.known.get(expression);
  if (known !== undefined) return known;
  const wide = expression.name === "uniform" || expression.name === "normal";
  const args = expression.args.map((arg, i) =>
    wide && i === 3 ? primary(wideText(scope, arg)) : emit(home, arg, uses),
  );
  const types = expression.args.map((arg) => arg.type);
  const name = dividesByNumber(expression) ? "quotient" : expression.name;
  const text = printCall(name, args, types, expression.type);
  const inline = home === scope && (uses.get(expression) ?? 1) <= 1 && text.text.length <= LONG;
  if (inline) return text;
  const variable = home.frame.fresh("v");
  home.lines.push(`const ${REGISTER_TYPES[expression.type]} ${variable} = ${text.text};`);
  home.known.set(expression, primary(variable));
  return primary(variable);
}

/** Such a division takes a target a few multiplications, since the reciprocal is known. */
const dividesByNumber = (expression: Expression): boolean =>
  expression.kind === "call" &&
  expression.name === "div" &&
  expression.type === "f32" &&
  expression.args[1]?.kind === "literal";

const scopeAt = (scope: Scope, depth: number): Scope =>
  scope.depth <= depth || scope.parent === undefined ? scope : scopeAt(scope.parent, depth);

/** The depth of the innermost scope that a value depends on; infinite when something it needs is not bound here. */
function depthOf(scope: Scope, expression: Expression): number {
  const known = scope.depths.get(expression);
  if (known !== undefined) return known;
  let depth = 0;
  if (expression.kind === "variable") depth = variableDepth(scope, expression.name);
  else if (expression.kind === "call") depth = Math.max(0, ...expression.args.map((arg) => depthOf(scope, arg)));
  scope.depths.set(expression, depth);
  return depth;
}

function variableDepth(scope: Scope, name: string): number {
  const access = /^a(\d+)$/.exec(name);
  if (access !== null) return accessDepth(scope, Number(access[1]));
  const axis = /^i(\d+)$/.exec(name);
  if (axis !== null) return axisDepth(scope, Number(axis[1]));
  for (let at: Scope | undefined = scope; at !== undefined; at = at.parent) {
    if (at.variables.has(name)) return at.depth;
  }
  return Infinity;
}

function axisDepth(scope: Scope, axis: number): number {
  for (let at: Scope | undefined = scope; at !== undefined; at = at.parent) if (at.axes.has(axis)) return at.depth;
  return Infinity;
}

/** The depth of the innermost scope that the value read through an access depends on. */
export function accessDepth(scope: Scope, position: number): number {
  const access = accessAt(scope, position);
  const strides = access.strides.map((stride, axis) => (staticValue(stride) === 0 ? 0 : axisDepth(scope, axis)));
  const lookups = access.lookups.map((lookup) => depthOf(scope, lookup.index));
  return Math.max(0, ...strides, ...lookups, access.guard === undefined ? 0 : depthOf(scope, access.guard));
}

function accessAt(scope: Scope, position: number): Access {
  const access = scope.frame.kernel.accesses[position];
  if (access === undefined) throw new CompilerBug("targets", `kernel ${scope.frame.kernel.name} has no a${position}`);
  return access;
}

function variableText(scope: Scope, name: string, type: ScalarType): Text {
  const access = /^a(\d+)$/.exec(name);
  if (access !== null) return load(scope, Number(access[1]));
  const wide = wideVariable(scope, name);
  if (wide !== undefined) return primary(`${REGISTER_TYPES[type]}(${wide})`);
  for (let at: Scope | undefined = scope; at !== undefined; at = at.parent) {
    const text = at.variables.get(name);
    if (text !== undefined) return primary(text);
  }
  throw new CompilerBug("targets", `${name} has no value where kernel ${scope.frame.kernel.name} needs it`);
}

/** The 64-bit text of an index variable; undefined for any other. */
function wideVariable(scope: Scope, name: string): string | undefined {
  const axis = /^i(\d+)$/.exec(name);
  for (let at: Scope | undefined = scope; at !== undefined; at = at.parent) {
    const text =
      axis === null ? (name === "linear" ? at.variables.get(name) : undefined) : at.axes.get(Number(axis[1]));
    if (text !== undefined) return text;
  }
  return undefined;
}

/** A value as a 64-bit offset: arithmetic on loop indices is done in 64 bits, everything else is widened at the end. */
function wideText(scope: Scope, expression: Expression): string {
  if (expression.kind === "literal") return String(expression.value);
  return wide(scope, expression)?.text ?? `int64_t(${emitValues(scope, [expression])[0]!.text})`;
}

const WIDE_OPERATORS: Readonly<Record<string, readonly [operator: string, binds: number]>> = {
  add: ["+", BINDS.add],
  sub: ["-", BINDS.add],
  mul: ["*", BINDS.multiply],
};

function wide(scope: Scope, expression: Expression): Text | undefined {
  if (expression.kind === "variable") {
    const text = wideVariable(scope, expression.name);
    return text === undefined ? undefined : { text, binds: /^\w+$/.test(text) ? BINDS.primary : BINDS.add };
  }
  if (expression.kind === "literal") return undefined;
  const operator = WIDE_OPERATORS[expression.name];
  if (operator === undefined) return undefined;
  const args = expression.args.map((arg) => wide(scope, arg));
  if (args.every((arg) => arg === undefined)) return undefined;
  const [a, b] = expression.args.map((arg, i) => args[i] ?? primary(wideText(scope, arg)));
  return { text: `${within(a!, operator[1])} ${operator[0]} ${within(b!, operator[1] + 1)}`, binds: operator[1] };
}

/** The value an access reads, loaded in the outermost scope where its place is settled. */
function load(scope: Scope, position: number): Text {
  const home = scopeAt(scope, accessDepth(scope, position));
  const known = home.loads.get(position);
  if (known !== undefined) return known;
  const access = accessAt(scope, position);
  const operand = scope.frame.kernel.operands[access.operand]!;
  const type = REGISTER_TYPES[registerOf(operand.dtype)];
  const guard = access.guard === undefined ? undefined : emitValues(home, [access.guard])[0]!;
  const place = placeOf(home, position);
  const name = scope.frame.fresh(`${scope.frame.operands[access.operand] ?? "a"}_value`);
  const value = guard === undefined ? place : `${within(guard, BINDS.select + 1)} ? ${type}(${place}) : ${type}(0)`;
  home.lines.push(`const ${type} ${name} = ${value};`);
  home.loads.set(position, primary(name));
  return primary(name);
}

/**
 * The element an access reads or writes, as C++: `x_row[i_hidden]`. Everything settled outside the current loop is
 * part of the pointer, which the enclosing scope declares.
 */
export function placeOf(scope: Scope, position: number): string {
  const access = accessAt(scope, position);
  const base = scope.parent === undefined ? operandName(scope, access) : pointerTo(scope.parent, position);
  const terms = ownTerms(scope, access);
  return `${base}[${terms.length === 0 ? "0" : terms.join(" + ")}]`;
}

const operandName = (scope: Scope, access: Access): string => scope.frame.operands[access.operand] ?? "";

/** A pointer that includes every term of the offset settled in this scope or around it; a guard is not consulted. */
export function pointerTo(scope: Scope, position: number): string {
  const known = scope.pointers.get(position);
  if (known !== undefined) return known;
  const access = accessAt(scope, position);
  const base = scope.parent === undefined ? operandName(scope, access) : pointerTo(scope.parent, position);
  const terms = ownTerms(scope, access);
  let name = base;
  if (terms.length > 0) {
    name = scope.frame.fresh(`${operandName(scope, access)}_at`);
    scope.lines.push(`const auto ${name} = ${base} + ${terms.join(" + ")};`);
  }
  scope.pointers.set(position, name);
  return name;
}

/** The terms of an offset that this scope settles: its axes, and the lookups that depend on it and no deeper scope. */
function ownTerms(scope: Scope, access: Access): string[] {
  const lookups = access.lookups.filter((lookup) => depthOf(scope, lookup.index) === scope.depth);
  return [
    ...offsetTerms(scope.frame, access, scope.axes),
    ...lookups.map((lookup) => scaledText(scope.frame, wideText(scope, lookup.index), lookup.stride)),
  ];
}
