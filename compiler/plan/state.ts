/**
 * State in place. A program makes the next value of a state as a tensor of its own; it may be written over the current
 * one when every reader of the current value runs before the first write, or reads each element only to replace it
 * (several kernels may write, each its own range). Where that does not hold, the next value is copied over the current
 * one at the very end.
 */
import { ONE, symbolsOf, ZERO, type Dim } from "../graph/dim.ts";
import { variable } from "../notation/expression.ts";
import { registerOf } from "../../contract/dtype.ts";
import type { Launch } from "../kernels/assemble.ts";
import type { Access } from "../kernels/kernel.ts";
import type { Storage } from "../kernels/place.ts";
import type { StatePort } from "./lower.ts";

export interface Settled {
  /** Storages that turn out to be others. */
  readonly aliases: ReadonlyMap<Storage, Storage>;
  readonly copies: readonly { readonly from: Storage; readonly to: Storage }[];
}

export function settleState(launches: readonly Launch[], states: readonly StatePort[]): Settled {
  const aliases = new Map<Storage, Storage>();
  const copies: { from: Storage; to: Storage }[] = [];
  for (const { current, next } of states) {
    if (next === undefined) continue;
    if (canReplace(launches, current, next)) aliases.set(next, current);
    else copies.push({ from: next, to: current });
  }
  return { aliases, copies };
}

function canReplace(launches: readonly Launch[], current: Storage, next: Storage): boolean {
  const first = launches.findIndex((launch) => touches(launch, next, "write"));
  return launches.every(
    (launch, i) => i < first || !touches(launch, current, "read") || replacesElementwise(launch, current, next),
  );
}

const touches = (launch: Launch, storage: Storage, role: "read" | "write"): boolean =>
  launch.operands.some((each, i) => each.storage === storage && launch.kernel.operands[i]?.role === role);

/** Whether the kernel reads `current` only at elements of `next` that the same iteration stores. */
function replacesElementwise(launch: Launch, current: Storage, next: Storage): boolean {
  const { kernel, operands } = launch;
  if (kernel.anchor === "attention" || kernel.anchor === "attentionGradient") return false;
  const where = (storage: Storage): { strides: readonly Dim[]; offset: Dim; plain: boolean }[] =>
    kernel.accesses.flatMap((access) => {
      const bound = operands[access.operand];
      if (bound?.storage !== storage) return [];
      return [{ strides: access.strides, offset: bound.offset, plain: access.lookups.length === 0 }];
    });
  const writes = where(next);
  return where(current).every((read) =>
    writes.some(
      (write) =>
        read.plain && read.offset === write.offset && read.strides.every((stride, i) => stride === write.strides[i]),
    ),
  );
}

/** A kernel that copies one whole buffer over another. */
export function copyLaunch(from: Storage, to: Storage): Launch {
  const axes = [{ name: "element", size: from.elements }];
  const access = (operand: number): Access => ({ operand, strides: [ONE], lookups: [] });
  return {
    kernel: {
      anchor: "map",
      name: "",
      formula: "",
      operands: [
        { name: "x0", dtype: from.dtype, role: "read" },
        { name: "y0", dtype: to.dtype, role: "write" },
      ],
      scalars: [],
      symbols: symbolsOf(from.elements),
      axes,
      accesses: [access(0), access(1)],
      stores: [{ access: 1, value: variable("a0", registerOf(from.dtype)) }],
    },
    operands: [
      { storage: from, offset: ZERO },
      { storage: to, offset: ZERO },
    ],
    scalars: [],
    group: {
      anchor: "map",
      position: -1,
      axes,
      loops: new Map([["element", 0]]),
      outer: 0,
      reduced: [],
      roles: [],
      node: undefined,
      roots: [],
    },
  };
}
