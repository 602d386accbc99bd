/** Whether a kernel is one: what `kernel.ts` promises, checked before any target prints it. */
import { CompilerBug } from "../../contract/diagnostic.ts";
import { symbolsOf, ZERO, type Dim } from "../graph/dim.ts";
import { variablesOf, type Expression } from "../notation/expression.ts";
import type { Access, Kernel, Reduction, Store } from "./kernel.ts";
import { ATTENTION_PARTS } from "./print.ts";
import { accumulatorTypes, commonTypes, reductionTypes, type Types } from "./scope.ts";

/** Throws a `CompilerBug` that names `pass`, the kernel and what is wrong with it. */
export function verifyKernel(kernel: Kernel, pass: string): void {
  const wrong = firstWrong(kernel);
  if (wrong !== undefined) throw new CompilerBug(pass, `kernel ${kernel.name} (${kernel.anchor}): ${wrong}`);
}

function firstWrong(kernel: Kernel): string | undefined {
  for (const wrong of problems(kernel)) return wrong;
  return undefined;
}

function* problems(kernel: Kernel): Generator<string> {
  const { name, operands, axes, accesses, symbols } = kernel;
  if (!/^[A-Za-z_]\w*$/.test(name)) yield "its name is no C identifier";
  if (new Set(operands.map((operand) => operand.name)).size !== operands.length) yield "two operands have one name";
  yield* symbolProblems(kernel, symbols);
  const outside = accesses.findIndex(({ operand }) => operands[operand] === undefined);
  if (outside >= 0) yield `a${String(outside)} reads no operand`;
  const types = commonTypes(kernel);
  for (const [i, access] of accesses.entries()) {
    if (access.strides.length !== axes.length) yield `a${String(i)} needs a stride for every axis`;
    for (const { index } of access.lookups) {
      yield* expressionProblems(kernel, index, types, `a lookup of a${String(i)}`);
      if (index.type !== "i32" && index.type !== "u32")
        yield `a lookup of a${String(i)} is ${index.type}, and no whole number`;
      if (readsFrom(index, i)) yield `a lookup of a${String(i)} reads an access that is not earlier`;
    }
    if (access.guard === undefined) continue;
    yield* expressionProblems(kernel, access.guard, types, `the guard of a${String(i)}`);
    if (access.guard.type !== "bool") yield `the guard of a${String(i)} is ${access.guard.type}`;
    if (readsFrom(access.guard, i)) yield `the guard of a${String(i)} reads an access that is not earlier`;
  }
  yield* bodyProblems(kernel, types);
}

function* symbolProblems(kernel: Kernel, symbols: readonly string[]): Generator<string> {
  if (symbols.some((symbol, i) => i > 0 && symbol <= symbols[i - 1]!)) yield "its symbols are not sorted";
  const { axes, accesses } = kernel;
  const dims: Dim[] = [
    ...axes.map((axis) => axis.size),
    ...accesses.flatMap(({ strides, lookups }) => [...strides, ...lookups.map((lookup) => lookup.stride)]),
    ...("mask" in kernel ? kernel.mask.segments.map((segment) => segment.extent) : []),
  ];
  const missing = dims.flatMap(symbolsOf).find((symbol) => !symbols.includes(symbol));
  if (missing !== undefined) yield `symbol ${missing} is not declared`;
}

function* expressionProblems(kernel: Kernel, expression: Expression, types: Types, what: string): Generator<string> {
  for (const { name, type } of variablesOf([expression])) {
    const known = types[name];
    if (known === undefined) yield `${what} uses ${name}, which has no value there`;
    else if (known !== type) yield `${what} takes ${name} for ${type}, and it is ${known}`;
    const access = /^a\d+$/.test(name) ? kernel.accesses[Number(name.slice(1))] : undefined;
    if (access !== undefined && kernel.operands[access.operand]?.role === "write")
      yield `${what} reads what is written`;
  }
}

/** Whether an expression uses access `from` or a later one. */
const readsFrom = (expression: Expression, from: number): boolean =>
  variablesOf([expression]).some(({ name }) => /^a\d+$/.test(name) && Number(name.slice(1)) >= from);

/** The axes along which an access does not stand still. */
const movingAxes = ({ strides }: Access): number[] =>
  strides.flatMap((stride, axis) => (stride === ZERO ? [] : [axis]));

function* storeProblems(kernel: Kernel, stores: readonly Store[], types: Types): Generator<string> {
  if (stores.length === 0) yield "it stores nothing";
  for (const { access, value } of stores) {
    const operand = kernel.operands[kernel.accesses[access]?.operand ?? -1];
    if (operand?.role !== "write") yield `a store through a${String(access)} writes what is only read`;
    yield* expressionProblems(kernel, value, types, `the store through a${String(access)}`);
  }
}

function* reductionProblems(kernel: Kernel, reductions: readonly Reduction[], types: Types): Generator<string> {
  for (const { value } of reductions) yield* expressionProblems(kernel, value, types, "a reduction");
}

/** Axes that stores must not vary over, because they are reduced. */
function* keptProblems(kernel: Kernel, stores: readonly Store[], isGone: (axis: number) => boolean): Generator<string> {
  for (const { access } of stores) {
    const moving = movingAxes(kernel.accesses[access]!).find(isGone);
    if (moving !== undefined)
      yield `the store through a${String(access)} moves along the reduced axis ${String(moving)}`;
  }
}

function* bodyProblems(kernel: Kernel, types: Types): Generator<string> {
  switch (kernel.anchor) {
    case "map":
      yield* storeProblems(kernel, kernel.stores, types);
      return;
    case "rows": {
      const { outer, stages, stores, perRow, axes } = kernel;
      if (outer < 0 || outer >= axes.length) yield "a row needs an axis of its own";
      if (stages.some((stage) => stage.length === 0)) yield "a stage reduces nothing";
      if (perRow.length !== stores.length) yield "every store is per row or not";
      let known = types;
      let count = 0;
      for (const stage of stages) {
        yield* reductionProblems(kernel, stage, known);
        known = { ...known, ...reductionTypes(stage, count) };
        count += stage.length;
      }
      yield* storeProblems(kernel, stores, known);
      const once = stores.filter((_, i) => perRow[i] === true);
      yield* keptProblems(kernel, once, (axis) => axis >= outer);
      return;
    }
    case "columns": {
      const { reduced, reductions, stores, axes } = kernel;
      if (reduced.length !== axes.length || reduced.at(-1) !== false || !reduced.includes(true)) {
        yield "some axes are reduced, and the last one is kept";
      }
      yield* reductionProblems(kernel, reductions, types);
      yield* storeProblems(kernel, stores, { ...types, ...reductionTypes(reductions) });
      yield* keptProblems(kernel, stores, (axis) => reduced[axis] === true);
      return;
    }
    case "contract": {
      const { roles, left, right, stores, axes } = kernel;
      if (roles.length !== axes.length) yield "every axis needs a role";
      for (const [side, factor, other] of [
        ["left", left, "n"],
        ["right", right, "m"],
      ] as const) {
        yield* expressionProblems(kernel, factor, types, side);
        for (const { name } of variablesOf([factor])) {
          const read = /^a\d+$/.test(name) ? movingAxes(kernel.accesses[Number(name.slice(1))]!) : [];
          const indexed = /^i\d+$/.test(name) ? [Number(name.slice(1))] : [];
          if ([...read, ...indexed].some((axis) => roles[axis] === other))
            yield `${side} varies over an axis of ${other}`;
        }
      }
      yield* storeProblems(kernel, stores, { ...types, ...accumulatorTypes(left, right) });
      yield* keptProblems(kernel, stores, (axis) => roles[axis] === "k");
      return;
    }
    case "attention":
    case "attentionGradient": {
      if (kernel.axes.length !== 5) yield "its axes are batch, heads, queries, keys, head";
      const written: ReadonlySet<string> = new Set(kernel.anchor === "attention" ? ["o", "lse"] : ["dq", "dk", "dv"]);
      const positions: ReadonlyMap<string, unknown> = new Map(Object.entries(kernel));
      for (const part of ATTENTION_PARTS[kernel.anchor]) {
        const access = kernel.accesses[Number(positions.get(part) ?? -1)];
        const role = kernel.operands[access?.operand ?? -1]?.role;
        if (role !== (written.has(part) ? "write" : "read"))
          yield `${part} is not ${written.has(part) ? "written" : "read"}`;
      }
      for (const { lengths } of kernel.mask.segments) {
        const operand = kernel.operands[kernel.accesses[lengths]?.operand ?? -1];
        if (operand?.dtype !== "i32" || operand.role !== "read") yield "lengths are i32";
      }
      return;
    }
    default:
      kernel satisfies never;
  }
}
