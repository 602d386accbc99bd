/** Contractions for tests: tensors over any axes in any order, random recipes, and the cases they make. */
import fc from "fast-check";
import { constant, multiply, ONE, symbol, ZERO, type Dim } from "../../compiler/graph/dim.ts";
import { rounded } from "../../compiler/kernels/interpret.ts";
import type { Access, Axis, ContractKernel, ContractRole, Operand, Store } from "../../compiler/kernels/kernel.ts";
import { literal, variable, type Expression } from "../../compiler/notation/expression.ts";
import { call } from "../../compiler/notation/functions.ts";
import type { DType } from "../../contract/dtype.ts";
import type { Case } from "./harness.ts";

/** One axis of a contraction under test. */
export interface Part {
  readonly role: ContractRole;
  readonly size: number;
  /** Whether the kernel is compiled for this size, or learns it at launch. */
  readonly fixed: boolean;
}

/** Collects operands and accesses; a tensor lies over some axes in some order. */
export function assemble(name: string, parts: readonly Part[]) {
  const symbols: string[] = [];
  const sizes: Record<string, number> = {};
  const axes: Axis[] = parts.map(({ role, size, fixed }, i) => {
    if (fixed) return { name: `${role}${i}`, size: constant(size) };
    symbols.push(`s_${i}`);
    sizes[`s_${i}`] = size;
    return { name: `${role}${i}`, size: symbol(`s_${i}`) };
  });
  const operands: Operand[] = [];
  const accesses: Access[] = [];
  const values: (Float64Array | number)[] = [];

  /** Strides of a tensor over `order`, the last axis contiguous, and its number of elements. */
  function layOut(order: readonly number[]): { strides: Dim[]; count: number } {
    const strides = parts.map((): Dim => ZERO);
    let stride: Dim = ONE;
    let count = 1;
    for (const axis of order.toReversed()) {
      strides[axis] = stride;
      stride = multiply(stride, axes[axis]!.size);
      count *= parts[axis]!.size;
    }
    return { strides, count };
  }

  function tensor(role: Operand["role"], dtype: DType, order: readonly number[]): number {
    const { strides, count } = layOut(order);
    operands.push({ name: `t_${operands.length}`, dtype, role });
    accesses.push({ operand: operands.length - 1, strides, lookups: [] });
    values.push(role === "read" ? noise(count).map((value) => rounded(value, dtype)) : count);
    return accesses.length - 1;
  }

  const axesOf = (...roles: ContractRole[]): number[] =>
    parts.flatMap((part, axis) => (roles.includes(part.role) ? [axis] : []));

  const finish = (left: Expression, right: Expression, stores: readonly Store[]): Case => {
    const roles = parts.map((part) => part.role);
    const formula = "acc = sum over k of left * right";
    const shared = { name, formula, operands, scalars: [], symbols: symbols.toSorted(), accesses, stores };
    const kernel: ContractKernel = { anchor: "contract", axes, roles, left, right, ...shared };
    return { kernel, sizes, operands: values };
  };
  return { axes, operands, accesses, values, sizes, tensor, axesOf, finish };
}

let state = 12345;
export function noise(count: number): Float64Array {
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.fround(state / 2 ** 31 - 1);
  });
}

export const read = (access: number, type: "f32" | "i32" = "f32"): Expression => variable(`a${access}`, type);
export const acc = variable("acc", "f32");
export const add = (a: Expression, b: Expression): Expression => call("add", [a, b]);
const mul = (a: Expression, b: Expression): Expression => call("mul", [a, b]);
const one = literal(1, "f32");

export interface Recipe {
  readonly parts: readonly Part[];
  /** Numbers that decide about the order of axes of each tensor. */
  readonly shuffle: readonly number[];
  readonly leftType: DType;
  readonly rightType: DType;
  readonly storeType: DType;
  readonly prologue: "none" | "rounded" | "normalised";
  readonly epilogue: "none" | "bias" | "gelu" | "residual";
  readonly sharedRight: boolean;
}

const size = fc.oneof(fc.constantFrom(1, 2, 3, 5, 8, 16), fc.integer({ min: 1, max: 37 }));
const parts = (role: ContractRole, most: number): fc.Arbitrary<Part[]> =>
  fc.array(fc.record({ role: fc.constant(role), size, fixed: fc.boolean() }), { maxLength: most });

export const recipes: fc.Arbitrary<Recipe> = fc
  .record({
    parts: fc.tuple(parts("batch", 2), parts("m", 2), parts("n", 2), parts("k", 2)).map((lists) => lists.flat()),
    order: fc.infiniteStream(fc.nat(1000)).map((stream) => [...stream.take(8)]),
    shuffle: fc.infiniteStream(fc.nat(1000)).map((stream) => [...stream.take(32)]),
    leftType: fc.constantFrom<DType>("f32", "f32", "bf16", "f16"),
    rightType: fc.constantFrom<DType>("f32", "f32", "bf16", "f16"),
    storeType: fc.constantFrom<DType>("f32", "f32", "bf16"),
    prologue: fc.constantFrom("none" as const, "none" as const, "rounded" as const, "normalised" as const),
    epilogue: fc.constantFrom("none" as const, "bias" as const, "gelu" as const, "residual" as const),
    sharedRight: fc.boolean(),
  })
  .map(({ order, ...recipe }) => ({ ...recipe, parts: shuffled(recipe.parts, order) }))
  .filter((recipe) => recipe.parts.reduce((work, part) => work * part.size, 1) < 60_000);

const shuffled = <T>(list: readonly T[], keys: readonly number[]): T[] =>
  list
    .map((item, i) => ({ item, key: keys[i % keys.length]! }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);

export function caseOf(recipe: Recipe, position: number): Case {
  const made = assemble(`contract_${position}`, recipe.parts);
  const { tensor, axesOf, finish } = made;
  let turn = 0;
  const order = (axes: readonly number[]): number[] => shuffled(axes, recipe.shuffle.slice((turn += 3)));
  let left = read(tensor("read", recipe.leftType, order(axesOf("batch", "m", "k"))));
  if (recipe.prologue === "normalised") {
    const [mean, scale] = [tensor("read", "f32", axesOf("batch", "m")), tensor("read", "f32", axesOf("batch", "k"))];
    left = mul(call("sub", [left, read(mean)]), add(one, read(scale)));
  }
  if (recipe.prologue === "rounded") left = call("bf16", [left]);
  const rightAxes = recipe.sharedRight ? axesOf("n", "k") : axesOf("batch", "n", "k");
  let right = read(tensor("read", recipe.rightType, order(rightAxes)));
  if (recipe.prologue === "rounded") right = call("bf16", [right]);
  const outputs = order(axesOf("batch", "m", "n"));
  const residual = recipe.epilogue === "residual" ? tensor("read", recipe.storeType, outputs) : undefined;
  const y = tensor("write", recipe.storeType, outputs);
  if (recipe.epilogue === "none") return finish(left, right, [{ access: y, value: acc }]);
  const bias = add(acc, read(tensor("read", "f32", axesOf("n"))));
  if (recipe.epilogue === "bias") return finish(left, right, [{ access: y, value: bias }]);
  if (recipe.epilogue === "gelu") {
    const saved = tensor("write", "f32", order(axesOf("batch", "m", "n")));
    const cdf = add(one, call("erf", [mul(bias, literal(Math.SQRT1_2, "f32"))]));
    const activated = mul(mul(literal(0.5, "f32"), bias), cdf);
    return finish(left, right, [
      { access: saved, value: bias },
      { access: y, value: activated },
    ]);
  }
  const gate = read(tensor("read", "f32", axesOf("batch", "n")));
  const whole = finish(left, right, [{ access: y, value: add(mul(gate, bias), read(residual!)) }]);
  return { ...whole, inPlace: new Map([[made.accesses[y]!.operand, made.accesses[residual!]!.operand]]) };
}
