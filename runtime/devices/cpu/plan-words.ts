/**
 * A bound program as the flat list of 64-bit words that the host library reads: every address, size and task count
 * settled. Addresses inside the arena of temporaries are remembered, so that the list can follow the arena when it moves.
 */
import type { PlanStep } from "../../../contract/plan.ts";
import type { Size } from "../../../contract/size.ts";
import { addressIn, type BufferPlace, type PlacedBuffer } from "../bound/engine.ts";

const MAGIC = 0x736f7261;

export interface PlanWords {
  readonly words: BigInt64Array;
  readonly steps: number;
  /** The most scratch a step asks for, per thread. */
  readonly scratch: number;
  /** Rewrites the addresses of temporaries for an arena that begins at `base`. */
  readonly moveArena: (base: number) => void;
}

export interface WordsRequest {
  readonly steps: readonly PlanStep[];
  readonly buffers: readonly PlacedBuffer[];
  /** Addresses of the phases of each kernel of the plan. */
  readonly functions: readonly (readonly number[])[];
  readonly evaluate: (size: Size) => number;
  /** What is overwritten with 0xff before every run. */
  readonly poison: readonly BufferPlace[];
}

export function writePlanWords({ steps, buffers, functions, evaluate, poison }: WordsRequest): PlanWords {
  const count = steps.reduce(
    (sum, step) => sum + 5 + 2 * step.tasks.length + step.arguments.length + step.sizes.length + step.scalars.length,
    3 + 2 * poison.length,
  );
  const words = new BigInt64Array(count);
  const halves = new Uint32Array(words.buffer);
  const doubles = new Float64Array(words.buffer);
  const inArena: { readonly at: number; readonly offset: number }[] = [];
  let at = 0;
  let scratch = 0;

  /** Two halves are written because making a BigInt per word would take most of the time. */
  function set(position: number, value: number): void {
    if (!Number.isSafeInteger(value)) throw new RangeError(`${value} is no address, size or count`);
    const high = Math.floor(value / 2 ** 32);
    halves[2 * position] = value - high * 2 ** 32;
    halves[2 * position + 1] = high;
  }
  const put = (value: number): void => set(at++, value);
  const putAddress = (address: number, movable: boolean): void => {
    if (movable) inArena.push({ at, offset: address });
    put(movable ? 0 : address);
  };

  put(MAGIC);
  put(steps.length);
  put(poison.length);
  for (const place of poison) {
    putAddress(place.address, place.inArena);
    put(place.bytes);
  }
  for (const step of steps) {
    const phases = functions[step.kernel]!;
    const stepScratch = evaluate(step.scratch);
    scratch = Math.max(scratch, stepScratch);
    put(stepScratch);
    put(phases.length);
    put(step.arguments.length);
    put(step.sizes.length);
    put(step.scalars.length);
    for (const address of phases) put(address);
    for (const tasks of step.tasks) put(evaluate(tasks));
    for (const { buffer, offset } of step.arguments) {
      const place = buffers[buffer]!;
      putAddress(addressIn(place, evaluate(offset), 0), place.inArena);
    }
    for (const size of step.sizes) put(evaluate(size));
    for (const { value } of step.scalars) doubles[at++] = evaluate(value);
  }

  return {
    words,
    steps: steps.length,
    scratch,
    moveArena: (base) => {
      for (const place of inArena) set(place.at, base + place.offset);
    },
  };
}
