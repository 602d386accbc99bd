import { CompilerBug } from "../../contract/diagnostic.ts";
import type { Edge, Node } from "../graph/node.ts";

/** The result of a node that has one. */
export function only(node: Node): Edge {
  const [edge] = node.results;
  if (edge === undefined || node.results.length !== 1) {
    throw new CompilerBug("graph", `${node.operation.op} has ${String(node.results.length)} results, not one`);
  }
  return edge;
}
