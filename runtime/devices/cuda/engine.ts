/** A GPU below what devices share: kernels by NVRTC, memory by the driver, steps as graphs. */
import { CompilerBug, Diagnostic } from "../../../contract/diagnostic.ts";
import type { Arch, Plan, PlanKernel } from "../../../contract/plan.ts";
import type { Engine, LoadedKernels } from "../bound/engine.ts";
import { printBytes } from "../bound/memory.ts";
import type { CacheFolder } from "../cpu/cache-folder.ts";
import { buildCubins } from "./cubins.ts";
import { printVersion, type Driver, type Gpu } from "./driver.ts";
import { gpuMemory } from "./gpu-memory.ts";
import { gpuRun } from "./graph-run.ts";
import type { Nvrtc } from "./nvrtc.ts";

export interface CudaParts {
  readonly driver: Driver;
  readonly nvrtc: Nvrtc;
  readonly cache: CacheFolder;
  /** Texts of what kernels include, by file name. */
  readonly headers: Readonly<Record<string, string>>;
  /** How many kernels are compiled at a time. */
  readonly jobs: number;
  /** What Node starts to compile them; default: the launcher of soracc. */
  readonly script?: string | undefined;
}

/** More dynamic shared memory than this has to be asked for. */
const SHARED_BY_DEFAULT = 48 * 1024;

export function cudaEngine(parts: CudaParts): Engine {
  const { driver, nvrtc, cache, headers, jobs, script } = parts;
  const arch = archOf(driver.gpu);
  const memory = gpuMemory(driver);
  const stream = driver.createStream();
  return {
    name: "cuda",
    target: "cuda",
    description: describe(parts),
    memory,
    poison: process.env["SORACC_POISON"] === "1",
    async load(plan, progress): Promise<LoadedKernels> {
      checkArch(plan, driver.gpu, arch);
      plan.kernels.forEach((kernel) => checkShared(kernel, driver.gpu));
      const { cubins, compiled } = await buildCubins({
        ...{ cache, nvrtc, headers, arch, kernels: plan.kernels, jobs, script, progress },
      });
      const modules: number[] = [];
      const close = (): void => modules.forEach((module) => driver.unloadModule(module));
      let functions: readonly (readonly number[])[];
      try {
        functions = plan.kernels.map((kernel, index) => {
          modules[index] = driver.loadModule(cubins[index]!);
          return functionsOf(driver, modules[index], kernel);
        });
      } catch (error) {
        close();
        throw error;
      }
      const stepwise = process.env["SORACC_STEPWISE"] === "1";
      return {
        compiled,
        stepList: (request) => ({
          scratch: 0,
          at: (arena) => gpuRun({ driver, stream, plan, functions, stepwise }, request, arena),
        }),
        close,
      };
    },
    async close() {
      driver.destroyStream(stream);
      memory.close();
      driver.close();
    },
  };
}

/**
 * Kernels run on the GPUs they are compiled for and on later ones of the same major version; those with an `a`, on no
 * later one.
 */
const ARCH_OF_MAJOR: Readonly<Record<number, Arch>> = { 8: "sm_80", 9: "sm_90a", 10: "sm_100" };

/** @throws Diagnostic when the GPU is of a kind that kernels are not compiled for */
export function archOf({ name, capability: [major, minor] }: Gpu): Arch {
  const arch = ARCH_OF_MAJOR[major];
  if (arch !== undefined && (minor === 0 || !arch.endsWith("a"))) return arch;
  throw new Diagnostic({
    kind: "gpu",
    message: `${name} has compute capability ${major}.${minor}, and kernels are compiled for 8.x, 9.0 and 10.x`,
    fix: "use an Ampere, Ada, Hopper or Blackwell data center GPU; CUDA_VISIBLE_DEVICES chooses among several",
  });
}

/** What is written for sm_80 uses nothing that a later GPU lacks: it is compiled for the GPU that is there. */
function checkArch({ arch }: Plan, { name, capability }: Gpu, own: Arch): void {
  if (arch === own || arch === "sm_80") return;
  throw new Diagnostic({
    kind: "gpu",
    message: `this plan is for ${arch ?? "no GPU"}, and ${name} has compute capability ${capability.join(".")}`,
    fix: `compile the model with --arch ${own}${own === "sm_80" ? "" : ", or with --arch sm_80 for all GPUs"}`,
  });
}

function checkShared({ symbol, formula, gpu }: PlanKernel, { name, sharedBytes }: Gpu): void {
  const most = Math.max(0, ...(gpu?.phases ?? []).map((phase) => phase.sharedBytes));
  if (most <= sharedBytes) return;
  throw new Diagnostic({
    kind: "gpu",
    message: `kernel ${symbol} needs ${printBytes(most)} of shared memory, a block on ${name} has ${printBytes(sharedBytes)}`,
    details: [`it computes: ${formula}`],
    fix: "use a GPU with more shared memory (A100, H100, B200), or a smaller head size",
  });
}

function functionsOf(driver: Driver, module: number, { symbol, phases, gpu }: PlanKernel): readonly number[] {
  return phases.map((phase, index) => {
    const found = driver.functionOf(module, phase);
    if (found === undefined) {
      throw new CompilerBug("code generation", `kernel ${symbol} has no __global__ function ${phase}`);
    }
    const { sharedBytes = 0 } = gpu?.phases[index] ?? {};
    if (sharedBytes > SHARED_BY_DEFAULT) driver.allowShared(found, sharedBytes);
    return found;
  });
}

const describe = ({ driver: { gpu, version }, nvrtc }: CudaParts): string =>
  `${gpu.name}, ${gpu.multiprocessors} multiprocessors, ${printBytes(gpu.memoryBytes)}; ` +
  `CUDA ${printVersion(version)}, NVRTC ${nvrtc.version}`;
