/** One hand-written CUDA kernel in the simulator, over float buffers. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cudaSources } from "../../compiler/emit/cuda-sources.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { encodeTensorMap, openSimulator, type Simulator } from "../../runtime/devices/sim/simulator.ts";

const BASE = 2 ** 40;
const PAGE = 4096;

let simulator: Promise<Simulator> | undefined;
const open = async (): Promise<Simulator> => (simulator ??= openSimulator({ sources: cudaSources().sim }));

export interface Written {
  /** The body of the kernel `void k_0(const Arguments& arguments)`; buffers are `arguments.a`, `.b` … */
  readonly body: string;
  readonly includes?: readonly string[];
  readonly blocks?: number;
  readonly threads: number;
  readonly sharedBytes?: number;
  /** Elements of each buffer, as 32-bit floats. */
  readonly buffers: readonly (readonly number[] | Float32Array | Uint32Array)[];
  /** A tensor map of the first buffer, as `arguments.map`. */
  readonly map?: Pick<Parameters<typeof encodeTensorMap>[0], "dtype" | "sizes" | "strides" | "box" | "swizzle">;
}

const NAMES = ["a", "b", "c", "d"];

export function sourceOf({ body, includes = [], threads, buffers, map }: Written): string {
  return [
    `#include "prelude.cuh"`,
    ...includes.map((name) => `#include "${name}"`),
    "namespace soracc {",
    `struct Arguments { ${map === undefined ? "" : "TensorMap map; "}${buffers.map((_, i) => `float* ${NAMES[i]};`).join(" ")} };`,
    `extern "C" __global__ void __launch_bounds__(${threads}) k_0(const __grid_constant__ Arguments arguments) {`,
    body,
    "}",
    "}  // namespace soracc",
    "",
  ].join("\n");
}

/** The buffers afterwards, as bits. @throws Diagnostic of kind `simulation` */
export async function runKernel(written: Written, seed = 0): Promise<Uint32Array[]> {
  const source = sourceOf(written);
  const one = await open();
  const { libraries } = await one.build([{ symbol: "k", formula: "", source, phases: ["k_0"] }], () => undefined);
  const arrays = written.buffers.map((given) =>
    given instanceof Uint32Array ? given : new Uint32Array(Float32Array.from(given).buffer),
  );
  const starts = arrays.map(
    (_, i) => PAGE * (1 + arrays.slice(0, i).reduce((n, each) => n + Math.ceil(each.byteLength / PAGE) + 1, 0)),
  );
  const bytes = starts.at(-1)! + arrays.at(-1)!.byteLength + PAGE;
  const memory = Buffer.alloc(Math.ceil(bytes / PAGE) * PAGE);
  arrays.forEach((array, i) => memory.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), starts[i]));
  const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "soracc-sim-"));
  const path = join(folder, "memory");
  try {
    writeFileSync(path, memory);
    const addresses = new BigInt64Array(starts.map((start) => BigInt(BASE + start)));
    const map = written.map === undefined ? [] : [encodeTensorMap({ ...written.map, address: BASE + starts[0]! })];
    await one.run({
      launches: [
        {
          ...{ library: libraries[0]!, symbol: "k_0", origin: "a test", formula: "" },
          ...{ blocks: written.blocks ?? 1, threads: written.threads, sharedBytes: written.sharedBytes ?? 0 },
          arguments: Buffer.concat([...map, Buffer.from(addresses.buffer)]),
          buffers: arrays.map((array, i) => ({ name: NAMES[i]!, address: BASE + starts[i]!, bytes: array.byteLength })),
        },
      ],
      ...{ times: 1, seed, memory: { path, base: BASE, bytes: memory.length } },
    });
    const after = readFileSync(path);
    return arrays.map(
      (array, i) => new Uint32Array(Uint8Array.from(after.subarray(starts[i], starts[i]! + array.byteLength)).buffer),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export const floatsOf = (bits: Uint32Array): Float32Array => new Float32Array(bits.buffer);

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
