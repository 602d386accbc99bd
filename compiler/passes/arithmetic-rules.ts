/** Rules about values: casts, reductions of what is spread, and the zeros and ones that differentiation leaves. */
import { isFloat, type DType } from "../../contract/dtype.ts";
import { multiply, ONE, type Dim } from "../graph/dim.ts";
import type { Edge } from "../graph/node.ts";
import { axisNamed, hasEveryAxis, sameShape, type Shape } from "../graph/shape.ts";
import { literal, variablesOf, type Expression, type Variable } from "../notation/expression.ts";
import * as scalar from "../notation/functions.ts";
import { expand, isZeros, zerosLike } from "../ops/layout.ts";
import { cast, formula, pointwise } from "../ops/pointwise.ts";
import { reduce } from "../ops/reduce.ts";
import { size } from "../ops/source.ts";
import { madeBy, rule, type Rule } from "./rewrite.ts";

/** The types that hold every value of a type exactly. */
const HOLDS: Readonly<Record<DType, readonly DType[]>> = {
  f64: [],
  f32: ["f64"],
  bf16: ["f32", "f64"],
  f16: ["f32", "f64"],
  i32: ["f64"],
  u32: ["f64"],
  u8: ["f64", "f32", "bf16", "f16", "i32", "u32"],
  bool: ["f64", "f32", "bf16", "f16", "i32", "u32", "u8"],
};

/** Between 32-bit integers a cast keeps bits, through a float it saturates: only the way back is the same. */
function isLossless(from: DType, through: DType, to: DType): boolean {
  if (!HOLDS[from].includes(through)) return false;
  return isFloat(to) || isFloat(from) || from === to || !isFloat(through) || from === "u8" || from === "bool";
}

const castOfCast = rule("castOfCast", "cast", {
  because: "two casts are one when the first loses nothing",
  match: ({ dtype }, [x]) => {
    const inner = madeBy("cast", x);
    if (inner === undefined || !isLossless(inner.x.dtype, inner.operation.dtype, dtype)) return undefined;
    return { x: inner.x, dtype };
  },
  build: ({ x, dtype }) => cast(x, dtype),
});

const stopGradientIsOver = rule("stopGradientIsOver", "stopGradient", {
  because: "once gradients are taken, nothing is left to stop",
  match: (_, [x]) => x,
  build: (x) => x,
});

const reduceOfReduce = rule("reduceOfReduce", "reduce", {
  because:
    "a sum of sums is one sum, and so for maxima and minima; where the inner one is read elsewhere, it is cheaper",
  match: ({ operation, axes }, [x], _, isShared) => {
    const inner = madeBy("reduce", x);
    if (x === undefined || inner?.operation.operation !== operation || isShared(x)) return undefined;
    return { operation, x: inner.x, axes: [...inner.operation.axes, ...axes] };
  },
  build: ({ operation, x, axes }) => reduce(operation, x, axes),
});

const COUNTED: ReadonlySet<DType> = new Set(["f32", "f64", "i32", "u32"]);

const reduceOfExpand = rule("reduceOfExpand", "reduce", {
  because: "n equal terms sum to n times one of them, and their maximum is that one",
  match: ({ operation, axes }, [spread], [result]) => {
    const inner = madeBy("expand", spread);
    if (inner === undefined || spread === undefined || result === undefined || !COUNTED.has(spread.dtype))
      return undefined;
    const fresh = axes.filter((name) => axisNamed(inner.x.shape, name) === undefined);
    if (fresh.length === 0) return undefined;
    const count = multiply(ONE, ...fresh.map((name) => axisNamed(spread.shape, name)?.size ?? ONE));
    const others = axes.filter((name) => !fresh.includes(name));
    return { operation, x: inner.x, others, count, shape: result.shape };
  },
  build: ({ operation, x, others, count, shape }) => {
    const one = reduce(operation, x, others);
    return expand(operation === "sum" ? times(one, count) : one, shape);
  },
});

/** n x; an extreme over no element at all is infinite, but no axis has size 0 where one is spread. */
const times = (x: Edge, count: Dim): Edge => (count === ONE ? x : formula("x * n", { x, n: size(count, x.dtype) }));

const pointwiseOfExpand = rule("pointwiseOfExpand", "pointwise", {
  because: "a formula spreads its inputs by the names of their axes; only one has to have them all",
  match: ({ expression }, inputs, [result]) => {
    if (result === undefined || !inputs.some((edge) => madeBy("expand", edge) !== undefined)) return undefined;
    const sources = inputs.map((edge) => madeBy("expand", edge)?.x ?? edge);
    const kept = keptWide(inputs, sources, result.shape);
    return kept === undefined ? undefined : { expression, inputs: kept, shape: result.shape };
  },
  build: ({ expression, inputs, shape }) => {
    const names = inputs.map((_, i) => `x${String(i)}`);
    return expand(pointwise(expression, names, inputs), shape);
  },
});

/** The narrowest inputs that still meet; undefined when that is what they are already. */
function keptWide(inputs: readonly Edge[], sources: readonly Edge[], shape: Shape): readonly Edge[] | undefined {
  const meets = (edges: readonly Edge[]): boolean =>
    edges.some((wide) => edges.every((edge) => hasEveryAxis(wide.shape, edge.shape)));
  if (meets(sources)) return sources;
  // Some input has to keep the axes that hold the others together.
  const wide = inputs.findIndex((edge) => sameShape(edge.shape, shape));
  const kept = sources.map((edge, i) => (i === wide ? (inputs[i] ?? edge) : edge));
  const changed = kept.some((edge, i) => edge !== inputs[i]);
  return wide >= 0 && changed && meets(kept) ? kept : undefined;
}

const zerosAndOnes = rule("zerosAndOnes", "pointwise", {
  because: "a term that is absent is not added, and a factor one is not multiplied by",
  match: ({ expression }, inputs, [result]) => {
    const numbers = inputs.map(knownNumber);
    if (result === undefined || numbers.every((number) => number === undefined)) return undefined;
    const used = new Set(variablesOf([expression]).map((each) => each.name));
    if (numbers.every((number, i) => number === undefined || !used.has(`x${String(i)}`))) return undefined;
    const simpler = withNumbers(expression, numbers);
    return simpler !== undefined && simpler.type !== expression.type
      ? undefined
      : { expression: simpler, inputs, result };
  },
  build: ({ expression, inputs, result }) => {
    if (expression === undefined) return zerosLike(result);
    const names = inputs.map((_, i) => `x${String(i)}`);
    return expand(pointwise(expression, names, inputs), result.shape);
  },
});

/** What an input is known to be everywhere: the zero of differentiation, or a scalar one. */
function knownNumber(edge: Edge): "zero" | "one" | undefined {
  const source = madeBy("expand", edge)?.x ?? edge;
  if (isZeros(source)) return "zero";
  const { operation } = source.node;
  return operation.op === "constant" && operation.values.length === 1 && operation.values[0] === 1 ? "one" : undefined;
}

/** The expression without absent terms; undefined when nothing is left of it. */
function withNumbers(expression: Expression, numbers: readonly ("zero" | "one" | undefined)[]): Expression | undefined {
  const done = new Map<Expression, Expression | undefined>();
  const visit = (each: Expression): Expression | undefined => {
    if (!done.has(each)) done.set(each, simplified(each));
    return done.get(each);
  };
  const ofVariable = (each: Variable): Expression | undefined => {
    const number = numbers[Number(each.name.slice(1))];
    if (number === "one") return literal(1, each.type);
    return number === "zero" ? undefined : each;
  };
  const simplified = (each: Expression): Expression | undefined => {
    if (each.kind === "literal") return each;
    if (each.kind === "variable") return ofVariable(each);
    const args = each.args.map(visit);
    const [a, b, c] = args;
    const zero = (i: number): Expression => args[i] ?? literal(0, each.args[i]!.type);
    switch (each.name) {
      case "add":
        return a === undefined || b === undefined ? (a ?? b) : scalar.add(a, b);
      case "sub":
        return a === undefined || b === undefined
          ? (a ?? (b === undefined ? undefined : scalar.neg(b)))
          : scalar.sub(a, b);
      case "mul":
        return a === undefined || b === undefined ? undefined : scalar.mul(a, b);
      case "div":
        return a === undefined ? undefined : scalar.div(a, zero(1));
      case "neg":
      case "f32":
      case "f64":
        return a === undefined ? undefined : scalar.call(each.name, [a]);
      case "select":
        return b === undefined && c === undefined ? undefined : scalar.select(zero(0), zero(1), zero(2));
      default:
        return scalar.call(
          each.name,
          args.map((_, i) => zero(i)),
        );
    }
  };
  return visit(expression);
}

export const ARITHMETIC_RULES: readonly Rule[] = [
  castOfCast,
  stopGradientIsOver,
  reduceOfReduce,
  reduceOfExpand,
  zerosAndOnes,
  pointwiseOfExpand,
];
