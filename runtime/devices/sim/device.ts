/**
 * A simulated GPU as a device: the CUDA sources of a plan, compiled for the host and run on memory that is always
 * guarded and poisoned. Slow and strict; what it is for is finding mistakes where there is no GPU.
 */
import { totalmem } from "node:os";
import type { Plan } from "../../../contract/plan.ts";
import { deviceOn } from "../bound/device.ts";
import type { Engine, Runnable, StepListRequest } from "../bound/engine.ts";
import { launchesOf } from "../bound/launches.ts";
import type { Device } from "../device.ts";
import { openFileMemory, type FileMemory } from "./file-memory.ts";
import { encodeTensorMap, openSimulator, type SimKernels, type SimLaunch, type Simulator } from "./simulator.ts";

export interface SimDeviceOptions {
  /** Texts of what kernels include, by file name: templates/prelude, templates/cuda/prelude and templates/cuda/sim. */
  readonly sources: Readonly<Record<string, string>>;
  /** Default: SORACC_CACHE, else the user's cache folder. */
  readonly cacheDir?: string | undefined;
  /** Decides the order in which warps run. What is computed has the same bits under every order. Default: 0. */
  readonly seed?: number | undefined;
  /** How many compilers run at a time. */
  readonly threads?: number | undefined;
  /** Told once when something works less well than it could. Default: a line on stderr. */
  readonly notify?: ((message: string) => void) | undefined;
}

/** Throws a Diagnostic when the machine lacks what the simulator is compiled with. */
export async function createSimDevice(options: SimDeviceOptions): Promise<Device> {
  const { sources, cacheDir, threads, notify, seed = 0 } = options;
  const simulator = await openSimulator({
    sources,
    ...(cacheDir === undefined ? {} : { cacheDir }),
    ...(threads === undefined ? {} : { threads }),
    ...(notify === undefined ? {} : { notify }),
  });
  return deviceOn(simEngine(simulator, openFileMemory(), seed), totalmem() / 4);
}

function simEngine(simulator: Simulator, memory: FileMemory, seed: number): Engine {
  return {
    name: "sim",
    target: "cuda",
    description: `CUDA kernels, ${simulator.description}, schedule ${seed}`,
    memory,
    poison: true,
    async load(plan, progress) {
      const kernels = await simulator.build(plan.kernels, progress);
      return {
        compiled: kernels.compiled,
        stepList: (request) => ({
          scratch: 0,
          at: (arena) => simRun({ simulator, memory, seed, plan, kernels }, request, arena),
        }),
        close: () => undefined,
      };
    },
    async close() {
      memory.close();
    },
  };
}

interface Simulation {
  readonly simulator: Simulator;
  readonly memory: FileMemory;
  readonly seed: number;
  readonly plan: Plan;
  readonly kernels: SimKernels;
}

function simRun(of: Simulation, request: StepListRequest, arena: number): Runnable {
  const { simulator, memory, seed } = of;
  const launches = simLaunches(of, request, arena);
  let stop = new AbortController();
  let stopped = false;
  const isStopped = (): boolean => stopped;
  return {
    async run(times) {
      stop = new AbortController();
      stopped = false;
      for (let i = 0; i < times; i++) {
        if (isStopped()) return "cancelled";
        for (const { address, bytes, inArena } of request.poison) {
          memory.fill(address + (inArena ? arena : 0), 0xff, bytes);
        }
        const { path, base, bytes } = memory;
        try {
          await simulator.run({ launches, times: 1, seed, memory: { path, base, bytes }, signal: stop.signal });
        } catch (error) {
          if (!stop.signal.aborted) throw error;
        }
        if (stop.signal.aborted) return "cancelled";
      }
      return "done";
    },
    cancel(how) {
      stopped = true;
      if (how === "now") stop.abort();
    },
    profile: () => new Float64Array(request.steps.length),
    free: () => undefined,
  };
}

function simLaunches({ plan, kernels }: Simulation, request: StepListRequest, arena: number): readonly SimLaunch[] {
  const { steps, buffers, evaluate } = request;
  return steps.flatMap((step) => {
    const touched = [...new Set(step.arguments.map(({ buffer }) => buffer))].map((index) => {
      const { name, address, bytes, inArena } = buffers[index]!;
      return { name, address: address + (inArena ? arena : 0), bytes };
    });
    return launchesOf(step, { plan, buffers, evaluate, encodeTensorMap, arena }).map((launch): SimLaunch => {
      const { blocks, threads, sharedBytes } = launch;
      const kernel = plan.kernels[launch.kernel]!;
      return {
        ...{ blocks, threads, sharedBytes, arguments: launch.arguments, buffers: touched },
        library: kernels.libraries[launch.kernel]!,
        symbol: kernel.phases[launch.phase]!,
        origin: step.origin,
        formula: kernel.formula,
      };
    });
  });
}
