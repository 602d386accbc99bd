/** An NVIDIA GPU as a device. */
import { Diagnostic } from "../../../contract/diagnostic.ts";
import type { Arch } from "../../../contract/plan.ts";
import { deviceOn } from "../bound/device.ts";
import { openCacheFolder } from "../cpu/cache-folder.ts";
import type { LoadKoffi } from "../cpu/host.ts";
import { threadsWanted } from "../cpu/threads.ts";
import type { Device } from "../device.ts";
import { openDriver, printVersion, type Driver } from "./driver.ts";
import { archOf, cudaEngine } from "./engine.ts";
import { openNvrtc, type Nvrtc } from "./nvrtc.ts";

export interface CudaDevice extends Device {
  /** What kernels are best written for on this GPU. */
  readonly arch: Arch;
}

export interface CudaDeviceOptions {
  /** Texts of what kernels include, by file name: templates/prelude, templates/cuda/prelude and templates/cuda/machine. */
  readonly headers: Readonly<Record<string, string>>;
  /** Default: SORACC_CACHE, else the user's cache folder. */
  readonly cacheDir?: string | undefined;
  /** How many kernels are compiled at a time. Default: SORACC_THREADS, else as many as there are processors. */
  readonly threads?: number | undefined;
  /** What Node starts to compile kernels: the launcher of soracc (the default) or a training binary. */
  readonly script?: string | undefined;
  /** Default: from node_modules. A single-file binary passes its own (see ../cpu/host.ts). */
  readonly loadKoffi?: LoadKoffi | undefined;
  /** Bytes that bound programs may hold in inputs, outputs and residents before the oldest are dropped. */
  readonly boundBytes?: number | undefined;
  /** Told once when something works less well than it could. Default: a line on stderr. */
  readonly notify?: ((message: string) => void) | undefined;
}

/** The first GPU that the driver shows. Throws a Diagnostic of kind `gpu` when driver, NVRTC or GPU do not serve. */
export async function createCudaDevice(options: CudaDeviceOptions): Promise<CudaDevice> {
  const { headers, cacheDir, script, loadKoffi, threads = threadsWanted() } = options;
  const notify = options.notify ?? ((message: string) => void process.stderr.write(`soracc: ${message}\n`));
  const driver = await openDriver(loadKoffi);
  try {
    const arch = archOf(driver.gpu);
    const [nvrtc, cache] = await Promise.all([openNvrtc(loadKoffi), openCacheFolder(cacheDir, notify)]);
    checkVersions(driver, nvrtc);
    const engine = cudaEngine({ driver, nvrtc, cache, headers, script, jobs: threads });
    return Object.freeze({ ...deviceOn(engine, options.boundBytes ?? driver.gpu.memoryBytes / 4), arch });
  } catch (error) {
    driver.close();
    throw error;
  }
}

/** A driver loads what NVRTC of its own major version or an older one made. */
function checkVersions(driver: Driver, nvrtc: Nvrtc): void {
  const [major = 0] = nvrtc.version.split(".").map(Number);
  if (major <= Math.floor(driver.version / 1000)) return;
  throw new Diagnostic({
    kind: "gpu",
    message: `the NVIDIA driver knows CUDA ${printVersion(driver.version)}, and NVRTC ${nvrtc.version} is newer`,
    details: [`driver  ${driver.from}`, `NVRTC   ${nvrtc.from}`],
    fix: "soracc toolchain install --cuda 12, or update the NVIDIA driver",
  });
}
