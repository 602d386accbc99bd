/** One hand-written CUDA kernel in the simulator, or on a GPU (../gpu/machine.ts). */
import { Diagnostic } from "../../contract/diagnostic.ts";
import type { TensorMapRequest } from "../../runtime/devices/bound/launches.ts";
import { runOnMachine, type Grid } from "../gpu/machine.ts";
import { NO_WORK } from "../device/small-plans.ts";

const PAGE = 4096;

export interface Written {
  /** The body of the kernel `void k_0(const Arguments& arguments)`; buffers are `arguments.a`, `.b` … */
  readonly body: string;
  readonly includes?: readonly string[];
  readonly blocks?: number;
  readonly threads: number;
  readonly sharedBytes?: number;
  /** What each buffer holds: numbers are 32-bit floats, typed arrays are what they are. */
  readonly buffers: readonly (readonly number[] | Float32Array | Uint32Array | Uint16Array | BigUint64Array)[];
  /** Tensor maps of whole buffers, as `arguments.map0`, `.map1` … */
  readonly maps?: readonly TensorMapOf[];
}

export interface TensorMapOf extends Omit<TensorMapRequest, "address"> {
  readonly buffer: number;
}

const NAMES = ["a", "b", "c", "d"];

const typeOf = (values: Written["buffers"][number]): string =>
  values instanceof Uint32Array
    ? "uint32_t"
    : values instanceof Uint16Array
      ? "uint16_t"
      : values instanceof BigUint64Array
        ? "uint64_t"
        : "float";

export function sourceOf({ body, includes = [], threads, buffers, maps = [] }: Written): string {
  const fields = [
    ...maps.map((_, i) => `TensorMap map${i};`),
    ...buffers.map((values, i) => `${typeOf(values)}* ${NAMES[i]};`),
  ];
  return [
    `#include "prelude.cuh"`,
    ...includes.map((name) => `#include "${name}"`),
    "namespace soracc {",
    `struct Arguments { ${fields.join(" ")} };`,
    `extern "C" __global__ void __launch_bounds__(${threads}) k_0(const __grid_constant__ Arguments arguments) {`,
    body,
    "}",
    "}  // namespace soracc",
    "",
  ].join("\n");
}

/** The bytes of the buffers afterwards. @throws Diagnostic of kind `simulation` */
export async function runKernel(written: Written, seed = 0, signal?: AbortSignal): Promise<Uint8Array[]> {
  const { blocks = 1, threads, sharedBytes = 0, maps = [] } = written;
  const contents = written.buffers.map((given) => {
    const array = Array.isArray(given) ? Float32Array.from(given) : (given as Float32Array);
    return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  });
  const starts = contents.map(
    (_, i) => PAGE * (1 + contents.slice(0, i).reduce((n, each) => n + Math.ceil(each.length / PAGE) + 1, 0)),
  );
  const bytes = starts.at(-1)! + contents.at(-1)!.length + PAGE;
  const memory = new Uint8Array(Math.ceil(bytes / PAGE) * PAGE);
  contents.forEach((content, i) => memory.set(content, starts[i]));
  const buffers = contents.map((content, i) => ({ name: NAMES[i]!, start: starts[i]!, bytes: content.length }));
  const argumentsOn: Grid["argumentsOn"] = ({ base, encodeTensorMap }) => {
    const addresses = new BigInt64Array(starts.map((start) => BigInt(base + start)));
    const encoded = maps.map((map) => encodeTensorMap({ ...map, address: base + starts[map.buffer]! }));
    return Buffer.concat([...encoded, Buffer.from(addresses.buffer)]);
  };
  const after = await runOnMachine({
    kernels: [{ symbol: "k", formula: "", source: sourceOf(written), phases: ["k_0"], sizes: [], work: NO_WORK }],
    grids: [{ kernel: 0, phase: 0, blocks, threads, sharedBytes, buffers, argumentsOn }],
    ...{ memory, seed, signal },
  });
  return contents.map((content, i) => after.slice(starts[i], starts[i]! + content.length));
}

export const floatsOf = (bytes: Uint8Array | undefined): number[] => [...new Float32Array(bytes!.buffer)];
export const wordsOf = (bytes: Uint8Array | undefined): number[] => [...new Uint32Array(bytes!.buffer)];

/** The message of what a kernel does wrong; undefined when it does nothing wrong. */
export async function mistakeOf(written: Written, seed = 0): Promise<string | undefined> {
  try {
    await runKernel(written, seed);
    return undefined;
  } catch (error) {
    if (error instanceof Diagnostic && error.parts.kind === "simulation") return error.message;
    throw error;
  }
}
