/**
 * The one interface of all devices. A device loads a plan (compiles its kernels), a loaded plan is bound to sizes and
 * state, and a bound program runs.
 *
 * Runs of one device happen one after the other; memory of temporaries is shared between all bound programs. Calls
 * that touch a buffer while a run uses it throw: await the run first.
 */
import type { DType } from "../../contract/dtype.ts";
import type { Plan } from "../../contract/plan.ts";
import type { Precision } from "../../contract/precision.ts";
import type { Elements } from "./elements.ts";

export interface Device {
  readonly name: string;
  /** For people: the processor, the threads, the instruction sets that matter. */
  readonly description: string;
  /** Compiles what the cache does not hold. Throws a Diagnostic when the machine or a kernel does not allow it. */
  load(plan: Plan, progress?: (progress: LoadProgress) => void): Promise<LoadedPlan>;
  /** Ends running work and gives everything back. Whatever came from this device is unusable afterwards. */
  close(): Promise<void>;
}

export interface LoadProgress {
  /** Distinct kernels of the plan. */
  readonly kernels: number;
  /** Those that are ready, from the cache or compiled. */
  readonly ready: number;
  /** Those that had to be compiled so far. */
  readonly compiled: number;
  /** What is being done, for a progress line: `compiling kernels`, `linking`. */
  readonly doing: "compiling kernels" | "linking" | "ready";
}

export interface LoadedPlan {
  readonly plan: Plan;
  /** How the kernels came about. */
  readonly facts: { readonly kernels: number; readonly compiled: number; readonly seconds: number };
  /** Zeroed memory that belongs to the caller and lives across runs and programs, until it is freed. */
  createState(name: string, dtype: DType, elements: number): DeviceBuffer;
  /**
   * A program with all sizes settled. Equal sizes and state give the same bound program as long as it is cached; a
   * bound program that was dropped to make room throws when it is used, so bind before every run: it costs nothing.
   * Throws a Diagnostic of kind `shape` when a guard fails, `memory` when it cannot fit.
   */
  bind(program: string, symbols: Symbols, state: ReadonlyMap<string, DeviceBuffer>): BoundProgram;
  close(): Promise<void>;
}

/** The value of every size that a program leaves open. */
export type Symbols = Readonly<Record<string, number>>;

export interface DeviceBuffer {
  readonly name: string;
  readonly dtype: DType;
  readonly elements: number;
  /** Stores `values` from element `offset` on; 16-bit floats are rounded to nearest, ties to even. */
  write(values: Elements, offset?: number): void;
  /** A copy of `count` elements from `offset` on; 16-bit floats come back as float32. */
  read(offset?: number, count?: number): Elements;
  /** Little-endian bytes as they lie in memory, of `count` elements from `offset` on. */
  readBytes(offset?: number, count?: number): Uint8Array;
  writeBytes(bytes: Uint8Array, offset?: number): void;
  free(): void;
}

export interface BoundProgram {
  readonly program: string;
  readonly symbols: Symbols;
  /** Bytes this program needs while it runs: temporaries at their peak, its own buffers, state, constants, scratch. */
  readonly peakBytes: number;
  readonly memory: MemoryFacts;
  /** Copies all elements of an input; it stays as written until it is written again. */
  write(input: string, values: Elements): void;
  /** A copy of all elements of an output as the last run left them; 16-bit floats come back as float32. */
  read(output: string): Elements;
  /** The shape of an input, an output or a state under the bound sizes. */
  shape(port: string): readonly number[];
  /** Rejects with a Diagnostic of kind `cancelled` when `cancel` stopped it; state is then undefined. */
  run(times?: number, options?: RunOptions): Promise<void>;
  /** Stops the run in progress: at once, or after the repetition in progress (state is then whole). */
  cancel(how?: "now" | "between repetitions"): void;
  /** Time per step, summed over all runs that measured it. */
  profile(): readonly StepProfile[];
}

export interface RunOptions {
  /**
   * Measures the time of every step. A CPU always does, it costs nothing there. A GPU launches the steps of such a run
   * one by one, so the run as a whole takes longer.
   */
  readonly profile?: boolean | undefined;
}

export interface MemoryFacts {
  readonly temporaries: number;
  /** No placement of the temporaries can be smaller. */
  readonly temporariesLowerBound: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly resident: number;
  readonly state: number;
  readonly constants: number;
  readonly scratch: number;
}

export interface StepProfile {
  readonly step: number;
  readonly kernel: string;
  readonly origin: string;
  readonly nanoseconds: number;
  /** What a run of it has to do at least: see KernelWork. */
  readonly flops: number;
  readonly products: Precision;
  readonly bytes: number;
}
