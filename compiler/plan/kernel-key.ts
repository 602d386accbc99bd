/** A text that is equal for kernels that do the same work, as long as they are not named yet. */
import type { Kernel } from "../kernels/kernel.ts";

export function kernelKey(kernel: Kernel): string {
  return keyOf(kernel);
}

function keyOf(value: unknown): string {
  if (typeof value !== "object" || value === null) return String(JSON.stringify(value));
  if (Array.isArray(value)) return `[${value.map(keyOf).join()}]`;
  if ("terms" in value && "key" in value) return `<${String(value.key)}>`;
  if ("kind" in value && "id" in value) return `e${String(value.id)}`;
  return `{${Object.entries(value)
    .map(([name, part]) => `${name}:${keyOf(part)}`)
    .join()}}`;
}
