/** One hand-written CUDA kernel in the simulator. */
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
  /** What each buffer holds: numbers are 32-bit floats, typed arrays are what they are. */
  readonly buffers: readonly (readonly number[] | Float32Array | Uint32Array | Uint16Array | BigUint64Array)[];
  /** Tensor maps of whole buffers, as `arguments.map0`, `.map1` … */
  readonly maps?: readonly TensorMapOf[];
}

export interface TensorMapOf extends Pick<
  Parameters<typeof encodeTensorMap>[0],
  "dtype" | "sizes" | "strides" | "box" | "swizzle"
> {
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
  const source = sourceOf(written);
  const one = await open();
  const { libraries } = await one.build([{ symbol: "k", formula: "", source, phases: ["k_0"] }], () => undefined);
  const contents = written.buffers.map((given) => {
    const array = Array.isArray(given) ? Float32Array.from(given) : (given as Float32Array);
    return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  });
  const starts = contents.map(
    (_, i) => PAGE * (1 + contents.slice(0, i).reduce((n, each) => n + Math.ceil(each.length / PAGE) + 1, 0)),
  );
  const bytes = starts.at(-1)! + contents.at(-1)!.length + PAGE;
  const memory = Buffer.alloc(Math.ceil(bytes / PAGE) * PAGE);
  contents.forEach((content, i) => memory.set(content, starts[i]));
  const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "soracc-sim-"));
  const path = join(folder, "memory");
  try {
    writeFileSync(path, memory);
    const addresses = new BigInt64Array(starts.map((start) => BigInt(BASE + start)));
    const maps = (written.maps ?? []).map((map) => encodeTensorMap({ ...map, address: BASE + starts[map.buffer]! }));
    await one.run({
      launches: [
        {
          ...{ library: libraries[0]!, symbol: "k_0", origin: "a test", formula: "" },
          ...{ blocks: written.blocks ?? 1, threads: written.threads, sharedBytes: written.sharedBytes ?? 0 },
          arguments: Buffer.concat([...maps, Buffer.from(addresses.buffer)]),
          buffers: contents.map((content, i) => ({
            name: NAMES[i]!,
            address: BASE + starts[i]!,
            bytes: content.length,
          })),
        },
      ],
      ...{ times: 1, seed, memory: { path, base: BASE, bytes: memory.length } },
      ...(signal === undefined ? {} : { signal }),
    });
    const after = readFileSync(path);
    return contents.map((content, i) => Uint8Array.from(after.subarray(starts[i], starts[i]! + content.length)));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
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
