/** CUDA devices for tests without a GPU: fake-cuda.cpp is driver and NVRTC at once. */
import { join } from "node:path";
import koffi from "koffi";
import { afterAll, beforeAll } from "vitest";
import { runChild } from "../../runtime/devices/cpu/child.ts";
import { findToolchain } from "../../runtime/devices/cpu/toolchain.ts";
import { createCudaDevice, type CudaDevice, type CudaDeviceOptions } from "../../runtime/devices/cuda/device.ts";
import { temporaryFolder, withEnvironment } from "./with-device.ts";

export interface FakeCuda {
  /** How often an entry point was called since the last restart: `cuGraphLaunch`. */
  readonly count: (name: string) => number;
  /** Whatever a real driver would not have forgiven. */
  readonly mistakes: () => string;
  /** Kernels in the order in which they ran. */
  readonly launched: () => readonly string[];
  /** How often a kernel ran. */
  readonly ran: (name: string) => number;
  /** Things that were made and not given back. */
  readonly alive: () => number;
  /** The machine as after a restart. */
  readonly restart: () => void;
}

const folder = temporaryFolder();
const library = join(folder, "libcuda.so.1");
const cacheDir = join(folder, "cache");
/** What points a process at the fake driver and the fake NVRTC. */
export const FAKES = { SORACC_CUDA_DRIVER: library, SORACC_NVRTC: library };
const VARIABLES = ["VERSION", "GPUS", "CAPABILITY", "MEMORY", "PATIENCE", "FAULT", "RESULT"].map(
  (name) => `FAKE_CUDA_${name}`,
);

let fake: FakeCuda | undefined;
const opened: CudaDevice[] = [];

beforeAll(async () => {
  const { command } = await findToolchain();
  const [compiler, ...first] = command;
  const source = join(import.meta.dirname, "fake-cuda.cpp");
  const flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", source, "-o", library];
  const result = await runChild(compiler, [...first, ...flags]);
  if (result.code !== 0) throw new Error(result.stderr);
  const loaded = koffi.load(library);
  const count = loaded.func("int64_t fake_count(str name)") as (name: string) => number;
  const mistakes = loaded.func("void fake_mistakes(void *out, int64_t bytes)") as (out: Buffer, bytes: number) => void;
  const launched = loaded.func("void fake_launched(void *out, int64_t bytes)") as (out: Buffer, bytes: number) => void;
  const textOf = (call: (out: Buffer, bytes: number) => void): string => {
    const out = Buffer.alloc(65_536);
    call(out, out.length);
    return out.toString("utf8").replace(/\0.*$/s, "");
  };
  fake = {
    count,
    mistakes: () => textOf(mistakes),
    launched: () => textOf(launched).split("\n").slice(0, -1),
    ran: loaded.func("int64_t fake_ran(str kernel)") as (name: string) => number,
    alive: loaded.func("int64_t fake_alive()") as () => number,
    restart: loaded.func("void fake_restart()") as () => void,
  };
});

afterAll(async () => {
  for (const device of opened) await device.close();
});

export const fakeCuda = (): FakeCuda => fake!;

/** Runs `work` on a machine with the fake driver, restarted, with these settings (`CAPABILITY: "90"`). */
export function onFakeMachine<T>(
  settings: Readonly<Record<string, string>>,
  work: (fake: FakeCuda) => Promise<T>,
): Promise<T> {
  const given = Object.entries(settings).map(([name, value]) => [/^[A-Z]+$/.test(name) ? `FAKE_CUDA_${name}` : name, value]); // prettier-ignore
  const cleared = Object.fromEntries(VARIABLES.map((name) => [name, ""]));
  return withEnvironment({ ...FAKES, ...cleared, ...(Object.fromEntries(given) as Record<string, string>) }, () => {
    fake!.restart();
    return work(fake!);
  });
}

export async function cuda(options: Partial<CudaDeviceOptions> = {}): Promise<CudaDevice> {
  const device = await createCudaDevice({ headers: { "prelude.cuh": "// none\n" }, cacheDir, ...options });
  opened.push(device);
  return device;
}
