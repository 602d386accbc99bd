/** The `reference` device: a program run node by node in float64. Slow, plain, and the oracle of everything else. */
import { Diagnostic } from "../../contract/diagnostic.ts";
import { evaluateSize } from "../../contract/size.ts";
import { toSize, type Dim } from "../graph/dim.ts";
import { nodesOf, type Edge, type Program } from "../graph/node.ts";
import { printShape } from "../graph/shape.ts";
import type { ReferenceTensor } from "../ops/operator.ts";
import { operatorOf } from "../ops/table.ts";

/**
 * The values of a program's outputs and of its next state (under `next.NAME`).
 * `given` holds every input by name; `symbols` every symbol's value.
 */
export function interpret(
  program: Program,
  given: ReadonlyMap<string, ArrayLike<number>>,
  symbols: ReadonlyMap<string, number>,
): Map<string, ReferenceTensor> {
  const wanted = new Map<string, Edge>(program.outputs);
  for (const [name, edge] of program.next) wanted.set(`next.${name}`, edge);
  return evaluateEdges(wanted, given, symbols);
}

export function evaluateEdges(
  wanted: ReadonlyMap<string, Edge>,
  given: ReadonlyMap<string, ArrayLike<number>>,
  symbols: ReadonlyMap<string, number>,
): Map<string, ReferenceTensor> {
  const sizeOf = (dim: Dim): number => evaluateSize(toSize(dim), symbols);
  const typed = (edge: Edge, data: Float64Array): ReferenceTensor => ({
    data,
    sizes: edge.shape.map((axis) => sizeOf(axis.size)),
    names: edge.shape.map((axis) => axis.name),
  });
  const nodes = nodesOf(wanted.values());
  const uses = new Map<string, number>();
  for (const node of nodes) for (const input of node.inputs) count(uses, input.key);
  for (const edge of wanted.values()) count(uses, edge.key);
  const values = new Map<string, ReferenceTensor>();
  for (const node of nodes) {
    const { operation } = node;
    let results: readonly Float64Array[];
    if (operation.op === "input") {
      const [edge] = node.results;
      if (edge === undefined) continue;
      results = [readInput(operation.name, edge, given, sizeOf)];
    } else {
      const inputs = node.inputs.map((edge) => values.get(edge.key) ?? typed(edge, new Float64Array(0)));
      const shapes = node.results.map((edge) => typed(edge, new Float64Array(0)));
      results = operatorOf(node).reference({ node, operation, inputs, results: shapes, sizeOf });
    }
    node.results.forEach((edge, i) => values.set(edge.key, typed(edge, results[i] ?? new Float64Array(0))));
    for (const input of node.inputs) {
      const left = (uses.get(input.key) ?? 0) - 1;
      uses.set(input.key, left);
      if (left === 0) values.delete(input.key);
    }
  }
  return new Map([...wanted].map(([name, edge]) => [name, values.get(edge.key) ?? typed(edge, new Float64Array(0))]));
}

function count(uses: Map<string, number>, key: string): void {
  uses.set(key, (uses.get(key) ?? 0) + 1);
}

function readInput(
  name: string,
  edge: Edge,
  given: ReadonlyMap<string, ArrayLike<number>>,
  sizeOf: (dim: Dim) => number,
): Float64Array {
  const data = given.get(name);
  const expected = edge.shape.reduce((total, axis) => total * sizeOf(axis.size), 1);
  if (data?.length === expected) return Float64Array.from(data);
  throw new Diagnostic({
    kind: "input",
    message:
      data === undefined
        ? `the program needs an input "${name}" ${printShape(edge.shape)}`
        : `input "${name}" ${printShape(edge.shape)} holds ${String(expected)} values, and ${String(data.length)} came`,
    fix: `give "${name}" with this shape`,
  });
}
