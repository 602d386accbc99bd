/**
 * The host library as typed functions. A wrong address or length would kill the process, so every length is checked
 * here, before native code sees it. Addresses are numbers: user space ends below 2^53.
 *
 * koffi. Its package is JavaScript around one native addon whose exports are koffi's whole interface. In development
 * `import("koffi")` finds the addon: koffi/src/koffi/src/static.cjs requires `@koromix/koffi-<platform>-<arch>`, whose
 * index.js reads the C library off the ELF header of the running node and requires `./linux_<arch>/koffi.node` or
 * `./musl_<arch>/koffi.node`. A single-file binary has no node_modules: mark "koffi" as external for the bundler,
 * carry koffi.node (1.1 MB; both of them to run on musl as well), write it to the cache folder under its hash, and pass
 *     loadKoffi: () => {
 *       const addon = { exports: {} };
 *       process.dlopen(addon, pathOfTheExtractedKoffiNode);
 *       return addon.exports;
 *     }
 * Nothing else of the package is needed. An addon can be opened by several worker threads; each opens it for itself.
 */
import type * as KoffiPackage from "koffi";
import { Diagnostic } from "../../../contract/diagnostic.ts";
import type { DType } from "../../../contract/dtype.ts";
import { bytesOf } from "../../../contract/dtype.ts";
import type { Memory } from "../bound/engine.ts";
import { checkElements, newElements, type Elements } from "../elements.ts";

/** The part of koffi's interface that is used here. */
export type Koffi = Pick<typeof KoffiPackage, "load" | "view">;
export type LoadKoffi = () => Koffi | Promise<Koffi>;

export const loadKoffiFromModules: LoadKoffi = async () => import("koffi");

const HOST_VERSION = 2;
const PIECE = 2 ** 30; // bytes of one copy

export type RunStatus = "done" | "cancelled" | "no memory";

export interface Host extends Omit<Memory, "available"> {
  /** Asks the system for the tile registers of AMX, for this whole process; false when it refuses or there are none. */
  permitTiles(): boolean;
  /** Opens a library of kernels. */
  openLibrary(path: string): Library;
  createPool(threads: number): number;
  freePool(pool: number): void;
  /** The layout of the words is that of `plan_create` in the host library. */
  createPlan(pool: number, words: BigInt64Array): number;
  freePlan(plan: number): void;
  /** Never blocks the JavaScript thread. One at a time. */
  run(plan: number, times: number): Promise<RunStatus>;
  cancel(plan: number, how: "now" | "between repetitions"): void;
  profile(plan: number, steps: number): Float64Array;
}

export interface Library {
  /** The address of an exported function; undefined when there is none of that name. */
  symbol(name: string): number | undefined;
  close(): void;
}

/** koffi conversions: what a function takes and gives on either side. */
type Native = (...args: (number | string | ArrayBufferView)[]) => number;
type NativeLater = Native & {
  async(plan: number, times: number, done: (error: Error | null, status: number) => void): void;
};

const conversionOf = (dtype: DType): number => (dtype === "bf16" ? 1 : dtype === "f16" ? 2 : 0);

export async function openHost(path: string, loadKoffi: LoadKoffi = loadKoffiFromModules): Promise<Host> {
  const koffi = await loadKoffi();
  const library = koffi.load(path);
  const bind = (declaration: string): NativeLater => library.func(declaration);
  const native = {
    version: bind("int64_t host_version()"),
    permitTiles: bind("int64_t host_permit_tiles()"),
    allocate: bind("int64_t memory_allocate(int64_t bytes)"),
    free: bind("void memory_free(int64_t address, int64_t bytes)"),
    write: bind("void memory_write(int64_t to, void *from, int64_t count, int64_t conversion)"),
    read: bind("void memory_read(void *to, int64_t from, int64_t count, int64_t conversion)"),
    fill: bind("void memory_fill(int64_t to, int64_t byte, int64_t bytes)"),
    differs: bind("int64_t memory_differs(int64_t from, int64_t byte, int64_t bytes)"),
    open: bind("int64_t library_open(str path)"),
    symbol: bind("int64_t library_symbol(int64_t library, str name)"),
    closeLibrary: bind("void library_close(int64_t library)"),
    error: bind("void library_error(void *out, int64_t bytes)"),
    createPool: bind("int64_t pool_create(int64_t threads)"),
    freePool: bind("void pool_free(int64_t pool)"),
    createPlan: bind("int64_t plan_create(int64_t pool, void *words, int64_t count)"),
    arm: bind("void plan_arm(int64_t plan)"),
    run: bind("int64_t plan_run(int64_t plan, int64_t times)"),
    cancel: bind("void plan_cancel(int64_t plan, int64_t how)"),
    profile: bind("void plan_profile(int64_t plan, void *out, int64_t steps)"),
    freePlan: bind("void plan_free(int64_t plan)"),
  } as const satisfies Record<string, Native>;
  if (native.version() !== HOST_VERSION) {
    throw new Error(`the host library ${path} has version ${native.version()}, expected ${HOST_VERSION}`);
  }

  // A process that exits waits for the thread that waits for the run: end the run.
  const running = new Set<number>();
  const stopAll = (): void => running.forEach((plan) => native.cancel(plan, 2));
  const started = (plan: number): void => {
    if (running.size === 0) process.on("exit", stopAll);
    running.add(plan);
  };
  const ended = (plan: number): void => {
    running.delete(plan);
    if (running.size === 0) process.off("exit", stopAll);
  };

  /** Splits `count` elements of `from` into pieces, which `copy` sees with their position in bytes of device memory. */
  function inPieces(dtype: DType, values: Elements, copy: (piece: Elements, at: number, count: number) => void): void {
    const elementsPerPiece = PIECE / values.BYTES_PER_ELEMENT;
    const counted = conversionOf(dtype) === 0 ? values.BYTES_PER_ELEMENT : 1; // plain copies count bytes
    for (let start = 0; start < values.length; start += elementsPerPiece) {
      const piece = values.subarray(start, Math.min(values.length, start + elementsPerPiece));
      copy(piece, start * bytesOf(dtype), piece.length * counted);
    }
  }

  function checkRange(what: string, address: number, room: number, bytes: number): void {
    if (!Number.isSafeInteger(address) || address <= 0 || !Number.isSafeInteger(bytes) || bytes < 0 || bytes > room) {
      throw new RangeError(`${what} ${bytes} bytes where ${room} belong to the buffer`);
    }
  }

  const failed = (what: string, path: string): Error => {
    const text = new Uint8Array(512);
    native.error(text, text.length);
    const reason = Buffer.from(text).toString("utf8").replace(/\0.*$/s, "");
    return new Diagnostic({
      kind: "compiler",
      message: `${what}: ${reason}`,
      details: [path],
      fix: "if that folder's disk forbids execution (noexec), set SORACC_CACHE to another one",
    });
  };

  return Object.freeze<Host>({
    permitTiles: () => native.permitTiles() === 1,
    allocate(bytes, purpose) {
      if (!Number.isSafeInteger(bytes) || bytes < 0)
        throw new RangeError(`cannot allocate ${bytes} bytes (${purpose})`);
      const address = native.allocate(Math.max(bytes, 1));
      if (address !== 0) return address;
      throw new Diagnostic({
        kind: "memory",
        message: `the system refuses ${bytes} bytes for ${purpose}`,
        fix: "use a smaller batch, fewer frames or a smaller model, or free memory",
      });
    },
    release: (address, bytes) => void native.free(address, Math.max(bytes, 1)),
    write(address, room, dtype, values) {
      checkElements("the target", dtype, values.length, values);
      checkRange("writing", address, room, values.length * bytesOf(dtype));
      inPieces(dtype, values, (piece, at, count) => native.write(address + at, piece, count, conversionOf(dtype)));
    },
    read(address, room, dtype, count) {
      checkRange("reading", address, room, count * bytesOf(dtype));
      const values = newElements(dtype, count);
      inPieces(dtype, values, (piece, at, counted) => native.read(piece, address + at, counted, conversionOf(dtype)));
      return values;
    },
    fill: (address, byte, bytes) => void native.fill(address, byte, bytes),
    differs: (address, byte, bytes) => native.differs(address, byte, bytes),
    openLibrary(path) {
      const handle = native.open(path);
      if (handle === 0) throw failed("compiled kernels cannot be loaded", path);
      return {
        symbol: (name) => native.symbol(handle, name) || undefined,
        close: () => void native.closeLibrary(handle),
      };
    },
    createPool(threads) {
      const pool = native.createPool(threads);
      if (pool === 0) throw new Diagnostic({ kind: "memory", message: "the system refuses to start a thread" });
      return pool;
    },
    freePool: (pool) => void native.freePool(pool),
    createPlan(pool, words) {
      const plan = native.createPlan(pool, words, words.length);
      if (plan === 0) throw new Error("the host library does not understand the description of a plan");
      return plan;
    },
    freePlan: (plan) => void native.freePlan(plan),
    run: (plan, times) =>
      new Promise((resolve, reject) => {
        native.arm(plan);
        started(plan);
        native.run.async(plan, times, (error, status) => {
          ended(plan);
          if (error !== null) reject(error);
          else resolve(status === 0 ? "done" : status === 1 ? "cancelled" : "no memory");
        });
      }),
    cancel: (plan, how) => void native.cancel(plan, how === "now" ? 2 : 1),
    profile(plan, steps) {
      const nanoseconds = new Float64Array(steps);
      native.profile(plan, nanoseconds, steps);
      return nanoseconds;
    },
  });
}
