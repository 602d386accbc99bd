/** What a kernel has to do at least: multiplications and additions of its products, and bytes to and from memory. */
import { bytesOf, type DType } from "../../contract/dtype.ts";
import type { Precision } from "../../contract/precision.ts";
import { add, multiply, ZERO, type Dim } from "../graph/dim.ts";
import type { Expression } from "../notation/expression.ts";
import type { Access, ContractKernel, Kernel } from "./kernel.ts";

export interface Work {
  /** The type in which products may be taken, whatever a target makes of that. */
  readonly products: Precision;
  /** Of matrix products only: what formulas compute for an element on the way is not counted. */
  readonly flops: Dim;
  /** Every element that is read or written counts once for each access that does so, however often it comes by. */
  readonly bytes: Dim;
}

/** Products of queries, keys and head that attention makes: scores and output; their gradients, and scores once more. */
const ATTENTION_PRODUCTS = { attention: 2, attentionGradient: 5 };

export function workOf(kernel: Kernel): Work {
  const distinct = new Map(kernel.accesses.map((access) => [keyOf(access), access]));
  const bytes = add(...[...distinct.values()].map((access) => bytesTouched(kernel, access)));
  return { products: productsOf(kernel), flops: flopsOf(kernel), bytes };
}

function flopsOf(kernel: Kernel): Dim {
  const points = multiply(...kernel.axes.map(({ size }) => size));
  switch (kernel.anchor) {
    case "contract":
      return multiply(2, points);
    case "attention":
    case "attentionGradient":
      return multiply(2 * ATTENTION_PRODUCTS[kernel.anchor], points);
    case "map":
    case "rows":
    case "columns":
      return ZERO;
  }
}

/** An access with a lookup may touch another element at every point. */
function bytesTouched({ axes, operands }: Kernel, { operand, strides, lookups }: Access): Dim {
  const varies = axes.filter((_, axis) => lookups.length > 0 || strides[axis] !== ZERO);
  return multiply(bytesOf(operands[operand]!.dtype), ...varies.map(({ size }) => size));
}

const keyOf = ({ operand, strides, lookups }: Access): string =>
  JSON.stringify([operand, strides.map(({ id }) => id), lookups.map(({ stride, index }) => [stride.id, index.id])]);

function productsOf(kernel: Kernel): Precision {
  switch (kernel.anchor) {
    case "contract":
      return narrowProduct(kernel) ?? "f32";
    case "attention":
    case "attentionGradient": {
      const { dtype } = kernel.operands[kernel.accesses[kernel.q]!.operand]!;
      return dtype === "bf16" || dtype === "f16" ? dtype : "f32";
    }
    case "map":
    case "rows":
    case "columns":
      return "f32";
  }
}

/** The 16-bit type that the values of both sides have, as far as their outermost operations tell. */
export function narrowProduct(kernel: ContractKernel): "bf16" | "f16" | undefined {
  const [left, right] = [rootOf(kernel, kernel.left), rootOf(kernel, kernel.right)];
  return left === right && (left === "bf16" || left === "f16") ? left : undefined;
}

function rootOf(kernel: ContractKernel, value: Expression): DType | undefined {
  if (value.kind === "call") return value.name === "bf16" || value.name === "f16" ? value.name : undefined;
  const access = value.kind === "variable" ? /^a(\d+)$/.exec(value.name) : null;
  return access === null ? undefined : kernel.operands[kernel.accesses[Number(access[1])]!.operand]!.dtype;
}
