/** Reductions: the sum, maximum or minimum over whole axes. */
import { Diagnostic } from "../../contract/diagnostic.ts";
import { makeNode, type Edge } from "../graph/node.ts";
import { remember } from "../graph/origin.ts";
import { axisNamed, printShape, without } from "../graph/shape.ts";
import { only } from "./only.ts";
import { stridesOf, walk, type Operator } from "./operator.ts";
import { expand } from "./layout.ts";
import { formula } from "./pointwise.ts";

/** Reduces over the named axes, which disappear. Errors: an axis that the tensor does not have. */
export function reduce(operation: "sum" | "max" | "min", x: Edge, axes: readonly string[]): Edge {
  for (const name of axes) {
    if (axisNamed(x.shape, name) !== undefined) continue;
    throw new Diagnostic({
      kind: "shape",
      message: `there is no axis "${name}" to reduce in ${printShape(x.shape)}`,
      fix: `reduce over one of: ${x.shape.map((axis) => axis.name).join(", ")}`,
    });
  }
  if (axes.length === 0) return x;
  const ordered = x.shape.filter((axis) => axes.includes(axis.name)).map((axis) => axis.name);
  const trailing = x.shape
    .slice(x.shape.findLastIndex((axis) => !axes.includes(axis.name)) + 1)
    .map((axis) => axis.name);
  if (trailing.length > 0 && trailing.length < ordered.length) {
    // Along rows first, then over columns: each is a kernel of its own kind.
    const rest = ordered.filter((name) => !trailing.includes(name));
    return reduce(operation, reduce(operation, x, trailing), rest);
  }
  return only(
    remember(
      makeNode({ op: "reduce", operation, axes: ordered }, [x], [{ dtype: x.dtype, shape: without(x.shape, axes) }]),
    ),
  );
}

const START = { sum: 0, max: -Infinity, min: Infinity } as const;

export const reduceOperator: Operator<"reduce"> = {
  name: "reduce",
  words: "the sum, maximum or minimum over axes",
  traits: { fuse: "reduce" },
  gradient: ({ operation, inputs, results, gradients }) => {
    const [x] = inputs;
    const [y] = results;
    const [dy] = gradients;
    if (x === undefined || y === undefined || dy === undefined) return [undefined];
    if (operation.operation === "sum") return [expand(dy, x.shape)];
    // The gradient of an extreme is shared by all elements that reach it, as PyTorch's amax does.
    const reached = formula("select(x == y, 1.0, 0.0)", { x, y });
    const count = reduce("sum", reached, operation.axes);
    return [formula("select(x == y, dy / count, 0.0)", { x, y, dy, count })];
  },
  reference: ({ operation, inputs, results }) => {
    const [x] = inputs;
    const [out] = results;
    if (x === undefined || out === undefined) return [];
    const data = new Float64Array(out.sizes.reduce((a, b) => a * b, 1)).fill(START[operation.operation]);
    const dense = stridesOf(out.sizes);
    const into = x.names.map((name) => (operation.axes.includes(name) ? 0 : (dense[out.names.indexOf(name)] ?? 0)));
    walk(x.sizes, [into], (position, [at = 0]) => {
      const value = x.data[position] ?? NaN;
      const so = data[at] ?? NaN;
      if (operation.operation === "sum") data[at] = so + value;
      else data[at] = operation.operation === "max" ? Math.max(so, value) : Math.min(so, value);
    });
    return [data];
  },
};
