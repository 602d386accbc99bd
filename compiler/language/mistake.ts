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
import type { Tensor } from "./tensor.ts";

/** What took part in an operation, by the name a message gives it. */
export type Operands = Readonly<Record<string, Tensor>>;

/** Makes nodes on behalf of a function of the language; a mistake about shapes lists the operands and their origins. */
export function build<T>(what: string, operands: Operands, body: () => T): T {
  return entered(what, () => {
    try {
      return body();
    } catch (error) {
      throw error instanceof Diagnostic && error.parts.kind === "shape" && error.parts.where === undefined
        ? new Diagnostic({ ...error.parts, details: describe(operands) })
        : error;
    }
  });
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
