/**
 * How is a wrong shape shown? The sizes of everything that took part, and the line each came from.
 *
 *   models/dit.sora.ts:41:18  shape: add meets axis "width" of sizes 64 and 48
 *     left   [batch, tokens, width=64]  layerNorm, line 38
 *     right  [width=48]                 blocks.0.bias, line 22
 *     fix: make both 64, or rename one of the axes
 */
import { Diagnostic } from "../../contract/diagnostic.ts";
import { originOf } from "../graph/origin.ts";
import { printShape } from "../graph/shape.ts";
import { entered } from "./place.ts";
import { Tensor } from "./tensor.ts";

/** What took part in an operation, by the name a message gives it. */
export type Operands = Readonly<Record<string, Tensor>>;

/** Makes nodes on behalf of a function of the language; a mistake about shapes lists the operands and their origins. */
export function build<T>(what: string, operands: Operands, body: () => T): T {
  return entered(what, () => {
    for (const [name, tensor] of Object.entries(operands)) requireTensor(what, name, tensor);
    try {
      return body();
    } catch (error) {
      throw error instanceof Diagnostic && error.parts.kind === "shape" && error.parts.where === undefined
        ? new Diagnostic({ ...error.parts, details: describe(operands) })
        : error;
    }
  });
}

/** The types of a model file are not checked when it is compiled: what should be a tensor may be anything. */
export function requireTensor(what: string, name: string, value: unknown): void {
  if (value instanceof Tensor) return;
  throw new Diagnostic({
    kind: "type",
    message: `${what} wants a tensor as "${name}", and got ${nameOfValue(value)}`,
    fix: "check what this line hands over",
  });
}

/** What a value is, in a word or two. */
export function nameOfValue(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return "an array";
  if (typeof value === "function") return "a function; a component is called with its tensors";
  if (typeof value === "object") return "an object";
  return `the ${typeof value} ${JSON.stringify(value)}`;
}

/** One line per operand: its name, its shape, where it comes from. */
export function describe(operands: Operands): string[] {
  const rows = Object.entries(operands).map(([name, tensor]) => [name, typeOf(tensor), comesFrom(tensor)] as const);
  const width = (column: 0 | 1): number => Math.max(...rows.map((row) => row[column].length));
  return rows.map(([name, type, from]) => `${name.padEnd(width(0))}  ${type.padEnd(width(1))}  ${from}`.trimEnd());
}

const typeOf = ({ dtype, shape }: Tensor): string => `${printShape(shape)}${dtype === "f32" ? "" : ` ${dtype}`}`;

function comesFrom({ edge }: Tensor): string {
  const { operation } = edge.node;
  const origin = originOf(edge.node);
  const line = origin?.locate()?.line;
  const name =
    operation.op === "parameter" || operation.op === "input" ? operation.name : (origin?.what ?? operation.op);
  return line === undefined ? name : `${name}, line ${line}`;
}
