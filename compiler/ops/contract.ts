/**
 * Contraction: sums of products over shared axes, in einsum's sense. Every axis of an operand has a label; a label in
 * both operands and the result is a batch axis, one in an operand and the result belongs to that operand's rows
 * (m, n), one in both operands only is summed over (k).
 */
import { CompilerBug, Diagnostic } from "../../contract/diagnostic.ts";
import { ONE, printDim } from "../graph/dim.ts";
import { makeNode, type Edge, type OperationOf } from "../graph/node.ts";
import { remember } from "../graph/origin.ts";
import { printShape, requireEqual, type Axis } from "../graph/shape.ts";
import { only } from "./only.ts";
import { stridesOf, walk, type Operator, type ReferenceTensor } from "./operator.ts";

/**
 * The contraction of two float tensors; accumulates and results in f32, in f64 when an operand is f64. `names` are the
 * names of the result's axes. Errors: axes of one label differ in size, or an axis is neither shared nor kept.
 */
export function contract(
  left: Edge,
  right: Edge,
  labels: { readonly left: readonly number[]; readonly right: readonly number[]; readonly result: readonly number[] },
  names: readonly string[],
): Edge {
  const sizes = new Map<number, Axis>();
  const record = (edge: Edge, list: readonly number[]): void => {
    list.forEach((label, i) => {
      const axis = edge.shape[i];
      if (axis === undefined) throw new CompilerBug("contract", "more labels than axes");
      const known = sizes.get(label);
      if (known === undefined) sizes.set(label, axis);
      else requireEqual(known.size, axis.size, () => mismatch(left, right, known, axis));
    });
  };
  record(left, labels.left);
  record(right, labels.right);
  for (const label of [...labels.left, ...labels.right]) {
    const uses = [labels.left, labels.right, labels.result].filter((list) => list.includes(label)).length;
    if (uses < 2) {
      throw new Diagnostic({
        kind: "shape",
        message: `axis "${sizes.get(label)?.name ?? ""}" of a contraction is in one operand only and not in the result`,
        details: [`left   ${printShape(left.shape)}`, `right  ${printShape(right.shape)}`],
        fix: "sum it first with .sum(…), or keep it in the result",
      });
    }
  }
  const dtype = left.dtype === "f64" || right.dtype === "f64" ? "f64" : "f32";
  const { left: leftLabels, right: rightLabels, result } = labels;
  const operation = { op: "contract", left: leftLabels, right: rightLabels, result, names } as const;
  const shape = labels.result.map((label, i) => ({ name: names[i] ?? "", size: sizes.get(label)?.size ?? ONE }));
  return only(remember(makeNode(operation, [left, right], [{ dtype, shape }])));
}

function mismatch(left: Edge, right: Edge, a: Axis, b: Axis): Diagnostic {
  return new Diagnostic({
    kind: "shape",
    message: `contraction meets ${printDim(a.size)} with ${printDim(b.size)}`,
    details: [`left   ${printShape(left.shape)}`, `right  ${printShape(right.shape)}`],
    fix: `make axis "${a.name}" of the one and axis "${b.name}" of the other equally long`,
  });
}

type Contract = OperationOf<"contract">;

/** d left = d result · right and d right = d result · left: again contractions. */
function gradientOf(operation: Contract, side: "left" | "right", other: Edge, own: Edge, dy: Edge): Edge {
  const wanted = operation[side];
  const otherLabels = side === "left" ? operation.right : operation.left;
  return contract(
    dy,
    other,
    { left: operation.result, right: otherLabels, result: wanted },
    own.shape.map((axis) => axis.name),
  );
}

export const contractOperator: Operator<"contract"> = {
  name: "contract",
  words: "sum of products over the axes that the operands share and the result lacks",
  traits: { fuse: "anchor", narrow: [0, 1], narrowResults: [0] },
  gradient: ({ operation, inputs, gradients, wanted }) => {
    const [left, right] = inputs;
    const [dy] = gradients;
    if (left === undefined || right === undefined || dy === undefined) return [undefined, undefined];
    return [
      wanted[0] === true ? gradientOf(operation, "left", right, left, dy) : undefined,
      wanted[1] === true ? gradientOf(operation, "right", left, right, dy) : undefined,
    ];
  },
  reference: ({ operation, inputs, results }) => {
    const [left, right] = inputs;
    const [out] = results;
    if (left === undefined || right === undefined || out === undefined) return [];
    const inResult = (label: number): boolean => operation.result.includes(label);
    const batch = operation.left.filter((label) => operation.right.includes(label) && inResult(label));
    const m = operation.left.filter((label) => !operation.right.includes(label));
    const n = operation.right.filter((label) => !operation.left.includes(label));
    const k = operation.left.filter((label) => operation.right.includes(label) && !inResult(label));
    const size = (label: number): number => {
      const at = operation.left.indexOf(label);
      return (at >= 0 ? left.sizes[at] : right.sizes[operation.right.indexOf(label)]) ?? 1;
    };
    const count = (labels: readonly number[]): number => labels.reduce((total, label) => total * size(label), 1);
    const a = gathered(left, operation.left, [...batch, ...m, ...k], size);
    const b = gathered(right, operation.right, [...batch, ...n, ...k], size);
    const [batches, rows, columns, depth] = [count(batch), count(m), count(n), count(k)];
    const product = new Float64Array(batches * rows * columns);
    for (let g = 0; g < batches; g++) {
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < columns; j++) {
          let sum = 0;
          const ai = (g * rows + i) * depth;
          const bj = (g * columns + j) * depth;
          for (let l = 0; l < depth; l++) sum += (a[ai + l] ?? 0) * (b[bj + l] ?? 0);
          product[(g * rows + i) * columns + j] = sum;
        }
      }
    }
    const order = [...batch, ...m, ...n];
    return [gathered({ data: product, sizes: order.map(size), names: [] }, order, operation.result, size)];
  },
};

/** The tensor with its labelled axes in another order. */
function gathered(
  tensor: ReferenceTensor,
  labels: readonly number[],
  order: readonly number[],
  size: (label: number) => number,
): Float64Array {
  const dense = stridesOf(tensor.sizes);
  const data = new Float64Array(tensor.data.length);
  walk(order.map(size), [order.map((label) => dense[labels.indexOf(label)] ?? 0)], (position, [at = 0]) => {
    data[position] = tensor.data[at] ?? NaN;
  });
  return data;
}
