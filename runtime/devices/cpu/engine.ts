/** The CPU below what devices share: memory of the process, kernels as one library, steps as one call of the host. */
import { CompilerBug, Diagnostic } from "../../../contract/diagnostic.ts";
import type { Engine, LoadedKernels, Runnable, StepList } from "../bound/engine.ts";
import type { Host, Library } from "./host.ts";
import { buildKernels, type Workshop } from "./kernel-cache.ts";
import { availableMemory } from "./memory.ts";
import { writePlanWords, type PlanWords } from "./plan-words.ts";
import type { Toolchain } from "./toolchain.ts";

export function cpuEngine(host: Host, workshop: Workshop, threads: number): Engine {
  const pool = host.createPool(threads);
  return {
    name: "cpu",
    target: "cpu",
    description: describe(workshop.toolchain, threads),
    memory: { ...host, available: availableMemory },
    poison: process.env["SORACC_POISON"] === "1",
    async load(plan, progress): Promise<LoadedKernels> {
      const built = await buildKernels(workshop, plan.kernels, progress);
      const library = host.openLibrary(built.path);
      const functions = plan.kernels.map((kernel) =>
        kernel.phases.map((phase) => addressOf(library, kernel.symbol, phase)),
      );
      return {
        compiled: built.compiled,
        stepList: ({ steps, buffers, evaluate, poison }) =>
          cpuSteps(host, pool, threads, writePlanWords({ steps, buffers, functions, evaluate, poison })),
        close: () => library.close(),
      };
    },
    async close() {
      host.freePool(pool);
    },
  };
}

const describe = ({ processor, instructions, name }: Toolchain, threads: number): string =>
  `${processor}, ${threads} thread${threads === 1 ? "" : "s"}, ${instructions.name}; ${name}`;

function addressOf(library: Library, kernel: string, phase: string): number {
  const address = library.symbol(phase);
  if (address !== undefined) return address;
  throw new CompilerBug("code generation", `kernel ${kernel} does not export its phase ${phase} (SORACC_EXPORT)`);
}

function cpuSteps(host: Host, pool: number, threads: number, description: PlanWords): StepList {
  const scratch = description.scratch * threads;
  return {
    scratch,
    at(arena): Runnable {
      description.moveArena(arena);
      const handle = host.createPlan(pool, description.words);
      return {
        async run(times) {
          const status = await host.run(handle, times);
          if (status === "no memory") throw noScratch(scratch, threads);
          return status;
        },
        cancel: (how) => host.cancel(handle, how),
        profile: () => host.profile(handle, description.steps),
        free: () => host.freePlan(handle),
      };
    },
  };
}

const noScratch = (bytes: number, threads: number): Diagnostic =>
  new Diagnostic({
    kind: "memory",
    message: `the system refuses ${bytes} bytes of scratch memory for ${threads} threads`,
    fix: "use fewer threads with SORACC_THREADS",
  });
