/**
 * Tensor: what a model computes with. It wraps one edge of the graph; every method makes nodes and gives a new Tensor.
 *
 * Tensors meet by the names of their axes: a gate [batch, width] times x [batch, tokens, width] is [batch, tokens,
 * width]. One of the operands must have all axes of the others; sizes of axes of one name agree.
 */
import { registerOf, type DType, type ScalarType } from "../../contract/dtype.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { divideExactly, printDim, staticValue, toDim, type Dim, type DimLike } from "../graph/dim.ts";
import type { Edge } from "../graph/node.ts";
import { axisNamed, elementsOf, printShape, type Axis, type Shape } from "../graph/shape.ts";
import { parseFormula } from "../notation/formula.ts";
import { gather } from "../ops/gather.ts";
import { concat as concatEdges, expand, permute, rename, slice, split, zerosLike } from "../ops/layout.ts";
import { cast, pointwise, stopGradient } from "../ops/pointwise.ts";
import { reduce } from "../ops/reduce.ts";
import { size } from "../ops/source.ts";
import { contractByPattern, rearrangeByPattern, type Sizes } from "./axes.ts";
import { build } from "./mistake.ts";
import { entered } from "./place.ts";

/** What a formula or an arithmetic method accepts: a number is the same everywhere. */
export type Value = Tensor | number;

/** One tensor for every part: a tuple where their number is known. */
export type Pieces<Parts> = Parts extends readonly unknown[]
  ? { readonly [Key in keyof Parts]: Tensor }
  : Parts extends number
    ? Repeated<Parts>
    : never;

type Repeated<Count extends number, So extends readonly Tensor[] = []> = number extends Count
  ? readonly Tensor[]
  : So["length"] extends Count
    ? So
    : Repeated<Count, readonly [...So, Tensor]>;

export class Tensor {
  readonly edge: Edge;

  /** Tensors come from inputs, parameters and other tensors; models do not construct them. */
  constructor(edge: Edge) {
    this.edge = edge;
  }

  /** The names of the axes, outermost first. */
  get axes(): readonly string[] {
    return this.edge.shape.map((axis) => axis.name);
  }

  get shape(): Shape {
    return this.edge.shape;
  }

  get dtype(): DType {
    return this.edge.dtype;
  }

  /** How long an axis is: a number or an expression over the program's symbols. Errors: no such axis. */
  size(axis: string): Dim {
    return build("size", { x: this }, () => axisOf(this, axis).size);
  }

  add(other: Value): Tensor {
    return arithmetic("add", "a + b", this, other);
  }

  sub(other: Value): Tensor {
    return arithmetic("sub", "a - b", this, other);
  }

  mul(other: Value): Tensor {
    return arithmetic("mul", "a * b", this, other);
  }

  div(other: Value): Tensor {
    return arithmetic("div", "a / b", this, other);
  }

  pow(exponent: Value): Tensor {
    return arithmetic("pow", "a ^ b", this, exponent);
  }

  neg(): Tensor {
    return this.apply("-x");
  }

  /** A scalar formula, element by element; this tensor is `x` in it. */
  apply(text: string, others: Readonly<Record<string, Value>> = {}): Tensor {
    return formula(text, { x: this, ...others });
  }

  /** The sum over the named axes, which disappear; over all axes when none is named. */
  sum(...axes: readonly string[]): Tensor {
    return reduced("sum", this, axes);
  }

  max(...axes: readonly string[]): Tensor {
    return reduced("max", this, axes);
  }

  min(...axes: readonly string[]): Tensor {
    return reduced("min", this, axes);
  }

  /** The sum divided by how many elements it has, which may depend on symbols. */
  mean(...axes: readonly string[]): Tensor {
    return build("mean", { x: this }, () => {
      const over = axes.length === 0 ? this.axes : axes;
      const total = reduce("sum", this.edge, over);
      return new Tensor(divided(total, elementsOf(over.map((name) => axisOf(this, name)))));
    });
  }

  /**
   * Axes split, reordered, merged and renamed: `x.rearrange("batch tokens (heads head) -> batch heads tokens head",
   * { heads: 16 })`. The left side names this tensor's axes by position.
   */
  rearrange(pattern: string, sizes: Sizes = {}): Tensor {
    return build("rearrange", { x: this }, () => new Tensor(rearrangeByPattern(this.edge, pattern, sizes)));
  }

  /** The same tensor with some axes called otherwise: `x.rename({ textTokens: "tokens" })`. */
  rename(names: Readonly<Record<string, string>>): Tensor {
    return build("rename", { x: this }, () => {
      for (const name of Object.keys(names)) axisOf(this, name);
      return new Tensor(
        rename(
          this.edge,
          this.axes.map((name) => names[name] ?? name),
        ),
      );
    });
  }

  /** The axes in another order. */
  permute(...order: readonly string[]): Tensor {
    return build("permute", { x: this }, () => {
      for (const name of order) axisOf(this, name);
      return new Tensor(permute(this.edge, order));
    });
  }

  /** Consecutive parts of one axis (the last unless named): so many equal ones, or of the given sizes. */
  split<const Parts extends number | readonly DimLike[]>(parts: Parts, axis?: string): Pieces<Parts> {
    return build("split", { x: this }, () => {
      const whole = axisOf(this, axis ?? this.axes.at(-1) ?? "");
      const sizes = typeof parts === "number" ? equalParts(whole, parts) : parts.map(toDim);
      // As many tensors as the type says: split makes one for every size.
      return split(this.edge, whole.name, sizes).map((edge) => new Tensor(edge)) as readonly Tensor[] as Pieces<Parts>;
    });
  }

  /** The part [start, start + size) of one axis. */
  slice(axis: string, start: DimLike, length: DimLike): Tensor {
    return build("slice", { x: this }, () => new Tensor(slice(this.edge, axis, start, length)));
  }

  /** Rows of this table along `axis`, chosen by i32 indices, whose axes come first in the result. */
  gather(indices: Tensor, axis: string): Tensor {
    return build("gather", { table: this, indices }, () => new Tensor(gather(this.edge, indices.edge, axis)));
  }

  /** The same values along more axes: `shape`, or the shape of a tensor, has all axes of this one. */
  expand(shape: Tensor | Shape): Tensor {
    const wider = shape instanceof Tensor ? shape.shape : shape;
    return build("expand", { x: this }, () => new Tensor(expand(this.edge, wider)));
  }

  /** Sum of products, one name per axis: `q.contract("b q d, b k d -> b q k", k)`. Result axes are named as in the pattern. */
  contract(pattern: string, other: Tensor): Tensor {
    return build(
      "contract",
      { left: this, right: other },
      () => new Tensor(contractByPattern(this.edge, other.edge, pattern)),
    );
  }

  cast(dtype: DType): Tensor {
    return build("cast", { x: this }, () => new Tensor(cast(this.edge, dtype)));
  }

  /** The value itself, through which no gradient flows. */
  stopGradient(): Tensor {
    return build("stopGradient", { x: this }, () => new Tensor(stopGradient(this.edge)));
  }

  zerosLike(): Tensor {
    return build("zerosLike", { x: this }, () => new Tensor(zerosLike(this.edge)));
  }
}

/** A scalar formula over tensors that meet by axis names, and numbers: `formula("a * x + b", { a, x, b: 2 })`. */
export function formula(text: string, values: Readonly<Record<string, Value>>): Tensor {
  const tensors: Record<string, Tensor> = {};
  const types: Record<string, ScalarType> = {};
  let named = text;
  for (const [name, value] of Object.entries(values)) {
    if (typeof value === "number") {
      named = `${name} = ${spell(value)}; ${named}`; // a literal, so that it takes the type of what it meets
    } else tensors[name] = value;
  }
  return build(text, tensors, () => {
    for (const [name, tensor] of Object.entries(tensors)) types[name] = registerOf(tensor.dtype);
    const edges = Object.values(tensors).map((tensor) => tensor.edge);
    return new Tensor(pointwise(parseFormula(named, types), Object.keys(tensors), edges, text));
  });
}

const spell = (value: number): string => String(value).replace("Infinity", "inf").replace("NaN", "nan");

function arithmetic(what: string, text: string, a: Tensor, b: Value): Tensor {
  if (typeof b === "number") return entered(what, () => formula(text, { a, b }));
  return build(what, { left: a, right: b }, () => {
    const expression = parseFormula(text, { a: registerOf(a.dtype), b: registerOf(b.dtype) });
    return new Tensor(pointwise(expression, ["a", "b"], [a.edge, b.edge], what));
  });
}

function reduced(operation: "sum" | "max" | "min", x: Tensor, axes: readonly string[]): Tensor {
  return build(operation, { x }, () => new Tensor(reduce(operation, x.edge, axes.length === 0 ? x.axes : axes)));
}

/** `total / count`; a count that depends on symbols is a value of the program. */
function divided(total: Edge, count: Dim): Edge {
  const known = staticValue(count);
  const types = { total: registerOf(total.dtype) };
  if (known !== undefined) return pointwise(parseFormula(`total / ${String(known)}`, types), ["total"], [total]);
  const expression = parseFormula("total / count", { ...types, count: "f32" });
  return pointwise(expression, ["total", "count"], [total, size(count, "f32")]);
}

/** Tensors one after the other along an axis; their other axes agree. */
export function concat(parts: readonly Tensor[], axis: string): Tensor {
  const operands = Object.fromEntries(parts.map((part, i) => [`part ${String(i)}`, part]));
  return build(
    "concat",
    operands,
    () =>
      new Tensor(
        concatEdges(
          parts.map((part) => part.edge),
          axis,
        ),
      ),
  );
}

function axisOf(x: Tensor, name: string): Axis {
  const axis = axisNamed(x.shape, name);
  if (axis !== undefined) return axis;
  throw new Diagnostic({
    kind: "shape",
    message: `there is no axis "${name}" in ${printShape(x.shape)}`,
    fix: x.axes.length === 0 ? "this tensor is a scalar" : `use one of: ${x.axes.join(", ")}`,
  });
}

function equalParts(axis: Axis, count: number): Dim[] {
  const part = Number.isInteger(count) && count > 0 ? divideExactly(axis.size, toDim(count)) : undefined;
  if (part !== undefined) return new Array<Dim>(count).fill(part);
  throw new Diagnostic({
    kind: "shape",
    message: `axis "${axis.name}" of size ${printDim(axis.size)} cannot be split in ${String(count)} equal parts`,
    fix: "choose a divisor of the size, or give the size of every part: .split([…])",
  });
}
