/**
 * Kernels as text, one part per line:
 *
 *   kernel rows softmax_rows "softmax of the scores"
 *   symbols [batch]
 *   scalars [f32]
 *   read x f32
 *   write y bf16
 *   axis rows size=12*batch outer
 *   axis columns size=64
 *   access a0 x strides=[64, 1]
 *   access a1 y strides=[64, 1]
 *   reduce r0 max "a0" stage=0
 *   reduce r1 sum "exp(a0 - r0)" stage=1
 *   store a1 "exp(a0 - r0) / r1"
 */
import { printDim } from "../graph/dim.ts";
import { printDims } from "../graph/spelling.ts";
import type { Expression } from "../notation/expression.ts";
import { printList, printName, printNumber } from "../notation/fields.ts";
import { printFormula } from "../notation/formula.ts";
import type { Access, AttentionGradientKernel, AttentionKernel, Kernel, Reduction, Store } from "./kernel.ts";

/** The text of a kernel; `parseKernel` reads an equal one from it. */
export function printKernel(kernel: Kernel): string {
  const { anchor, name, formula, symbols, scalars, operands, axes, accesses } = kernel;
  const lines = [
    `kernel ${anchor} ${printName(name)} ${JSON.stringify(formula)}`,
    `symbols ${printList(symbols, printName)}`,
    `scalars ${printList(scalars, String)}`,
    ...operands.map((operand) => `${operand.role} ${printName(operand.name)} ${operand.dtype}`),
    ...axes.map((axis, i) => `axis ${printName(axis.name)} size=${printDim(axis.size)}${markOf(kernel, i)}`),
    ...accesses.map((access, i) => printAccess(access, i, printName(operands[access.operand]?.name ?? ""))),
    ...bodyOf(kernel),
  ];
  return `${lines.join("\n")}\n`;
}

/** What an axis is to the kernel's anchor. */
function markOf(kernel: Kernel, axis: number): string {
  if (kernel.anchor === "rows") return axis < kernel.outer ? " outer" : "";
  if (kernel.anchor === "columns") return kernel.reduced[axis] === true ? " reduced" : "";
  return kernel.anchor === "contract" ? ` ${kernel.roles[axis] ?? ""}` : "";
}

function bodyOf(kernel: Kernel): string[] {
  switch (kernel.anchor) {
    case "map":
      return kernel.stores.map((store) => printStore(store));
    case "rows": {
      let next = 0;
      const stages = kernel.stages.flatMap((stage, at) =>
        stage.map((reduction) => `${printReduction(reduction, next++)} stage=${String(at)}`),
      );
      return [
        ...stages,
        ...kernel.stores.map((store, i) => `${printStore(store)}${kernel.perRow[i] === true ? " row" : ""}`),
      ];
    }
    case "columns":
      return [...kernel.reductions.map(printReduction), ...kernel.stores.map((store) => printStore(store))];
    case "contract":
      return [
        `left ${quoted(kernel.left)}`,
        `right ${quoted(kernel.right)}`,
        ...kernel.stores.map((store) => printStore(store)),
      ];
    case "attention":
    case "attentionGradient":
      return printAttention(kernel);
    default:
      return kernel satisfies never;
  }
}

const quoted = (expression: Expression): string => JSON.stringify(printFormula(expression));

function printAccess({ strides, lookups, guard }: Access, position: number, operand: string): string {
  const terms = printList(lookups, ({ stride, index }) => `[${printDim(stride)}, ${quoted(index)}]`);
  const rest = `${lookups.length === 0 ? "" : ` lookups=${terms}`}${guard === undefined ? "" : ` guard=${quoted(guard)}`}`;
  return `access a${String(position)} ${operand} strides=${printDims(strides)}${rest}`;
}

const printStore = ({ access, value }: Store): string => `store a${String(access)} ${quoted(value)}`;

const printReduction = ({ operation, value }: Reduction, number: number): string =>
  `reduce r${String(number)} ${operation} ${quoted(value)}`;

/** The accesses that attention knows by name. */
export const ATTENTION_PARTS = {
  attention: ["q", "k", "v", "o", "lse"],
  attentionGradient: ["q", "k", "v", "o", "lse", "doutput", "dq", "dk", "dv"],
} as const;

function printAttention(kernel: AttentionKernel | AttentionGradientKernel): string[] {
  const positions: ReadonlyMap<string, unknown> = new Map(Object.entries(kernel));
  const parts = ATTENTION_PARTS[kernel.anchor].map((part) => `${part}=a${String(positions.get(part))}`);
  return [
    `parts ${parts.join(" ")}`,
    `mask scale=${printNumber(kernel.scale)}${kernel.mask.causal ? " causal" : ""}`,
    ...kernel.mask.segments.map(
      ({ extent, lengths }) => `segment extent=${printDim(extent)} lengths=a${String(lengths)}`,
    ),
  ];
}
