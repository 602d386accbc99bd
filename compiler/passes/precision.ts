/**
 * Mixed precision: what products read is narrowed to bfloat16 or to IEEE half, everything else stays float32
 * (Micikevicius et al., "Mixed precision training", 2018). Products still accumulate in float32 and their results are
 * float32, so statistics, softmax, losses and the optimizer never see a narrow value; parameters live in float32 and are
 * cast where they are read. The gradients that products read become infinite in f16 above 65504 and nothing below 3e-8:
 * a training step in f16 scales its loss, in the graph (`language/composites/loss-scale.ts`), before it comes here.
 */
import type { Precision } from "../../contract/precision.ts";
import { makeNode, type Edge, type Program } from "../graph/node.ts";
import { originOf, remember, withOrigin } from "../graph/origin.ts";
import { cast } from "../ops/pointwise.ts";
import { operatorOf } from "../ops/table.ts";
import { mapProgram, rebuild } from "./rewrite.ts";

/** The program with every operand that an operator's `narrow` trait names cast to `wanted`; with "f32", the program itself. */
export function precision(program: Program, wanted: Precision): Program {
  if (wanted === "f32") return program;
  const narrowed = new Map<Edge, Edge>();
  const narrow = (edge: Edge): Edge => {
    const known = narrowed.get(edge);
    if (known !== undefined) return known;
    const made = narrowView(edge, wanted, narrow) ?? cast(edge, wanted);
    narrowed.set(edge, made);
    return made;
  };
  return mapProgram(program, (node, inputs) => {
    const operands = operatorOf(node).traits.narrow ?? [];
    const origin = originOf(node);
    const all = (): Edge[] =>
      inputs.map((edge, i) => (operands.includes(i) && edge.dtype === "f32" ? narrow(edge) : edge));
    return rebuild(node, operands.length === 0 ? inputs : origin === undefined ? all() : withOrigin(origin, all));
  });
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
  if (!isView) return undefined;
  const types = node.results.map(({ shape }) => ({ dtype: wanted, shape }));
  return remember(makeNode(node.operation, [narrow(x)], types, node.identity)).results[result];
}
