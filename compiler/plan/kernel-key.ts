/** A text that is equal for kernels that do the same work, as long as they are not named yet. */
import type { Dim } from "../graph/dim.ts";
import type { Access, Kernel, Operand } from "../kernels/kernel.ts";

/** What makes up most of a kernel is spelled by hand: plans have thousands of launches. */
export function kernelKey(kernel: Kernel): string {
  const { operands, accesses, axes, name: _name, formula: _formula, ...rest } = kernel;
  let key = "";
  for (const operand of operands) key += operandKey(operand);
  for (const axis of axes) key += `${axis.name}=${axis.size.id};`;
  for (const access of accesses) key += accessKey(access);
  return key + keyOf(rest);
}

const operandKey = ({ name, dtype, role }: Operand): string => `${name}:${dtype}:${role};`;

function accessKey({ operand, strides, lookups, guard }: Access): string {
  let key = `${operand}[`;
  for (const stride of strides) key += `${stride.id},`;
  for (const lookup of lookups) key += `${lookup.stride.id}@${lookup.index.id},`;
  return `${key}]${guard?.id ?? ""}`;
}

function keyOf(value: unknown): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(keyOf).join()}]`;
  if ("terms" in value && "key" in value) return `<${String((value as Dim).id)}>`;
  if ("kind" in value && "id" in value) return `e${String(value.id)}`;
  return `{${Object.entries(value)
    .map(([name, part]) => `${name}:${keyOf(part)}`)
    .join()}}`;
}
