/**
 * Mixed precision: what products read is narrowed to bfloat16 or to IEEE half, and so is what they give, once it has been
 * summed in float32 (Micikevicius et al., "Mixed precision training", 2018). Everything in between stays float32, so
 * statistics, softmax, losses, sums of residuals and the optimizer never add up in a narrow type; parameters live in
 * float32 and are cast where they are read, and their gradients are never rounded.
 *
 * A value is rounded for everyone who reads it, or for nobody: what the forward pass computed with is what the backward
 * pass sees, whichever of the two keeps it in memory, in 16 bits.
 *
 * The gradients that products read become infinite in f16 above 65504 and nothing below 3e-8: a training step in f16
 * scales its loss, in the graph (`language/composites/loss-scale.ts`), before it comes here.
 */
import type { DType } from "../../contract/dtype.ts";
import type { Precision } from "../../contract/precision.ts";
import { symbolsOf } from "../graph/dim.ts";
import { makeNode, nodesOf, programEdges, type Edge, type Node, type Program } from "../graph/node.ts";
import { originOf, remember, withOrigin } from "../graph/origin.ts";
import { cast } from "../ops/pointwise.ts";
import { operatorOf } from "../ops/table.ts";
import { mapProgram, rebuild } from "./rewrite.ts";

/**
 * The program with every operand that an operator's `narrow` trait names cast to `wanted`, and with what `roundedIn`
 * finds rounded to it; with "f32", the program itself.
 */
export function precision(program: Program, wanted: Precision): Program {
  if (wanted === "f32") return program;
  const rounded = roundedIn(program);
  const narrowed = new Map<Edge, Edge>();
  const narrow = (edge: Edge): Edge => {
    const known = narrowed.get(edge);
    if (known !== undefined) return known;
    const made = narrowView(edge, wanted, narrow) ?? cast(edge, wanted);
    narrowed.set(edge, made);
    return made;
  };
  const isWidened = ({ node }: Edge): boolean =>
    node.operation.op === "cast" && node.inputs[0]?.dtype === wanted && node.results[0]?.dtype === "f32";
  return mapProgram(program, (node, inputs) => {
    const { narrow: operands = [], fuse } = operatorOf(node).traits;
    // Others look at a rounded value as 16 bits too, and widen what they see.
    const shows = (fuse === "view" || fuse === "join") && inputs.length > 0 && inputs.every(isWidened);
    const all = (): readonly Edge[] => {
      if (shows) return viewOf(node, inputs.map(narrow), wanted).map((edge) => cast(edge, "f32"));
      const read = inputs.map((edge, i) => (operands.includes(i) && edge.dtype === "f32" ? narrow(edge) : edge));
      const made = rebuild(node, operands.length === 0 ? inputs : read);
      return made.map((edge, i) => (rounded.has(node.results[i]!) ? cast(narrow(edge), "f32") : edge));
    };
    const origin = originOf(node);
    return origin === undefined ? all() : withOrigin(origin, all);
  });
}

/**
 * The values that are rounded for all their readers: results of products with many rows for a sample, with the bias that
 * is added to nothing else, unless the program gives them; and what only products and sums read, so that a product and the
 * gradient of its bias read one tensor. What has the size of parameters is a gradient of theirs and adds up in float32.
 * What a sample has one row of (its embedded time, shifts, scales and gates) is small and meets every token: it stays.
 */
function roundedIn(program: Program): ReadonlySet<Edge> {
  const readersOf = collectReaders(program);
  const found = new Set<Edge>();
  for (const node of nodesOf(programEdges(program))) {
    const { fuse, narrowResults = [] } = operatorOf(node).traits;
    node.results.forEach((edge, i) => {
      if (edge.dtype !== "f32" || !hasRows(edge)) return;
      if (narrowResults.includes(i)) {
        const stored = withBias(edge, readersOf(edge));
        if (readersOf(stored).every(({ by }) => by !== undefined)) found.add(stored);
      }
      if (fuse === "scalar" && isSummedOperand(readersOf(edge))) found.add(edge);
    });
  }
  return found;
}

/** A node that reads a value, and as which input; an output or a next state has none. */
interface Reader {
  readonly by: Node | undefined;
  readonly input: number;
}

/** Who reads each edge; the readers of a view read what it shows. */
function collectReaders(program: Program): (edge: Edge) => readonly Reader[] {
  const edges = programEdges(program);
  const readers = new Map<Edge, Reader[]>();
  const record = (edge: Edge, ...more: readonly Reader[]): void => {
    readers.set(edge, [...(readers.get(edge) ?? []), ...more]);
  };
  for (const edge of [...program.outputs.values(), ...program.next.values()]) record(edge, { by: undefined, input: 0 });
  for (const node of [...nodesOf(edges)].reverse()) {
    const isView = operatorOf(node).traits.fuse === "view";
    node.inputs.forEach((edge, input) => {
      if (!isView) record(edge, { by: node, input });
      else for (const result of node.results) record(edge, ...(readers.get(result) ?? []));
    });
  }
  return (edge) => readers.get(edge) ?? [];
}

/** Whether there are many rows for each sample: more than a list of samples, or of tokens, and their channels. */
function hasRows({ shape }: Edge): boolean {
  const open = shape.map(({ size }) => size).filter((size) => symbolsOf(size).length > 0);
  return open.length > 0 && (shape.length > 2 || open.some((size) => symbolsOf(size).length > 1));
}

const isOpen = ({ shape }: Edge): boolean => shape.some(({ size }) => symbolsOf(size).length > 0);

/** The sum with a bias, where that is all a product's result is read for. */
function withBias(edge: Edge, readers: readonly Reader[]): Edge {
  const [reader] = readers;
  if (reader?.by === undefined || readers.length > 1) return edge;
  const { operation, inputs, results } = reader.by;
  const isSum =
    operation.op === "pointwise" &&
    operation.expression.kind === "call" &&
    operation.expression.name === "add" &&
    operation.expression.args.every((each) => each.kind === "variable");
  const isBias = inputs.length === 2 && inputs.includes(edge) && inputs.every((each) => each === edge || !isOpen(each));
  return isSum && isBias ? results[0]! : edge;
}

function isSummedOperand(readers: readonly Reader[]): boolean {
  const isOperand = ({ by, input }: Reader): boolean =>
    by !== undefined && operatorOf(by).traits.narrow?.includes(input) === true;
  const isSum = ({ by }: Reader): boolean => by?.operation.op === "reduce";
  return readers.some(isOperand) && readers.some(isSum) && readers.every((each) => isOperand(each) || isSum(each));
}

/**
 * The narrow form of what needs no cast of its own: a value widened from `wanted` is that value again, and a view is
 * cast before it is viewed, so that whatever computes the value writes 16 bits once, in whichever order it is read. A view
 * of what lies in memory already (a parameter, a part of an input) is cast as it is: nobody reads the rest.
 */
function narrowView(
  { node, result }: Edge,
  wanted: Exclude<Precision, "f32">,
  narrow: (edge: Edge) => Edge,
): Edge | undefined {
  const [x] = node.inputs;
  if (x === undefined) return undefined;
  if (node.operation.op === "cast" && x.dtype === wanted) return x;
  const isView = operatorOf(node).traits.fuse === "view" && operatorOf(x.node).traits.fuse !== "source";
  return isView ? viewOf(node, [narrow(x)], wanted)[result] : undefined;
}

/** The operation of a view, or of a join, on inputs of another type. */
const viewOf = (node: Node, inputs: readonly Edge[], dtype: DType): readonly Edge[] =>
  remember(
    makeNode(
      node.operation,
      inputs,
      node.results.map(({ shape }) => ({ dtype, shape })),
      node.identity,
    ),
  ).results;
