/**
 * Where the kernels of tests run: in the simulator, or with SORACC_TEST_MACHINE=gpu on the first GPU. Both are given
 * the same bytes and hand the same bytes back.
 */
import { closeSync, existsSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cudaSources } from "../../compiler/emit/cuda-sources.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";
import type { PlanKernel } from "../../contract/plan.ts";
import type { EncodeTensorMap } from "../../runtime/devices/bound/launches.ts";
import { openCacheFolder } from "../../runtime/devices/cpu/cache-folder.ts";
import { buildCubins } from "../../runtime/devices/cuda/cubins.ts";
import { openDriver } from "../../runtime/devices/cuda/driver.ts";
import { archOf } from "../../runtime/devices/cuda/engine.ts";
import { openNvrtc } from "../../runtime/devices/cuda/nvrtc.ts";
import { encodeTensorMap, openSimulator } from "../../runtime/devices/sim/simulator.ts";

/** Memory of the machine, while it works. */
export interface Ground {
  /** The address of the first byte. */
  readonly base: number;
  readonly encodeTensorMap: EncodeTensorMap;
}

export interface Grid {
  /** Positions in the kernels and in the kernel's phases. */
  readonly kernel: number;
  readonly phase: number;
  readonly blocks: number;
  readonly threads: number;
  readonly sharedBytes: number;
  readonly argumentsOn: (ground: Ground) => Uint8Array;
  /** All that it may touch; `start` counts from the first byte. */
  readonly buffers: readonly { readonly name: string; readonly start: number; readonly bytes: number }[];
}

export interface Work {
  readonly kernels: readonly PlanKernel[];
  readonly grids: readonly Grid[];
  readonly memory: Uint8Array;
  /** The simulator's order of warps follows from it. */
  readonly seed: number;
  /** Stops the simulator. */
  readonly signal?: AbortSignal | undefined;
}

/** The memory after all grids. @throws Diagnostic of kind `simulation` or `gpu` for what a kernel does wrong */
export type Machine = (work: Work) => Promise<Uint8Array>;

export const ON_GPU = process.env["SORACC_TEST_MACHINE"] === "gpu";

let opened: Promise<Machine> | undefined;

export async function runOnMachine(work: Work): Promise<Uint8Array> {
  opened ??= ON_GPU ? openGpu() : openSim();
  return (await opened)(work);
}

const BASE = 2 ** 40;

async function openSim(): Promise<Machine> {
  const simulator = await openSimulator({ sources: cudaSources().sim });
  return async ({ kernels, grids, memory, seed, signal }) => {
    const { libraries } = await simulator.build(kernels, () => undefined);
    const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "soracc-sim-"));
    const path = join(folder, "memory");
    try {
      writeFileSync(path, memory);
      const launches = grids.map(({ kernel, phase, blocks, threads, sharedBytes, argumentsOn, buffers }) => ({
        ...{ library: libraries[kernel]!, symbol: kernels[kernel]!.phases[phase]!, blocks, threads, sharedBytes },
        ...{ origin: "a test", formula: kernels[kernel]!.formula },
        arguments: argumentsOn({ base: BASE, encodeTensorMap }),
        buffers: buffers.map(({ name, start, bytes }) => ({ name, address: BASE + start, bytes })),
      }));
      const place = { path, base: BASE, bytes: memory.length };
      await simulator.run({ launches, times: 1, seed, memory: place, ...(signal === undefined ? {} : { signal }) });
      const after = new Uint8Array(memory.length);
      const file = openSync(path, "r");
      readSync(file, after, 0, after.length, 0);
      closeSync(file);
      return after;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  };
}

/** A kernel that runs for longer hangs; only the end of the process stops it. */
const PATIENCE = 20_000;

async function openGpu(): Promise<Machine> {
  const driver = await openDriver();
  const [nvrtc, cache] = await Promise.all([openNvrtc(), openCacheFolder(undefined, () => undefined)]);
  const stream = driver.createStream();
  const arch = archOf(driver.gpu);
  return async ({ kernels, grids, memory }) => {
    const headers = cudaSources().prelude;
    const { cubins } = await buildCubins({ cache, nvrtc, headers, arch, kernels, jobs: 8 });
    const modules = cubins.map((cubin) => driver.loadModule(cubin));
    const base = driver.allocate(memory.length);
    if (base === undefined) throw new Error(`the GPU has no ${memory.length} bytes`);
    const pinned = driver.allocatePinned(memory.length);
    pinned.bytes.set(memory);
    driver.copyIn(base, pinned.address, memory.length, stream);
    for (const { kernel, phase, argumentsOn, ...grid } of grids) {
      const symbol = kernels[kernel]!.phases[phase]!;
      const entry = driver.functionOf(modules[kernel]!, symbol)!;
      if (grid.sharedBytes > 48 * 1024) driver.allowShared(entry, grid.sharedBytes);
      driver.launch(
        entry,
        { ...grid, arguments: argumentsOn({ base, encodeTensorMap: driver.encodeTensorMap }) },
        stream,
      );
      await ended(symbol, () => driver.isIdle(stream));
    }
    driver.copyOut(pinned.address, base, memory.length, stream);
    driver.wait(stream);
    const after = Uint8Array.from(pinned.bytes);
    pinned.free();
    driver.free(base);
    modules.forEach((module) => driver.unloadModule(module));
    return after;
  };
}

async function ended(symbol: string, isIdle: () => boolean): Promise<void> {
  const started = performance.now();
  try {
    while (!isIdle()) {
      if (performance.now() - started > PATIENCE) {
        process.stderr.write(`kernel ${symbol} does not end\n`);
        process.exit(1);
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
  } catch (error) {
    if (!(error instanceof Diagnostic)) throw error;
    throw new Diagnostic({ ...error.parts, details: [...(error.parts.details ?? []), `kernel  ${symbol}`] });
  }
}
