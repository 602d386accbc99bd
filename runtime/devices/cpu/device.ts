/** The CPU as a device: finds the compiler, builds the host library, shares its pool of threads. */
import { readFileSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { Diagnostic } from "../../../contract/diagnostic.ts";
import { deviceOn } from "../bound/device.ts";
import type { Device } from "../device.ts";
import { openCacheFolder } from "./cache-folder.ts";
import { cpuEngine } from "./engine.ts";
import { openHost, type LoadKoffi } from "./host.ts";
import { buildHost, type Prelude, type Workshop } from "./kernel-cache.ts";
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
  return deviceOn(cpuEngine(host, workshop, threads), options.boundBytes ?? totalmem() / 4);
}

function threadsWanted(): number {
  const text = process.env["SORACC_THREADS"];
  if (text === undefined || text === "") return Math.min(availableParallelism(), containerProcessors());
  const threads = Number(text);
  if (Number.isInteger(threads) && threads >= 1 && threads <= 1024) return threads;
  throw new Diagnostic({
    kind: "threads",
    message: `SORACC_THREADS is "${text}"`,
    fix: "give a whole number from 1 to 1024",
  });
}

/** What a container's quota allows: more threads than that only get throttled together. */
function containerProcessors(): number {
  try {
    const [quota, period] = readFileSync("/sys/fs/cgroup/cpu.max", "utf8").split(" ").map(Number);
    if (quota !== undefined && period !== undefined && quota > 0) return Math.max(1, Math.ceil(quota / period));
  } catch {
    // no quota
  }
  return Infinity;
}
