/**
 * Reverse-mode differentiation: Graph -> Graph. The gradients of a scalar with respect to chosen edges, as new nodes.
 * The rules themselves stand with the operators; this file only walks backwards and adds up.
 */
import { Diagnostic } from "../../contract/diagnostic.ts";
import { isFloat } from "../../contract/dtype.ts";
import { nodesOf, type Edge, type Node } from "../graph/node.ts";
import { originOf, withOrigin } from "../graph/origin.ts";
import { printShape } from "../graph/shape.ts";
import { zerosLike } from "../ops/layout.ts";
import { addEdges } from "../ops/pointwise.ts";
import { constant } from "../ops/source.ts";
import { operatorOf } from "../ops/table.ts";

/**
 * d `loss` / d `wanted[i]`, in the order of `wanted`; zeros for what the loss does not depend on.
 * Errors: the loss is not a scalar, or an operator on the way has no gradient.
 */
export function gradients(loss: Edge, wanted: readonly Edge[]): Edge[] {
  if (loss.shape.length > 0) {
    throw new Diagnostic({
      kind: "shape",
      message: `only a scalar has a gradient, and the loss is ${printShape(loss.shape)}`,
      fix: "take its mean: loss.mean()",
    });
  }
  const leaves = new Set(wanted.map((edge) => edge.node));
  const order = nodesOf([loss]);
  const depends = new Set<Node>();
  const through = new Set<Node>();
  for (const node of order) {
    if (node.inputs.some((input) => depends.has(input.node))) through.add(node);
    if (leaves.has(node) || through.has(node)) depends.add(node);
  }
  const found = new Map<string, Edge>([[loss.key, constant(ONE_TABLE, loss.dtype, [])]]);
  const accumulate = (edge: Edge, gradient: Edge): void => {
    if (!isFloat(edge.dtype)) return;
    const so = found.get(edge.key);
    found.set(edge.key, so === undefined ? gradient : addEdges(so, gradient));
  };
  for (const node of order.reverse()) {
    if (!through.has(node)) continue;
    const arriving = node.results.map((edge) => found.get(edge.key));
    if (arriving.every((gradient) => gradient === undefined)) continue;
    for (const [i, gradient] of gradientOf(node, arriving, depends).entries()) {
      const input = node.inputs[i];
      if (input !== undefined && gradient !== undefined && depends.has(input.node)) accumulate(input, gradient);
    }
  }
  return wanted.map((edge) => found.get(edge.key) ?? zerosLike(edge));
}

function gradientOf(
  node: Node,
  arriving: readonly (Edge | undefined)[],
  depends: ReadonlySet<Node>,
): readonly (Edge | undefined)[] {
  const operator = operatorOf(node);
  if (operator.gradient === undefined) {
    throw new Diagnostic({
      kind: "gradient",
      message: `${operator.name} has no gradient`,
      where: originOf(node)?.locate(),
      fix: "use .stopGradient() before it",
    });
  }
  const rule = operator.gradient;
  const run = (): readonly (Edge | undefined)[] =>
    rule({
      node,
      operation: node.operation,
      inputs: node.inputs,
      results: node.results,
      gradients: arriving,
      wanted: node.inputs.map((input) => depends.has(input.node) && isFloat(input.dtype)),
    });
  const origin = originOf(node);
  return origin === undefined ? run() : withOrigin(origin, run);
}

const ONE_TABLE: readonly number[] = Object.freeze([1]);
