/**
 * Programs as text, one node per line:
 *
 *   program "loss"
 *   %0 = input "x" given : f32[batch, tokens, width=1152]
 *   %1 = pointwise(%0) "x0 * sigmoid(x0)" : f32[batch, tokens, width=1152]
 *   %2 = split(%1) axis=width sizes=[576, 576] : f32[batch, tokens, width=576], f32[batch, tokens, width=576]
 *   output "y" = %2.1
 *
 * `%2.1` is result 1 of a node that has several. Numbers count the nodes of this text; they mean nothing outside it.
 */
import { formatLocation } from "../../contract/diagnostic.ts";
import { printName } from "../notation/fields.ts";
import { printDim } from "./dim.ts";
import { nodesOf, programEdges, tableDigest, type Edge, type Node, type Program, type TensorType } from "./node.ts";
import { originOf } from "./origin.ts";
import type { Axis } from "./shape.ts";
import { printFields } from "./spelling.ts";

/** Tables up to this many values are written out in a trace. */
const SHORT_TABLE = 8;

/** The full text: `parseProgram` reads the same program from it. */
export const printProgram = (program: Program): string =>
  write(
    program,
    (node) => printFields(node.operation),
    () => "",
  );

/** For people: long tables as digests, and where each node comes from when that changes. Not to be parsed. */
export function printTrace(program: Program): string {
  let last = "";
  const fields = (node: Node): string => {
    const { operation } = node;
    if (operation.op !== "constant" || operation.values.length <= SHORT_TABLE) return printFields(operation);
    return `#${tableDigest(operation.values).slice(0, 12)} (${String(operation.values.length)} values)`;
  };
  return write(program, fields, (node) => {
    const origin = originOf(node);
    const where = origin?.locate();
    const text = [origin?.path ?? "", where === undefined ? "" : formatLocation(where)].filter(Boolean).join(" ");
    if (text === last) return "";
    last = text;
    return text === "" ? "" : `  // ${text}`;
  });
}

function write(program: Program, fields: (node: Node) => string, remark: (node: Node) => string): string {
  const numbers = new Map<Node, number>();
  const refer = ({ node, result }: Edge): string =>
    `%${String(numbers.get(node) ?? -1)}${node.results.length === 1 ? "" : `.${String(result)}`}`;
  const lines = [`program ${JSON.stringify(program.name)}`];
  for (const node of nodesOf(programEdges(program))) {
    const operands = node.inputs.length === 0 ? "" : `(${node.inputs.map(refer).join(", ")})`;
    const identity = node.identity === "" ? "" : `identity=${JSON.stringify(node.identity)}`;
    const parts = [
      `${node.operation.op}${operands}`,
      fields(node),
      identity,
      ":",
      node.results.map(printType).join(", "),
    ];
    numbers.set(node, numbers.size);
    lines.push(`%${String(numbers.size - 1)} = ${parts.filter(Boolean).join(" ")}${remark(node)}`);
  }
  lines.push(["inputs", ...program.inputs.map(refer)].join(" "));
  for (const [name, edge] of program.outputs) lines.push(`output ${JSON.stringify(name)} = ${refer(edge)}`);
  for (const [name, edge] of program.next) lines.push(`next ${JSON.stringify(name)} = ${refer(edge)}`);
  for (const { left, right, message } of program.equalities) {
    lines.push(`equal ${printDim(left)} = ${printDim(right)} ${JSON.stringify(message)}`);
  }
  return `${lines.join("\n")}\n`;
}

export const printType = ({ dtype, shape }: TensorType): string => `${dtype}[${shape.map(printAxis).join(", ")}]`;

/** As in messages, but a name that is no plain word stands in quotes. */
function printAxis({ name, size }: Axis): string {
  const text = printDim(size);
  return text === name ? name : `${printName(name)}=${text}`;
}
