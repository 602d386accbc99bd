/**
 * Recomputation: the backward pass computes again what the members of a stack computed, instead of keeping it (Chen et
 * al., "Training deep nets with sublinear memory cost", 2016). Kept is what goes into a span of members, one after the
 * other, or comes out of it; with `keepsDear` also the results of operators that take much time and little memory.
 *
 * The forward pass is what the loss depends on, the rest is the backward pass. Where that reads a value from inside of a
 * span, it gets the same operations once more, as nodes with an identity of their own; they are made when they are first
 * needed, so that they run right before the gradients of their member. In a span of several, what goes from one member to
 * the next comes first, for all of them, and then the inside of each when it is due: a member is computed again twice,
 * the last of a span once. Values are the same, bit by bit, in any order.
 */
import { Diagnostic } from "../../contract/diagnostic.ts";
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

export interface Recomputation {
  /** Whether the results of operators with the trait `dear` are kept. */
  readonly keepsDear: boolean;
  /** Members of a stack that are computed again from what went into the first of them. */
  readonly span: number;
}

/**
 * The program in which members of stacks keep nothing inside of them for the backward pass, or only what is dear.
 *
 * @throws Diagnostic for a loss that depends on no member of a stack
 */
export function recompute(program: Program, { keepsDear, span }: Recomputation): Program {
  const loss = program.outputs.get(LOSS);
  if (loss === undefined) return program;
  const forward = new Set(nodesOf([loss]));
  const memberOf = (node: Node): string | undefined => (forward.has(node) ? originOf(node)?.member : undefined);
  if (![...forward].some((node) => memberOf(node) !== undefined)) {
    throw new Diagnostic({
      kind: "config",
      message: "train.recompute is for the members of a stack, and the loss of this model depends on none",
      fix: "make its blocks with stack(…), or write train.recompute=none",
    });
  }
  const spanOf = (node: Node): string | undefined => spanName(memberOf(node), span);
  const isDear = (node: Node): boolean => keepsDear && operatorOf(node).traits.dear === true;
  const kept = edgesBetween(forward, spanOf);
  for (const edge of programEdges(program)) kept.add(edge);
  // Inputs, parameters and constants are there anyway.
  for (const node of forward) {
    if (isDear(node) || operatorOf(node).traits.fuse === "source") node.results.forEach((edge) => kept.add(edge));
  }
  const passedOn = edgesBetween(forward, memberOf);

  const clones = new Map<string, Node>();
  const again = (edge: Edge, within?: string): Edge => {
    const member = memberOf(edge.node);
    const span = spanOf(edge.node);
    if (member === undefined || span === undefined || kept.has(edge)) return edge;
    const purpose = within ?? (passedOn.has(edge) ? span : member);
    // Nodes are made once, and ordered by when they were: those of other choices must not be found among them.
    const identity = recomputedIdentity(
      `${purpose}${purpose === span ? "" : ` of ${span}`}${keepsDear ? " but what is dear" : ""}`,
    );
    const key = `${identity} ${String(edge.node.id)}`;
    const clone = clones.get(key) ?? cloneOf(edge.node, identity, purpose === span ? span : undefined);
    clones.set(key, clone);
    return clone.results[edge.result]!;
  };
  const cloneOf = (node: Node, identity: string, within: string | undefined): Node => {
    const inputs = node.inputs.map((edge) => again(edge, within));
    const made = makeNode(node.operation, inputs, node.results, identity);
    const origin = originOf(node);
    return origin === undefined ? made : remember(made, origin);
  };
  return mapProgram(program, (node, inputs) =>
    forward.has(node)
      ? node.results
      : rebuild(
          node,
          inputs.map((edge) => again(edge)),
        ),
  );
}

/** `blocks.4-5` of `blocks.5` and spans of two; a member on its own is its span. */
function spanName(member: string | undefined, span: number): string | undefined {
  const [, stack, at] = /^(.*)\.(\d+)$/.exec(member ?? "") ?? [];
  if (stack === undefined || span === 1) return member;
  const first = Number(at) - (Number(at) % span);
  return `${stack}.${String(first)}-${String(first + span - 1)}`;
}

/** What nodes read of others that are not of the same part. */
function edgesBetween(nodes: ReadonlySet<Node>, partOf: (node: Node) => string | undefined): Set<Edge> {
  const found = new Set<Edge>();
  for (const node of nodes) {
    for (const edge of node.inputs) if (partOf(edge.node) !== partOf(node)) found.add(edge);
  }
  return found;
}
