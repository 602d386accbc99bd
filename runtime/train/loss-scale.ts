/** Dynamic loss scaling as a run carries it: device scalars that `update` moves, kept in checkpoints as counters. */
import type { CheckpointState } from "../checkpoint/checkpoint-state.ts";
import { elementsFrom } from "../devices/elements.ts";
import type { States } from "../program/fill.ts";

/** Its states, and the counters of a checkpoint under the same names; `compiler/language/composites/loss-scale.ts`. */
const SCALARS = ["lossScale", "finiteSteps", "skippedSteps"] as const;

export interface LossScale {
  /** What the loss of the next step is multiplied by. */
  readonly lossScale: number;
  /** Steps left out so far because their gradient was not finite. */
  readonly skippedSteps: number;
}

type Counters = CheckpointState["counters"];

/** For a checkpoint; nothing where the programs scale no loss. */
export const lossScaleCounters = (states: States): Counters =>
  Object.fromEntries(
    SCALARS.flatMap((name) => {
      const state = states.get(name);
      return state === undefined ? [] : [[name, state.read()[0] ?? NaN]];
    }),
  );

/** As it stands after a step; undefined where the programs scale no loss. */
export function lossScaleOf(states: States): LossScale | undefined {
  const { lossScale, skippedSteps } = lossScaleCounters(states);
  return lossScale === undefined || skippedSteps === undefined ? undefined : { lossScale, skippedSteps };
}

/** Whether a checkpoint has all of it that the programs want: one that was written in another precision has none. */
export const hasLossScale = (counters: Counters, states: States): boolean =>
  SCALARS.every((name) => counters[name] !== undefined || !states.has(name));

export function restoreLossScale(counters: Counters, states: States): void {
  for (const name of SCALARS) {
    const [state, value] = [states.get(name), counters[name]];
    if (state !== undefined && value !== undefined) state.write(elementsFrom(state.dtype, [value]));
  }
}
