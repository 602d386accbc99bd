/**
 * Recomputation: the backward pass computes again what the members of a stack computed, instead of keeping it (Chen et
 * al., "Training deep nets with sublinear memory cost", 2016). What goes into a member or comes out of it is kept.
 *
 * The forward pass is what the loss depends on, the rest is the backward pass. Where that reads a value from inside of a
 * member, it gets the same operations once more, as nodes with an identity of their own; they are made when they are first
 * needed, so that they run right before the gradients of their member. Values are the same, bit by bit, in any order.
 */
import {
  makeNode,
  nodesOf,
  programEdges,
  recomputedIdentity,
  type Edge,
  type Node,
  type Program,
} from "../graph/node.ts";
import { originOf, remember } from "../graph/origin.ts";
import { operatorOf } from "../ops/table.ts";
import { mapProgram, rebuild } from "./rewrite.ts";

const LOSS = "loss";

/** The program in which members of stacks keep nothing inside of them for the backward pass. */
export function recompute(program: Program): Program {
  const loss = program.outputs.get(LOSS);
  if (loss === undefined) return program;
  const forward = new Set(nodesOf([loss]));
  const memberOf = (node: Node): string | undefined => (forward.has(node) ? originOf(node)?.member : undefined);
  const kept = keptEdges(program, forward, memberOf);

  const clones = new Map<Node, Node>();
  const again = (edge: Edge): Edge => {
    const member = memberOf(edge.node);
    if (member === undefined || kept.has(edge)) return edge;
    const known = clones.get(edge.node);
    const clone = known ?? cloneOf(edge.node, member);
    clones.set(edge.node, clone);
    return clone.results[edge.result]!;
  };
  const cloneOf = (node: Node, member: string): Node => {
    const made = makeNode(node.operation, node.inputs.map(again), node.results, recomputedIdentity(member));
    const origin = originOf(node);
    return origin === undefined ? made : remember(made, origin);
  };
  return mapProgram(program, (node, inputs) => (forward.has(node) ? node.results : rebuild(node, inputs.map(again))));
}

/** What leaves a member, what the program gives, and what is there anyway: inputs, parameters, constants. */
function keptEdges(
  program: Program,
  forward: ReadonlySet<Node>,
  memberOf: (node: Node) => string | undefined,
): ReadonlySet<Edge> {
  const kept = new Set<Edge>(programEdges(program));
  for (const node of forward) {
    if (operatorOf(node).traits.fuse === "source") node.results.forEach((edge) => kept.add(edge));
    for (const edge of node.inputs) if (memberOf(edge.node) !== memberOf(node)) kept.add(edge);
  }
  return kept;
}
