/**
 * Which values get memory of their own. Results of contractions, attention, reductions and random draws do when
 * another kernel reads them. A scalar expression is computed again where it is used, unless it must lie in memory (an
 * operand of a contraction, an output) or storing it once is cheaper than computing it in several kernels.
 */
import { bytesOf } from "../../contract/dtype.ts";
import type { Edge, Program } from "../graph/node.ts";
import { elementsOf } from "../graph/shape.ts";
import { subexpressions } from "../notation/expression.ts";
import { operatorOf } from "../ops/table.ts";
import { densePlace, isView, makeStorage, placeThrough, type Place } from "./place.ts";
import { behindViews, collectUses, merges, type Use, type Uses } from "./uses.ts";

export interface Materialized {
  readonly uses: Uses;
  /** Scalar expressions and views that become the root of a kernel. */
  readonly isRoot: (edge: Edge) => boolean;
}

/** What a scalar expression would have to read and do if it were computed in place. */
interface Cone {
  readonly leaves: ReadonlySet<string>;
  /** Leaves with as many elements as the result, and the bytes of an element. */
  readonly wide: ReadonlyMap<string, number>;
  readonly expensive: boolean;
  readonly operations: number;
}

const EXPENSIVE = new Set([
  "exp",
  "log",
  "sin",
  "cos",
  "tanh",
  "sigmoid",
  "erf",
  "softplus",
  "pow",
  "uniform",
  "normal",
]);
/** Beyond these a kernel would have too many arguments, or too long a body. */
const MOST_LEAVES = 12;
const MOST_OPERATIONS = 96;

export function materialize(program: Program): Materialized {
  const uses = collectUses(program);
  const roots = new Set<string>();
  const cones = new Map<string, Cone>();
  const coneOf = (edge: Edge): Cone => cones.get(edge.key) ?? leafCone(edge);
  for (const node of uses.nodes) {
    const { fuse } = operatorOf(node).traits;
    for (const edge of node.results) {
      if (fuse === "view") {
        if (merges(node) && !readableAsView(edge)) roots.add(edge.key);
        else if (!merges(node)) cones.set(edge.key, coneOf(node.inputs[0] ?? edge));
        continue;
      }
      if (fuse !== "scalar") continue;
      const cone = joinCones(edge, coneOf);
      const lists = uses.of(edge);
      const isLiteral = cone.leaves.size === 0 && edge.shape.length === 0;
      const lies = isRounding(edge, lists) || lists.some((use) => mustLieInMemory(edge, use, roots, uses));
      if (lies && !isLiteral) roots.add(edge.key);
      else if (worthStoring(edge, cone, lists)) roots.add(edge.key);
      else cones.set(edge.key, cone);
    }
  }
  return { uses, isRoot: (edge) => roots.has(edge.key) };
}

/** A merging view can be read in place when the axes it merges follow each other where its source lies densely. */
const readableAsView = (edge: Edge): boolean => assumedPlace(edge) !== undefined;

function assumedPlace(edge: Edge): Place | undefined {
  const { operation } = edge.node;
  const [input] = edge.node.inputs;
  if (!isView(operation) || input === undefined) {
    return densePlace(makeStorage("assumed", edge.dtype, edge.shape, { of: "temporary" }), edge.shape);
  }
  const place = assumedPlace(input);
  return place === undefined ? undefined : placeThrough(operation, edge.result, input, edge.shape, place);
}

/** A value that is read as it is in a narrower type: if it lies in memory, then in that type. */
function isRounding({ node, dtype }: Edge, uses: readonly Use[]): boolean {
  const [input] = node.inputs;
  if (node.operation.op !== "cast" || input === undefined || bytesOf(dtype) >= bytesOf(input.dtype)) return false;
  return uses.some(({ by }) => by !== "program" && by.operation.op === "cast");
}

function mustLieInMemory(edge: Edge, use: Use, roots: ReadonlySet<string>, uses: Uses): boolean {
  if (use.merged || use.by === "program") return true;
  const { operation } = use.by;
  if (operation.op === "gather") return use.input === 0;
  if (operation.op === "contract") return !isNarrowedInPlace(edge, roots, uses);
  return (
    operation.op === "attention" ||
    operation.op === "attentionGradient" ||
    operation.op === "concat" ||
    operation.op === "random"
  );
}

/** A cast of what lies in memory anyway, for others, is done while a contraction packs its operands. */
function isNarrowedInPlace(edge: Edge, roots: ReadonlySet<string>, uses: Uses): boolean {
  const [input] = edge.node.inputs;
  if (edge.node.operation.op !== "cast" || input === undefined) return false;
  const source = behindViews(input);
  const { fuse } = operatorOf(source.node).traits;
  if (fuse === "anchor") return uses.of(source).length > 1;
  return fuse !== "scalar" || roots.has(source.key);
}

/** Bytes of one write and a read per kernel, against those of reading and computing everything again in each of them. */
function worthStoring(edge: Edge, cone: Cone, uses: readonly Use[]): boolean {
  if (cone.leaves.size > MOST_LEAVES || cone.operations > MOST_OPERATIONS) return true;
  const kernels = new Set(uses.map((use) => use.by)).size;
  if (kernels < 2 || edge.shape.length === 0) return false;
  const own = bytesOf(edge.dtype);
  const reads = [...cone.wide.values()].reduce((sum, bytes) => sum + bytes, 0);
  return cone.expensive || kernels * reads >= reads + (1 + kernels) * own;
}

function leafCone(edge: Edge): Cone {
  const leaf = behindViews(edge).key;
  return { leaves: new Set([leaf]), wide: new Map([[leaf, bytesOf(edge.dtype)]]), expensive: false, operations: 0 };
}

function joinCones(edge: Edge, coneOf: (edge: Edge) => Cone): Cone {
  const leaves = new Set<string>();
  const wide = new Map<string, number>();
  let expensive = false;
  let operations = 1;
  for (const input of edge.node.inputs) {
    const cone = coneOf(input);
    const sameSize = elementsOf(input.shape) === elementsOf(edge.shape);
    for (const leaf of cone.leaves) leaves.add(leaf);
    if (sameSize) for (const [leaf, bytes] of cone.wide) wide.set(leaf, bytes);
    expensive ||= cone.expensive && sameSize;
    operations += cone.operations;
  }
  const { operation } = edge.node;
  if (operation.op === "pointwise") {
    const parts = subexpressions([operation.expression]);
    operations += parts.length;
    expensive ||= parts.some((part) => part.kind === "call" && EXPENSIVE.has(part.name));
  }
  return { leaves, wide, expensive, operations };
}
