/** Kernels are named by what they are part of, and open with the formula they compute. */
import { originOf } from "../graph/origin.ts";
import type { Expression } from "../notation/expression.ts";
import { printFormula } from "../notation/print-formula.ts";
import type { Group } from "./group.ts";
import type { Kernel, Reduction, Store } from "./kernel.ts";

const SUFFIX: Readonly<Record<Group["anchor"], string>> = {
  map: "map",
  rows: "rows",
  columns: "columns",
  contract: "contract",
  attention: "forward",
  attentionGradient: "gradient",
};

/** `blocks_mlp_fc1_contract`: the components a group comes from, without their numbers, and what anchors it. */
function nameOf(group: Group): string {
  const [first] = group.roots;
  const node = group.node ?? first?.edge.node;
  const path = node === undefined ? "" : (originOf(node)?.path ?? "");
  const words = path.split(/[^A-Za-z_]+/).filter((word) => word !== "");
  const stem = words.length > 0 ? words.slice(-3).join("_") : (node?.operation.op ?? "kernel");
  return `${stem}_${SUFFIX[group.anchor]}`.toLowerCase();
}

/** A formula longer than this many operations is not a formula to a reader. */
const LONGEST = 60;

/** The kernel with the name and the formula that its readers see. */
export const named = (kernel: Kernel, group: Group): Kernel => ({
  ...kernel,
  name: nameOf(group),
  formula: formulaOf(kernel),
});

function formulaOf(kernel: Kernel): string {
  switch (kernel.anchor) {
    case "map":
      return describe(kernel.stores);
    case "rows":
      return describe(kernel.stores, kernel.stages.flat());
    case "columns":
      return describe(kernel.stores, kernel.reductions);
    case "contract":
      return `acc = sum_k (${spell(kernel.left)}) * (${spell(kernel.right)}); ${describe(kernel.stores)}`;
    case "attention":
      return "o = softmax(scale * q k^T + mask) v, lse = log of each row's sum of exponentials";
    case "attentionGradient":
      return "dv = p^T do, ds = p * (do v^T - rowsum(do * o)), dq = scale * ds k, dk = scale * ds^T q";
    default:
      return kernel satisfies never;
  }
}

/** Reductions and stores, spelled in the formula notation. */
function describe(stores: readonly Store[], reductions: readonly Reduction[] = []): string {
  const lines = reductions.map((each, i) => `r${String(i)} = ${each.operation}(${spell(each.value)})`);
  for (const { access, value } of stores) lines.push(`a${String(access)} := ${spell(value)}`);
  return lines.join("; ");
}

function spell(value: Expression): string {
  return treeSize(value) <= LONGEST ? printFormula(value) : `f(${operandsOf(value).join(", ")})`;
}

/** How many operations the expression has when shared parts are written out; stops counting where it no longer matters. */
function treeSize(value: Expression): number {
  if (value.kind !== "call") return 0;
  let size = 1;
  for (const arg of value.args) {
    size += treeSize(arg);
    if (size > LONGEST) return size;
  }
  return size;
}

function operandsOf(value: Expression, seen = new Set<Expression>()): string[] {
  if (seen.has(value)) return [];
  seen.add(value);
  if (value.kind === "variable") return [value.name];
  return value.kind === "call" ? value.args.flatMap((arg) => operandsOf(arg, seen)) : [];
}
