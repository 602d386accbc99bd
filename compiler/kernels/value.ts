/**
 * The value of one element of a tensor, as a scalar expression. Scalar operators and views are followed down to what a
 * reader can name: a load, the accumulator of a contraction, a reduction.
 */
import { CompilerBug } from "../../contract/diagnostic.ts";
import { registerOf, type DType, type ScalarType } from "../../contract/dtype.ts";
import type { Size } from "../../contract/size.ts";
import { ONE, staticValue, subtract, toSize, ZERO, type Dim } from "../graph/dim.ts";
import type { Edge } from "../graph/node.ts";
import { axisNamed } from "../graph/shape.ts";
import { literal, substitute, variable, type Expression } from "../notation/expression.ts";
import { call } from "../notation/functions.ts";
import { pathKey } from "../ops/source.ts";
import { coordinateKey, coordinatesThrough, isView, ORIGIN, shifted, type Coordinate } from "./place.ts";

export interface Reader {
  /** The value of an edge that is not to be followed further; undefined to follow it. */
  readonly leaf: (edge: Edge, at: readonly Coordinate[], guard: Expression | undefined) => Expression | undefined;
  /** A scalar argument that is a size. */
  readonly scalar: (type: ScalarType, value: Size) => Expression;
}

export type Valuation = (edge: Edge, at: readonly Coordinate[], guard?: Expression) => Expression;

/** A function from edges and coordinates to expressions that computes every distinct value once. */
export function valuation(reader: Reader): Valuation {
  const known = new Map<string, Expression>();
  const valueAt: Valuation = (edge, at, guard) => {
    const key = `${edge.key}@${at.map(coordinateKey).join("|")}@${guard === undefined ? "" : String(guard.id)}`;
    const found = known.get(key);
    if (found !== undefined) return found;
    const value = reader.leaf(edge, at, guard) ?? follow(edge, at, guard);
    known.set(key, value);
    return value;
  };

  const follow = (edge: Edge, at: readonly Coordinate[], guard: Expression | undefined): Expression => {
    const { operation, inputs } = edge.node;
    const [first, second] = inputs;
    if (isView(operation) && first !== undefined) {
      const inner = coordinatesThrough(operation, edge.result, first, edge.shape, at);
      if (inner === undefined) throw new CompilerBug("kernels", "a merging view was not given a place");
      return valueAt(first, inner, guard);
    }
    const named = (of: Edge): Coordinate[] =>
      of.shape.map((axis) => at[edge.shape.findIndex((each) => each.name === axis.name)] ?? ORIGIN);
    switch (operation.op) {
      case "constant":
        return literal(operation.values[0] ?? 0, registerOf(edge.dtype));
      case "pointwise":
        return substitute(operation.expression, (each) => {
          const input = inputs[Number(each.name.slice(1))];
          if (input === undefined) throw new CompilerBug("kernels", `a formula has no input ${each.name}`);
          return valueAt(input, named(input), guard);
        });
      case "cast":
        if (first === undefined) break;
        return convert(valueAt(first, at, guard), operation.dtype);
      case "index":
        return positionExpression(at[0] ?? ORIGIN, reader);
      case "size":
        return sizeExpression(operation.size, registerOf(operation.dtype), reader);
      case "random": {
        if (first === undefined || second === undefined) break;
        const path = reader.scalar("u32", pathKey(operation.path));
        return call(operation.distribution, [valueAt(first, []), valueAt(second, []), path, variable("linear", "i32")]);
      }
      case "gather": {
        if (first === undefined || second === undefined) break;
        const places = at.slice(0, second.shape.length);
        const index = valueAt(second, places, guard);
        const inTable = first.shape.map((axis) =>
          axis.name === operation.axis
            ? { ...ORIGIN, lookups: [{ stride: ONE, index }] }
            : (at[edge.shape.findIndex((each) => each.name === axis.name)] ?? ORIGIN),
        );
        return valueAt(first, inTable, guard);
      }
      case "pad": {
        if (first === undefined) break;
        const axis = edge.shape.findIndex((each) => each.name === operation.axis);
        const inside = shifted(at[axis] ?? ORIGIN, subtract(ZERO, operation.before));
        const position = positionExpression(inside, reader);
        const extent = axisNamed(first.shape, operation.axis)?.size ?? ZERO;
        const own = call("and", [
          call("ge", [position, literal(0, "i32")]),
          call("lt", [position, sizeExpression(extent, "i32", reader)]),
        ]);
        const both = guard === undefined ? own : call("and", [guard, own]);
        const value = valueAt(
          first,
          at.map((coordinate, i) => (i === axis ? inside : coordinate)),
          both,
        );
        return call("select", [both, value, literal(0, value.type)]);
      }
      default:
    }
    throw new CompilerBug("kernels", `${operation.op} cannot be computed inside another kernel`);
  };
  return valueAt;
}

/** A value in a register, rounded to what a tensor of type `to` can hold. */
function convert(value: Expression, to: DType): Expression {
  const widened = value.type === registerOf(to) ? value : call(registerOf(to), [value]);
  return to === "bf16" || to === "f16" ? call(to, [widened]) : widened;
}

/** The number a coordinate stands for. */
function positionExpression(at: Coordinate, reader: Reader): Expression {
  const parts: Expression[] = [];
  for (const [loop, stride] of at.terms) {
    const index = variable(`i${String(loop)}`, "i32");
    parts.push(stride === ONE ? index : call("mul", [index, sizeExpression(stride, "i32", reader)]));
  }
  for (const { stride, index } of at.lookups) {
    parts.push(stride === ONE ? index : call("mul", [index, sizeExpression(stride, "i32", reader)]));
  }
  if (at.offset !== ZERO) parts.push(sizeExpression(at.offset, "i32", reader));
  return parts.reduce((a, b) => call("add", [a, b]), parts.shift() ?? literal(0, "i32"));
}

function sizeExpression(size: Dim, type: ScalarType, reader: Reader): Expression {
  const value = staticValue(size);
  return value === undefined ? reader.scalar(type, toSize(size)) : literal(value, type);
}
