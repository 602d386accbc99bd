/**
 * What a machine has of its own, below everything that devices share: memory by address, kernels, lists of steps that
 * run. `device.ts` makes a Device of it. Addresses are numbers, since memory of processes and of GPUs ends below 2^53.
 */
import type { DType } from "../../../contract/dtype.ts";
import type { Plan, PlanStep } from "../../../contract/plan.ts";
import type { Size } from "../../../contract/size.ts";
import type { LoadProgress } from "../device.ts";
import type { Elements } from "../elements.ts";

export interface Engine {
  readonly name: string;
  /** What plans it runs. */
  readonly target: Plan["target"];
  /** For people. */
  readonly description: string;
  readonly memory: Memory;
  /** Temporaries and outputs are filled with 0xff before every run (NaN in all float types), and blocks have guards. */
  readonly poison: boolean;
  /** Compiles and loads the kernels of a plan. Throws a Diagnostic when the machine or a kernel does not allow it. */
  load(plan: Plan, progress: (progress: LoadProgress) => void): Promise<LoadedKernels>;
  /** Gives back what the engine holds. Nothing runs any more, and all memory was released. */
  close(): Promise<void>;
}

/** Memory that kernels work on. None of it is touched while a run uses it. */
export interface Memory {
  /** Zeroed, aligned to 64 bytes. Throws a Diagnostic of kind `memory`. */
  allocate(bytes: number, purpose: string): number;
  /** `bytes` as allocated. */
  release(address: number, bytes: number): void;
  /** Stores all of `values` as `dtype` at `address`, where at least `room` bytes belong to us. */
  write(address: number, room: number, dtype: DType, values: Elements): void;
  read(address: number, room: number, dtype: DType, count: number): Elements;
  fill(address: number, byte: number, bytes: number): void;
  /** Position of the first of `bytes` bytes that is not `byte`; -1 when all are. */
  differs(address: number, byte: number, bytes: number): number;
  /** Bytes that can still be had. */
  available(): number;
}

export interface LoadedKernels {
  /** How many had to be compiled. */
  readonly compiled: number;
  /** Steps of a program of the plan. Throws when an offset or a size makes no sense. */
  stepList(request: StepListRequest): StepList;
  close(): void;
}

export interface StepListRequest {
  readonly steps: readonly PlanStep[];
  /** One per buffer of the program. */
  readonly buffers: readonly PlacedBuffer[];
  readonly evaluate: (size: Size) => number;
  /** What is overwritten with 0xff before every run. */
  readonly poison: readonly BufferPlace[];
  /** They run a single time. */
  readonly once: boolean;
}

export interface BufferPlace {
  /** In memory, or in the arena of temporaries when `inArena`. */
  readonly address: number;
  readonly bytes: number;
  readonly inArena: boolean;
}

export interface PlacedBuffer extends BufferPlace {
  readonly name: string;
}

/** Steps with every size settled; only the place of the arena of temporaries is open. */
export interface StepList {
  /** Bytes of private memory that all threads together need. */
  readonly scratch: number;
  /** Ready to run with an arena that begins at `arena`. One of them exists at a time. */
  at(arena: number): Runnable;
}

export interface Runnable {
  /** Never blocks the JavaScript thread. One of a device at a time. Where `measured`, it takes the time of every step. */
  run(times: number, measured: boolean): Promise<"done" | "cancelled">;
  cancel(how: "now" | "between repetitions"): void;
  /** Nanoseconds per step, over all runs that took them. */
  profile(): Float64Array;
  free(): void;
}

/** The address of byte `offset` of a buffer. Throws a RangeError when there is no such byte. */
export function addressIn(buffer: PlacedBuffer, offset: number, arena: number): number {
  if (!Number.isSafeInteger(offset) || offset < 0 || offset > buffer.bytes) {
    throw new RangeError(`offset ${offset} lies outside of buffer ${buffer.name} (${buffer.bytes} bytes)`);
  }
  return (buffer.inArena ? arena : 0) + buffer.address + offset;
}
