/** How many threads work at a time, and how many compilers. */
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { Diagnostic } from "../../../contract/diagnostic.ts";

/** SORACC_THREADS, else as many as this process may use. @throws Diagnostic when that variable is no such number */
export function threadsWanted(): number {
  const text = process.env["SORACC_THREADS"];
  if (text === undefined || text === "") return Math.min(availableParallelism(), containerProcessors());
  const threads = Number(text);
  if (Number.isInteger(threads) && threads >= 1 && threads <= 1024) return threads;
  throw new Diagnostic({
    kind: "threads",
    message: `SORACC_THREADS is "${text}"`,
    fix: "give a whole number from 1 to 1024",
  });
}

/** What a container's quota allows: more threads than that only get throttled together. */
function containerProcessors(): number {
  try {
    const [quota, period] = readFileSync("/sys/fs/cgroup/cpu.max", "utf8").split(" ").map(Number);
    if (quota !== undefined && period !== undefined && quota > 0) return Math.max(1, Math.ceil(quota / period));
  } catch {
    // no quota
  }
  return Infinity;
}
