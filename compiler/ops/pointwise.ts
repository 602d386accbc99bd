/**
 * Pointwise operators: only a formula. Value, derivative and every target's text come from the expression.
 */
import { CompilerBug } from "../../contract/diagnostic.ts";
import { isFloat, registerOf, roundToBf16, roundToF16, type DType, type ScalarType } from "../../contract/dtype.ts";
import { makeNode, type Edge } from "../graph/node.ts";
import { remember } from "../graph/origin.ts";
import { hasEveryAxis, meet, without, type Shape } from "../graph/shape.ts";
import { toI32, toU32 } from "../notation/arithmetic.ts";
import { derivative } from "../notation/derivative.ts";
import { compileEvaluator } from "../notation/evaluate.ts";
import { substitute, variable, variablesOf, type Expression } from "../notation/expression.ts";
import { parseFormula } from "../notation/formula.ts";
import { only } from "./only.ts";
import { stridesAlong, walk, type Operator } from "./operator.ts";
import { expand, permute } from "./layout.ts";
import { reduce } from "./reduce.ts";

/**
 * Applies an expression to tensors that meet by axis names. `names[i]` is the variable that stands for `inputs[i]`; what
 * the expression does not use still takes part in the shape. Axes come in the order of the first input that has them all.
 * Errors: a shape error when no input has all axes of the others.
 */
export function pointwise(
  expression: Expression,
  names: readonly string[],
  inputs: readonly Edge[],
  what = "a formula",
): Edge {
  const shape = meetOf(what, inputs);
  const variables = new Set(variablesOf([expression]).map((each) => each.name));
  const used = [...new Set(inputs.filter((_, i) => variables.has(names[i] ?? "")))];
  const joins = used.length === 0 || used.some((wide) => used.every((edge) => hasEveryAxis(wide.shape, edge.shape)));
  // What is used may lack an axis that holds it together: then the widest input stays, unread.
  if (!joins) used.push(...inputs.filter((edge) => edge.shape.length === shape.length).slice(0, 1));
  const renamed = substitute(expression, (each) => {
    const at = used.indexOf(inputs[names.indexOf(each.name)]!);
    if (at < 0) throw new CompilerBug("pointwise", `variable ${each.name} has no input`);
    return variable(`x${String(at)}`, each.type);
  });
  const dtype: DType = renamed.type;
  const [plain] = used;
  if (renamed.kind === "variable" && plain?.dtype === dtype) return expand(plain, shape);
  const operation = { op: "pointwise", expression: renamed, dtype } as const;
  const own = used.length === inputs.length ? shape : meetOf(what, used);
  return expand(only(remember(makeNode(operation, used, [{ dtype, shape: own }]))), shape);
}

const meetOf = (what: string, inputs: readonly Edge[]): Shape =>
  inputs.length === 0
    ? []
    : meet(
        what,
        inputs.map((edge) => edge.shape),
      );

/** `formula("a * b + c", { a, b, c })`: the notation, with the variables' types taken from the tensors. */
export function formula(text: string, inputs: Readonly<Record<string, Edge>>): Edge {
  const names = Object.keys(inputs);
  const edges = Object.values(inputs);
  const types: Record<string, ScalarType> = {};
  for (const [name, edge] of Object.entries(inputs)) types[name] = registerOf(edge.dtype);
  return pointwise(parseFormula(text, types), names, edges, text);
}

export const addEdges = (a: Edge, b: Edge): Edge => formula("a + b", { a, b });

/** The nearest value of another type. Casting to the type a tensor has gives the tensor itself. */
export function cast(x: Edge, dtype: DType): Edge {
  if (x.dtype === dtype) return x;
  return only(remember(makeNode({ op: "cast", dtype }, [x], [{ dtype, shape: x.shape }])));
}

export const stopGradient = (x: Edge): Edge =>
  only(remember(makeNode({ op: "stopGradient" }, [x], [{ dtype: x.dtype, shape: x.shape }])));

/** Sums a gradient over the axes along which its input was broadcast, and brings the rest in the input's order. */
export function unbroadcast(gradient: Edge, like: Edge): Edge {
  const own = like.shape.map((axis) => axis.name);
  const extra = without(gradient.shape, own).map((axis) => axis.name);
  return cast(permute(reduce("sum", gradient, extra), own), like.dtype);
}

export const pointwiseOperator: Operator<"pointwise"> = {
  name: "pointwise",
  words: "a scalar formula, element by element",
  traits: { fuse: "scalar" },
  gradient: ({ operation, inputs, gradients, wanted }) => {
    const dy = gradients[0];
    if (dy === undefined) return inputs.map(() => undefined);
    // dy is the seed: it sits inside the arms of a select, so that a NaN in the arm not taken never meets it.
    const seed = variable("dy", registerOf(dy.dtype));
    const names = ["dy", ...inputs.map((_, k) => `x${String(k)}`)];
    return inputs.map((input, i) => {
      if (wanted[i] !== true) return undefined;
      const slope = derivative(operation.expression, `x${String(i)}`, seed);
      if (slope === undefined) return undefined;
      return unbroadcast(pointwise(slope, names, [dy, ...inputs]), input);
    });
  },
  reference: ({ operation, inputs, results }) => {
    const [out] = results;
    if (out === undefined) return [];
    const used = variablesOf([operation.expression]).map((each) => each.name);
    const evaluate = compileEvaluator(
      [operation.expression],
      inputs.map((_, i) => `x${String(i)}`),
    );
    if (used.length > inputs.length) throw new CompilerBug("pointwise", "more variables than inputs");
    const data = new Float64Array(out.sizes.reduce((a, b) => a * b, 1));
    const values = new Float64Array(inputs.length);
    const result = new Float64Array(1);
    walk(
      out.sizes,
      inputs.map((tensor) => stridesAlong(tensor, out.names)),
      (position, offsets) => {
        for (let i = 0; i < inputs.length; i++) values[i] = inputs[i]?.data[offsets[i] ?? 0] ?? NaN;
        evaluate(values, result);
        data[position] = result[0] ?? NaN;
      },
    );
    return [data];
  },
};

/** Floats become integers by truncating and saturating, NaN becomes 0; what is too wide for a byte keeps its low bits. */
const ROUNDING: Readonly<Partial<Record<DType, (from: ScalarType) => (value: number) => number>>> = {
  bf16: () => roundToBf16,
  f16: () => (value) => roundToF16(Math.fround(value)),
  i32: (from) => (value) => toI32(from)(value, 0, 0, 0),
  u32: (from) => (value) => toU32(from)(value, 0, 0, 0),
  u8: (from) => (value) => toI32(from)(value, 0, 0, 0) & 255,
  bool: () => (value) => (value !== 0 ? 1 : 0),
};

export const castOperator: Operator<"cast"> = {
  name: "cast",
  words: "the nearest value of another type",
  traits: { fuse: "scalar" },
  gradient: ({ inputs, gradients }) => {
    const [x] = inputs;
    const [dy] = gradients;
    return [x === undefined || dy === undefined || !isFloat(x.dtype) ? undefined : cast(dy, x.dtype)];
  },
  reference: ({ operation, node, inputs }) => {
    const from = registerOf(node.inputs[0]?.dtype ?? "f32");
    const rounding = ROUNDING[operation.dtype]?.(from);
    const values = inputs[0]?.data ?? new Float64Array(0);
    return [rounding === undefined ? values : values.map((value) => rounding(value))];
  },
};

export const stopGradientOperator: Operator<"stopGradient"> = {
  name: "stopGradient",
  words: "the value itself; its gradient is zero",
  traits: { fuse: "view" },
  gradient: () => [undefined],
  reference: ({ inputs }) => [inputs[0]?.data ?? new Float64Array(0)],
};
