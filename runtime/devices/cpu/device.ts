/** The CPU as a device: finds the compiler, builds the host library, shares its pool of threads. */
import { totalmem } from "node:os";
import { Diagnostic } from "../../../contract/diagnostic.ts";
import { deviceOn } from "../bound/device.ts";
import type { Device } from "../device.ts";
import { openCacheFolder } from "./cache-folder.ts";
import { cpuEngine } from "./engine.ts";
import { openHost, type LoadKoffi } from "./host.ts";
import { buildHost, type Prelude, type Workshop } from "./kernel-cache.ts";
import { threadsWanted } from "./threads.ts";
import { findToolchain } from "./toolchain.ts";

export interface CpuDeviceOptions {
  /** Texts of the folder templates/cpu/prelude by file name. */
  readonly prelude: Prelude;
  /** Text of templates/cpu/host/executor.cpp. */
  readonly hostSource: string;
  /** Default: SORACC_CACHE, else the user's cache folder. */
  readonly cacheDir?: string | undefined;
  /** Default: SORACC_THREADS, else as many as this process may use. */
  readonly threads?: number | undefined;
  /** Default: from node_modules. A single-file binary passes its own (see host.ts). */
  readonly loadKoffi?: LoadKoffi | undefined;
  /** Bytes that bound programs may hold in inputs, outputs and residents before the oldest are dropped. */
  readonly boundBytes?: number | undefined;
  /** Told once when something works less well than it could. Default: a line on stderr. */
  readonly notify?: ((message: string) => void) | undefined;
}

/** Finds the compiler and builds the host library. Throws a Diagnostic when the machine lacks what it takes. */
export async function createCpuDevice(options: CpuDeviceOptions): Promise<Device> {
  const notify = options.notify ?? ((message: string) => void process.stderr.write(`soracc: ${message}\n`));
  const threads = options.threads ?? threadsWanted();
  const [toolchain, cache] = await Promise.all([findToolchain(), openCacheFolder(options.cacheDir, notify)]);
  const workshop: Workshop = { cache, toolchain, prelude: options.prelude, jobs: threads };
  const host = await openHost(await buildHost(workshop, options.hostSource), options.loadKoffi);
  if (toolchain.instructions.isa === "amx" && !host.permitTiles()) throw tilesRefused();
  return deviceOn(cpuEngine(host, workshop, threads), options.boundBytes ?? totalmem() / 4);
}

const tilesRefused = (): Diagnostic =>
  new Diagnostic({
    kind: "instructions",
    message: "the processor has AMX, and the system does not let this process use its tile registers",
    fix: "set SORACC_ISA=avx512, or run on Linux 5.16 or newer, outside of a sandbox that forbids arch_prctl",
  });
