/**
 * The order of launches: that of their groups, but for those that leave nothing in a temporary, such as the gradient of a
 * weight, added to the state of all. Such a launch runs as soon as what it reads is there: it needs no more memory than
 * later, and what it was the last to read is free before the next launch asks for memory of its own.
 */
import type { Launch } from "../kernels/assemble.ts";
import type { Storage } from "../kernels/place.ts";
import type { StatePort } from "./lower.ts";

export function inOrder(launches: readonly Launch[], states: readonly StatePort[]): Launch[] {
  const currentOf = new Map(states.flatMap(({ current, next }) => (next === undefined ? [] : [[next, current]])));
  /** The buffers a launch touches; the next value of a state stands for the state, since it may take its place. */
  const touched = (launch: Launch, role: "read" | "write"): ReadonlySet<Storage> =>
    new Set(
      launch.operands
        .filter((_, i) => launch.kernel.operands[i]?.role === role)
        .map(({ storage }) => currentOf.get(storage) ?? storage),
    );
  const reads = new Map(launches.map((launch) => [launch, touched(launch, "read")]));
  const writes = new Map(launches.map((launch) => [launch, touched(launch, "write")]));
  const isEnd = (launch: Launch): boolean => [...writes.get(launch)!].every(({ kind }) => kind.of !== "temporary");
  const follows = (later: Launch, earlier: Launch): boolean =>
    [...writes.get(earlier)!].some((storage) => reads.get(later)!.has(storage) || writes.get(later)!.has(storage)) ||
    [...writes.get(later)!].some((storage) => reads.get(earlier)!.has(storage));

  const ordered: Launch[] = [];
  for (const launch of launches) {
    let at = ordered.length;
    if (isEnd(launch)) while (at > 0 && !follows(launch, ordered[at - 1]!)) at--;
    ordered.splice(at, 0, launch);
  }
  return ordered;
}
