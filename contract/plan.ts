/**
 * The Plan language: what a training binary carries. Programs as lists of steps over buffers, with every size still
 * an expression over symbols; offsets are computed when a shape is bound, so a new resolution never recompiles a kernel.
 *
 * Semantics
 *   - Steps run in order. A step sees everything earlier steps wrote.
 *   - A `temporary` buffer holds undefined bytes before its first step and is dead after its last one; two temporaries
 *     may share memory when their lives do not meet. `input` buffers are written by the caller and never by a step.
 *     `output` buffers are read by the caller after a run. `state` buffers belong to the caller, live across runs and
 *     across programs under their name, and hold the next value once the run is over. `constant` buffers never change.
 *     `resident` buffers depend on sizes alone: the steps marked `once` fill them when a shape is bound.
 *   - An argument is a buffer and an offset in bytes into it.
 *   - Guards are equalities between sizes that the compiler could not decide; binding checks them.
 */
import type { DType, ScalarType } from "./dtype.ts";
import type { Precision } from "./precision.ts";
import type { Size } from "./size.ts";

export const PLAN_VERSION = 3;

/** GPU architectures that kernels are compiled for: Ampere and later, Hopper, Blackwell. */
export const ARCHS = ["sm_80", "sm_90a", "sm_100"] as const;
export type Arch = (typeof ARCHS)[number];

export interface Plan {
  readonly version: typeof PLAN_VERSION;
  readonly model: ModelFacts;
  readonly target: "cpu" | "cuda";
  /** What the kernels of a plan for CUDA are written for. */
  readonly arch?: Arch | undefined;
  readonly precision: "f32" | "bf16" | "f16";
  readonly kernels: readonly PlanKernel[];
  readonly constants: readonly PlanConstant[];
  readonly parameters: readonly ParameterRange[];
  readonly programs: Readonly<Record<string, PlanProgram>>;
}

export interface ModelFacts {
  readonly name: string;
  /** The model file's configuration after presets and `--set`. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly preset: string | undefined;
  /** What the runtime has to know to drive the programs: diffusion process, samplers, recipe. JSON. */
  readonly recipe: Readonly<Record<string, unknown>>;
}

/** Where a parameter lies in the arena of its kind (`parameters`, and in parallel gradients, m, v, EMA), in elements. */
export interface ParameterRange {
  readonly name: string;
  readonly shape: readonly number[];
  readonly offset: number;
}

export interface PlanKernel {
  /** Unique by content: equal kernels are one entry. */
  readonly symbol: string;
  readonly formula: string;
  readonly source: string;
  readonly phases: readonly string[];
  /** The names in which `work` and the tensor maps give sizes; the first values of a step's `sizes` are theirs. */
  readonly sizes: readonly string[];
  /** What one launch has to do at least, for profiles. */
  readonly work: KernelWork;
  /** The operator that it was first made for, and the line: `blocks.attn, models/dit.sora.ts:41:7`. For messages. */
  readonly from?: string | undefined;
  /** In a plan for CUDA. */
  readonly gpu?: GpuLaunch | undefined;
}

export interface KernelWork {
  /** Multiplications and additions of matrix products, and the type of what is multiplied. */
  readonly flops: Size;
  readonly products: Precision;
  /** What is read from memory and written to it. */
  readonly bytes: Size;
}

/** How a GPU launches a kernel: a task is a block. */
export interface GpuLaunch {
  /** Threads of a block and bytes of its dynamic shared memory, for each phase. */
  readonly phases: readonly { readonly threads: number; readonly sharedBytes: number }[];
  /** Those come first among what a launch hands over, 128 bytes each. */
  readonly tensorMaps: readonly TensorMapSpec[];
}

/** A matrix in memory that blocks copy boxes of. Elements beyond its sizes read as zero. */
export interface TensorMapSpec {
  /** Position in the arguments of a step. */
  readonly argument: number;
  readonly dtype: DType;
  /** Elements from the argument's place to the first one. */
  readonly offset: Size;
  /** Elements along each dimension, innermost first. */
  readonly sizes: readonly Size[];
  /** Bytes from one element to the next along dimensions 1, 2 …; the innermost is contiguous. */
  readonly strides: readonly Size[];
  /** Elements of a box along each dimension. */
  readonly box: readonly number[];
  /** Bytes within which the 16-byte chunks of a box are permuted. */
  readonly swizzle: 0 | 32 | 64 | 128;
}

export interface PlanConstant {
  readonly dtype: DType;
  /** Little-endian bytes, base64. */
  readonly data: string;
}

export interface PlanProgram {
  /** Sorted names of the sizes that are settled at binding. */
  readonly symbols: readonly string[];
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly state: readonly Port[];
  readonly buffers: readonly PlanBuffer[];
  readonly steps: readonly PlanStep[];
  readonly guards: readonly Guard[];
}

export interface Port {
  readonly name: string;
  readonly dtype: DType;
  readonly axes: readonly { readonly name: string; readonly size: Size }[];
  readonly buffer: number;
}

export interface PlanBuffer {
  /** For people and memory maps: the value it holds. */
  readonly name: string;
  readonly bytes: Size;
  readonly kind: "input" | "output" | "state" | "constant" | "temporary" | "resident";
  /** For `constant`: position in `constants`. */
  readonly constant?: number | undefined;
  /** For `temporary`: positions in `steps` of the first and the last step that touch it. */
  readonly first?: number | undefined;
  readonly last?: number | undefined;
}

export interface PlanStep {
  /** Position in `kernels`. */
  readonly kernel: number;
  /** The kernel's operands in order, then its workspaces. */
  readonly arguments: readonly { readonly buffer: number; readonly offset: Size }[];
  /** Values of the sizes that the kernel takes, in its order. */
  readonly sizes: readonly Size[];
  /** Constants by reference; those that are sizes are settled at binding. */
  readonly scalars: readonly { readonly type: ScalarType; readonly value: Size }[];
  /** How many tasks each phase has. */
  readonly tasks: readonly Size[];
  /** Bytes of private memory per thread. */
  readonly scratch: Size;
  /** Depends on sizes alone: runs when a shape is bound, not with every run. */
  readonly once: boolean;
  /** Where in the model it comes from, for profiles and errors. */
  readonly origin: string;
}

export interface Guard {
  readonly left: Size;
  readonly right: Size;
  /** What the user reads when the two differ. */
  readonly message: string;
}
