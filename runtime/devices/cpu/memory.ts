/** How much memory this process may still take. */
import { readFileSync } from "node:fs";
import { totalmem } from "node:os";
import { constrainedMemory } from "node:process";

/** Bytes that can still be had without pushing other programs out. */
export function availableMemory(): number {
  const limit = Math.min(constrainedMemory() || Infinity, totalmem()); // 0: not limited
  try {
    const [, kilobytes] = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "utf8")) ?? [];
    if (kilobytes !== undefined) return Math.min(limit, Number(kilobytes) * 1024);
  } catch {
    // no /proc: only the total is known
  }
  return limit;
}
