/** A text that is equal for kernels that do the same work. Names and formulas, which only readers need, are left out. */
import type { Kernel } from "../kernels/kernel.ts";

export function kernelKey(kernel: Kernel): string {
  return keyOf({ ...kernel, name: "", formula: "" });
}

function keyOf(value: unknown): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "undefined";
  if (Array.isArray(value)) return `[${value.map(keyOf).join()}]`;
  if ("terms" in value && "key" in value) return `<${String(value.key)}>`;
  if ("kind" in value && "id" in value) return `e${String(value.id)}`;
  return `{${Object.entries(value).map(([name, part]) => `${name}:${keyOf(part)}`).join()}}`;
}
