/** Gather: rows of a table, chosen by integers. */
import { Diagnostic } from "../../contract/diagnostic.ts";
import { makeNode, type Edge } from "../graph/node.ts";
import { remember } from "../graph/origin.ts";
import { axisNamed, printShape, without } from "../graph/shape.ts";
import { contract } from "./contract.ts";
import { only } from "./only.ts";
import { stridesOf, walk, type Operator } from "./operator.ts";
import { formula } from "./pointwise.ts";
import { index } from "./source.ts";
import { expand, rename } from "./layout.ts";

/** `result[indices…, rest…] = table[indices[…], rest…]`. Indices outside the table are undefined behaviour. */
export function gather(table: Edge, indices: Edge, axis: string): Edge {
  const along = axisNamed(table.shape, axis);
  const rest = without(table.shape, [axis]);
  const clash = rest.find((each) => axisNamed(indices.shape, each.name) !== undefined);
  if (along === undefined || clash !== undefined || indices.dtype !== "i32") {
    throw new Diagnostic({
      kind: "shape",
      message: `gather cannot take rows along "${axis}"`,
      details: [
        `table    ${printShape(table.shape)} ${table.dtype}`,
        `indices  ${printShape(indices.shape)} ${indices.dtype}`,
      ],
      fix:
        along === undefined
          ? `gather along one of: ${table.shape.map((each) => each.name).join(", ")}`
          : clash !== undefined
            ? `rename axis "${clash.name}" of the indices: the table has one of that name`
            : "indices are i32",
    });
  }
  const shape = [...indices.shape, ...rest];
  return only(remember(makeNode({ op: "gather", axis }, [table, indices], [{ dtype: table.dtype, shape }])));
}

export const gatherOperator: Operator<"gather"> = {
  name: "gather",
  words: "rows of a table, chosen by integers",
  traits: { fuse: "scalar" },
  gradient: ({ operation, inputs, gradients, wanted }) => {
    const [table, indices] = inputs;
    const [dy] = gradients;
    if (table === undefined || indices === undefined || dy === undefined || wanted[0] !== true)
      return [undefined, undefined];
    // Each row of the table receives the sum over the places that chose it: a product with a one-hot matrix.
    const along = axisNamed(table.shape, operation.axis);
    if (along === undefined) return [undefined, undefined];
    const rows = rename(index(operation.axis, along.size), [`${operation.axis}'`]);
    const chosen = oneHot(rows, indices);
    const places = indices.shape.map((_, i) => i);
    const rest = without(table.shape, [operation.axis]).map((_, i) => 100 + i);
    let next = 0;
    const result = table.shape.map((axis) => (axis.name === operation.axis ? 99 : (rest[next++] ?? 0)));
    return [
      contract(
        chosen,
        dy,
        { left: [...places, 99], right: [...places, ...rest], result },
        table.shape.map((axis) => axis.name),
      ),
      undefined,
    ];
  },
  reference: ({ operation, inputs, results }) => {
    const [table, indices] = inputs;
    const [out] = results;
    if (table === undefined || indices === undefined || out === undefined) return [];
    const dense = stridesOf(table.sizes);
    const along = dense[table.names.indexOf(operation.axis)] ?? 0;
    const data = new Float64Array(out.sizes.reduce((a, b) => a * b, 1));
    const chooser = stridesOf(indices.sizes);
    const indexStrides = out.names.map((_, i) => (i < indices.sizes.length ? (chooser[i] ?? 0) : 0));
    const restStrides = out.names.map((name, i) =>
      i < indices.sizes.length ? 0 : (dense[table.names.indexOf(name)] ?? 0),
    );
    walk(out.sizes, [indexStrides, restStrides], (position, [at = 0, rest = 0]) => {
      data[position] = table.data[(indices.data[at] ?? 0) * along + rest] ?? NaN;
    });
    return [data];
  },
};

/** 1 where the place chose the row: [places…, row]. */
function oneHot(rows: Edge, indices: Edge): Edge {
  const row = expand(rows, [...indices.shape, ...rows.shape]);
  return formula("select(row == at, 1.0, 0.0)", { row, at: indices });
}
