/** Who reads what: the consumers of every edge, seen through views. */
import { nodesOf, programEdges, type Edge, type Node, type Program } from "../graph/node.ts";
import { ONE } from "../graph/dim.ts";
import { isView } from "./place.ts";

export interface Use {
  /** The node that reads, or `program` for an output or a next state. */
  readonly by: Node | "program";
  readonly input: number;
  /** Read through a rearrangement that merges axes: the value has to lie in memory. */
  readonly merged: boolean;
}

/** Whether a node only shows its input under other indices, but with axes merged that cannot be told apart any more. */
export function merges(node: Node): boolean {
  const { operation } = node;
  if (operation.op !== "rearrange") return false;
  const sizes = operation.split.flat();
  return operation.groups.some((group) => group.filter((factor) => sizes[factor] !== ONE).length > 1);
}

export interface Uses {
  readonly nodes: readonly Node[];
  readonly of: (edge: Edge) => readonly Use[];
}

/** The uses of every edge of a program; those of a view count for what it shows as well. */
export function collectUses(program: Program): Uses {
  const nodes = nodesOf(programEdges(program));
  const uses = new Map<string, Use[]>();
  const record = (edge: Edge, use: Use): void => {
    const known = uses.get(edge.key);
    if (known === undefined) uses.set(edge.key, [use]);
    else known.push(use);
  };
  for (const edge of [...program.outputs.values(), ...program.next.values()]) {
    record(edge, { by: "program", input: 0, merged: false });
  }
  for (const node of [...nodes].reverse()) {
    if (isView(node.operation)) {
      const [input] = node.inputs;
      if (input === undefined) continue;
      const merged = merges(node);
      for (const result of node.results) {
        for (const use of uses.get(result.key) ?? []) record(input, { ...use, merged: use.merged || merged });
      }
    } else {
      node.inputs.forEach((edge, input) => {
        record(edge, { by: node, input, merged: false });
      });
    }
  }
  return { nodes, of: (edge) => uses.get(edge.key) ?? [] };
}

/** The edge that a chain of views shows. */
export function behindViews(edge: Edge): Edge {
  let at = edge;
  while (isView(at.node.operation)) {
    const [input] = at.node.inputs;
    if (input === undefined) break;
    at = input;
  }
  return at;
}
