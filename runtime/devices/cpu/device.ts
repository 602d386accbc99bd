/** The CPU as a device: finds the compiler, builds the host library and the kernels, shares pool and arena. */
import { readFileSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { CompilerBug, Diagnostic } from "../../../contract/diagnostic.ts";
import { bytesOf, type DType } from "../../../contract/dtype.ts";
import type { Plan } from "../../../contract/plan.ts";
import type { Device, DeviceBuffer, LoadedPlan, LoadProgress } from "../device.ts";
import type { Arena } from "./bound-memory.ts";
import { bindProgram, type CpuBoundProgram, type CpuContext } from "./bound-program.ts";
import { openCacheFolder } from "./cache-folder.ts";
import { openHost, type Host, type Library, type LoadKoffi } from "./host.ts";
import { buildHost, buildKernels, type Prelude, type Workshop } from "./kernel-cache.ts";
import { allocateBlock, deviceBuffer, type Block, type OwnedBuffer } from "./memory.ts";
import { findToolchain, type Toolchain } from "./toolchain.ts";

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
  const context = createContext(host, threads);
  const loaded = new Set<LoadedPlan>();
  let closed = false;
  return Object.freeze<Device>({
    name: "cpu",
    description: describe(toolchain, threads),
    async load(plan, progress = () => undefined) {
      if (closed) throw new Error("the device was closed");
      const one = await loadPlan(context, workshop, plan, options.boundBytes ?? totalmem() / 4, progress);
      loaded.add(one);
      return one;
    },
    async close() {
      if (closed) return;
      closed = true;
      for (const one of loaded) await one.close();
      await context.inTurn(async () => context.end());
    },
  });
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

const describe = ({ processor, features, name }: Toolchain, threads: number): string =>
  `${processor}, ${threads} thread${threads === 1 ? "" : "s"}${features.map((one) => `, ${one}`).join("")}; ${name}`;

function createContext(host: Host, threads: number): CpuContext & { readonly end: () => void } {
  const pool = host.createPool(threads);
  const poison = process.env["SORACC_POISON"] === "1";
  let block: Block | undefined;
  const arena: Arena = {
    reserve(bytes) {
      if (block === undefined || block.bytes < bytes) {
        block?.release();
        block = undefined;
        block = allocateBlock(host, "temporaries", bytes, poison);
      }
      return block;
    },
    get bytes() {
      return block?.bytes ?? 0;
    },
  };
  let last: Promise<unknown> = Promise.resolve();
  return {
    host,
    pool,
    threads,
    poison,
    arena,
    owned: new WeakMap(),
    inTurn(work) {
      const mine = last.then(work, work);
      last = mine.catch(() => undefined);
      return mine;
    },
    end() {
      block?.release();
      block = undefined;
      host.freePool(pool);
    },
  };
}

async function loadPlan(
  context: CpuContext,
  workshop: Workshop,
  plan: Plan,
  boundBytes: number,
  progress: (progress: LoadProgress) => void,
): Promise<LoadedPlan> {
  const { host } = context;
  const started = performance.now();
  const built = await buildKernels(workshop, plan.kernels, progress);
  const library = host.openLibrary(built.path);
  const functions = plan.kernels.map((kernel) =>
    kernel.phases.map((phase) => addressOf(library, kernel.symbol, phase)),
  );
  const constants = plan.constants.map(({ data }, index) => {
    const bytes = new Uint8Array(Buffer.from(data, "base64"));
    const block = allocateBlock(host, `constant ${index}`, bytes.length, context.poison);
    host.write(block.address, block.bytes, "u8", bytes);
    return block;
  });
  const facts = {
    kernels: plan.kernels.length,
    compiled: built.compiled,
    seconds: (performance.now() - started) / 1000,
  };

  const bound = new Map<string, CpuBoundProgram>(); // the least recently used comes first
  const identities = new WeakMap<DeviceBuffer, number>();
  let identified = 0;
  let closed = false;

  function identityOf(buffer: DeviceBuffer): number {
    const known = identities.get(buffer) ?? ++identified;
    identities.set(buffer, known);
    return known;
  }

  function makeRoom(keep: string): void {
    let held = [...bound.values()].reduce((sum, one) => sum + one.ownBytes, 0);
    for (const [key, one] of bound) {
      if (held <= boundBytes) return;
      if (key === keep || one.busy) continue;
      one.drop();
      bound.delete(key);
      held -= one.ownBytes;
    }
  }

  return Object.freeze<LoadedPlan>({
    plan,
    facts,
    createState(name: string, dtype: DType, elements: number) {
      if (closed) throw new Error("the plan was closed");
      const block = allocateBlock(host, name, elements * bytesOf(dtype), context.poison);
      const owned: OwnedBuffer = { block, users: 0, freed: false };
      const buffer = deviceBuffer(host, owned, dtype, elements);
      context.owned.set(buffer, owned);
      return buffer;
    },
    bind(name, symbols, state) {
      if (closed) throw new Error("the plan was closed");
      const states = (plan.programs[name]?.state ?? []).map((port) => {
        const buffer = state.get(port.name);
        return buffer === undefined ? 0 : identityOf(buffer);
      });
      const key = JSON.stringify([name, Object.entries(symbols).sort(), states]);
      const known = bound.get(key);
      const program = known ?? bindProgram({ context, plan, name, symbols, state, functions, constants });
      bound.delete(key);
      bound.set(key, program);
      makeRoom(key);
      return program;
    },
    async close() {
      if (closed) return;
      closed = true;
      for (const one of bound.values()) one.cancel();
      await context.inTurn(async () => undefined);
      await new Promise((resolve) => setImmediate(resolve)); // the runs have told their callers
      for (const one of bound.values()) one.drop();
      for (const block of constants) block.release();
      library.close();
    },
  });
}

function addressOf(library: Library, kernel: string, phase: string): number {
  const address = library.symbol(phase);
  if (address !== undefined) return address;
  throw new CompilerBug("code generation", `kernel ${kernel} does not export its phase ${phase} (SORACC_EXPORT)`);
}
