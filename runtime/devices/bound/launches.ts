/**
 * Steps of a plan for CUDA as launches: a grid of blocks for every phase, and what it is handed over. All phases of a
 * step get the same bytes: tensor maps of 128 bytes each, then operands and workspaces, sizes and scalars of 8 bytes
 * each. templates/cuda/prelude/prelude.cuh has the other side.
 */
import { CompilerBug } from "../../../contract/diagnostic.ts";
import { bytesOf, type DType } from "../../../contract/dtype.ts";
import type { Plan, PlanKernel, PlanStep, TensorMapSpec } from "../../../contract/plan.ts";
import type { Size } from "../../../contract/size.ts";
import { sizesIn } from "../../program/symbols.ts";
import { addressIn, type PlacedBuffer } from "./engine.ts";

/** One grid. */
export interface GridLaunch {
  /** Positions in the plan's kernels and in the kernel's phases. */
  readonly kernel: number;
  readonly phase: number;
  readonly blocks: number;
  readonly threads: number;
  readonly sharedBytes: number;
  readonly arguments: Uint8Array;
}

export interface TensorMapRequest {
  readonly address: number;
  readonly dtype: DType;
  /** In elements, innermost first. */
  readonly sizes: readonly number[];
  /** In bytes, of all dimensions but the innermost. */
  readonly strides: readonly number[];
  readonly box: readonly number[];
  readonly swizzle: TensorMapSpec["swizzle"];
}

/** The 128 bytes that describe a matrix in memory to a GPU. */
export type EncodeTensorMap = (request: TensorMapRequest) => Uint8Array;

export interface LaunchRequest {
  readonly plan: Plan;
  readonly buffers: readonly PlacedBuffer[];
  readonly evaluate: (size: Size) => number;
  readonly encodeTensorMap: EncodeTensorMap;
  /** Where the arena of temporaries begins. */
  readonly arena: number;
}

export const TENSOR_MAP_BYTES = 128;
/** A struct with tensor maps in it is a multiple of this long. */
const STRUCT_ALIGNMENT = 64;
/** Blocks along the one axis of a grid. */
const MOST_BLOCKS = 2 ** 31 - 1;

/** The grids of a step, in order. A phase without blocks has none. Throws when an offset or a count makes no sense. */
export function launchesOf(step: PlanStep, request: LaunchRequest): readonly GridLaunch[] {
  const { plan, evaluate } = request;
  const kernel = plan.kernels[step.kernel]!;
  if (kernel.gpu === undefined) throw new CompilerBug("the plan", `kernel ${kernel.symbol} has no launch for a GPU`);
  const blocks = step.tasks.map((tasks) => blocksOf(evaluate(tasks), kernel, step));
  if (blocks.every((count) => count === 0)) return [];
  const given = argumentsOf(step, kernel, request);
  return kernel.gpu.phases.flatMap(({ threads, sharedBytes }, phase): readonly GridLaunch[] =>
    blocks[phase] === 0
      ? []
      : [{ kernel: step.kernel, phase, blocks: blocks[phase]!, threads, sharedBytes, arguments: given }],
  );
}

function blocksOf(count: number, kernel: PlanKernel, { origin }: PlanStep): number {
  if (Number.isSafeInteger(count) && count >= 0 && count <= MOST_BLOCKS) return count;
  throw new CompilerBug("the plan", `kernel ${kernel.symbol} (${origin}) would have ${count} blocks`);
}

function argumentsOf(step: PlanStep, kernel: PlanKernel, request: LaunchRequest): Uint8Array {
  const { buffers, evaluate, encodeTensorMap, arena } = request;
  const maps = kernel.gpu?.tensorMaps ?? [];
  const own = sizesIn(kernel, step, evaluate);
  const words = step.arguments.length + step.sizes.length + step.scalars.length;
  const whole = TENSOR_MAP_BYTES * maps.length + 8 * words;
  const bytes = new Uint8Array(Math.ceil(whole / STRUCT_ALIGNMENT) * STRUCT_ALIGNMENT);
  const view = new DataView(bytes.buffer);
  const addresses = step.arguments.map(({ buffer, offset }) => addressIn(buffers[buffer]!, evaluate(offset), arena));

  maps.forEach((map, index) => {
    const encoded = encodeTensorMap({
      address: addresses[map.argument]! + own(map.offset) * bytesOf(map.dtype),
      dtype: map.dtype,
      sizes: map.sizes.map((size) => Math.max(1, own(size))), // of an empty matrix nothing is copied
      strides: map.strides.map(own),
      box: map.box,
      swizzle: map.swizzle,
    });
    bytes.set(encoded, TENSOR_MAP_BYTES * index);
  });
  let at = TENSOR_MAP_BYTES * maps.length;
  for (const value of [...addresses, ...step.sizes.map(evaluate)]) {
    view.setBigInt64(at, BigInt(value), true);
    at += 8;
  }
  for (const { value } of step.scalars) {
    view.setFloat64(at, evaluate(value), true);
    at += 8;
  }
  return bytes;
}
