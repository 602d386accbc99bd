/**
 * The CUDA driver as typed functions, for one GPU. Every call comes from the thread that opened it, whose current context
 * is the GPU's primary one. A wrong address or length would kill the process or the context, so lengths are checked
 * here. Addresses and handles are numbers: user space and GPU memory end below 2^53.
 */
import { CompilerBug, Diagnostic } from "../../../contract/diagnostic.ts";
import type { DType } from "../../../contract/dtype.ts";
import { TENSOR_MAP_BYTES, type EncodeTensorMap, type GridLaunch, type TensorMapRequest } from "../bound/launches.ts";
import { loadKoffiFromModules, type LoadKoffi } from "../cpu/host.ts";
import { findDriver, type LibraryHandle } from "./discover.ts";
import { driverFailure, NOT_READY, OUT_OF_MEMORY, SUCCESS } from "./driver-results.ts";

export interface Gpu {
  readonly name: string;
  /** Compute capability: major and minor. */
  readonly capability: readonly [number, number];
  readonly memoryBytes: number;
  readonly multiprocessors: number;
  /** The most dynamic shared memory that a block can ask for. */
  readonly sharedBytes: number;
}

/** Memory of the process that the GPU reads and writes by itself. */
export interface PinnedMemory {
  readonly address: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  free(): void;
}

export interface Driver {
  /** The newest CUDA that the driver knows: 12080 is 12.8. */
  readonly version: number;
  /** Where the library was found. */
  readonly from: string;
  readonly gpu: Gpu;
  freeMemory(): number;
  /** Undefined when there is no room. Not zeroed; aligned to 256 bytes. */
  allocate(bytes: number): number | undefined;
  free(address: number): void;
  allocatePinned(bytes: number): PinnedMemory;
  /** From pinned memory to the GPU; in the order of the stream, as all that follows. */
  copyIn(to: number, from: number, bytes: number, stream: number): void;
  copyOut(to: number, from: number, bytes: number, stream: number): void;
  fill(address: number, byte: number, bytes: number, stream: number): void;
  createStream(): number;
  destroyStream(stream: number): void;
  /** Whether all work of a stream is done. Throws when some of it failed, and for ever after. */
  isIdle(stream: number): boolean;
  /** Blocks until all work of a stream is done. */
  wait(stream: number): void;
  createEvent(timed: boolean): number;
  destroyEvent(event: number): void;
  record(event: number, stream: number): void;
  hasHappened(event: number): boolean;
  /** Time between two timed events that have happened. */
  milliseconds(first: number, second: number): number;
  loadModule(image: Uint8Array): number;
  unloadModule(module: number): void;
  /** Undefined when the module has none of that name. */
  functionOf(module: number, name: string): number | undefined;
  /** Before the first launch with more than 48 KB of shared memory. */
  allowShared(kernel: number, bytes: number): void;
  launch(kernel: number, grid: Omit<GridLaunch, "kernel" | "phase">, stream: number): void;
  /** What `work` enqueues on the stream, as one graph that can be launched over and over. */
  capture(stream: number, work: () => void): number;
  launchGraph(graph: number, stream: number): void;
  destroyGraph(graph: number): void;
  readonly encodeTensorMap: EncodeTensorMap;
  /** Gives the context back. Whatever came from this driver is unusable afterwards. */
  close(): void;
}

const OLDEST = 12000;

const DECLARATIONS = {
  errorName: "int cuGetErrorName(int result, _Out_ const char **name)",
  init: "int cuInit(uint32_t flags)",
  deviceCount: "int cuDeviceGetCount(_Out_ int *count)",
  device: "int cuDeviceGet(_Out_ int *device, int ordinal)",
  deviceName: "int cuDeviceGetName(void *name, int bytes, int device)",
  deviceMemory: "int cuDeviceTotalMem_v2(_Out_ size_t *bytes, int device)",
  attribute: "int cuDeviceGetAttribute(_Out_ int *value, int attribute, int device)",
  retain: "int cuDevicePrimaryCtxRetain(_Out_ uint64_t *context, int device)",
  release: "int cuDevicePrimaryCtxRelease_v2(int device)",
  setCurrent: "int cuCtxSetCurrent(uint64_t context)",
  memoryInfo: "int cuMemGetInfo_v2(_Out_ size_t *free, _Out_ size_t *total)",
  allocate: "int cuMemAlloc_v2(_Out_ uint64_t *address, size_t bytes)",
  free: "int cuMemFree_v2(uint64_t address)",
  allocateHost: "int cuMemAllocHost_v2(_Out_ uint64_t *address, size_t bytes)",
  freeHost: "int cuMemFreeHost(uint64_t address)",
  copyIn: "int cuMemcpyHtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, uint64_t stream)",
  copyOut: "int cuMemcpyDtoHAsync_v2(uint64_t to, uint64_t from, size_t bytes, uint64_t stream)",
  fill: "int cuMemsetD8Async(uint64_t address, uint8_t byte, size_t bytes, uint64_t stream)",
  createStream: "int cuStreamCreate(_Out_ uint64_t *stream, uint32_t flags)",
  destroyStream: "int cuStreamDestroy_v2(uint64_t stream)",
  queryStream: "int cuStreamQuery(uint64_t stream)",
  waitStream: "int cuStreamSynchronize(uint64_t stream)",
  createEvent: "int cuEventCreate(_Out_ uint64_t *event, uint32_t flags)",
  destroyEvent: "int cuEventDestroy_v2(uint64_t event)",
  record: "int cuEventRecord(uint64_t event, uint64_t stream)",
  queryEvent: "int cuEventQuery(uint64_t event)",
  elapsed: "int cuEventElapsedTime(_Out_ float *milliseconds, uint64_t first, uint64_t second)",
  loadModule: "int cuModuleLoadData(_Out_ uint64_t *module, const void *image)",
  unloadModule: "int cuModuleUnload(uint64_t module)",
  functionOf: "int cuModuleGetFunction(_Out_ uint64_t *function, uint64_t module, str name)",
  setFunction: "int cuFuncSetAttribute(uint64_t function, int attribute, int value)",
  launch:
    "int cuLaunchKernel(uint64_t function, uint32_t gx, uint32_t gy, uint32_t gz, uint32_t bx, uint32_t by, uint32_t bz, uint32_t shared, uint64_t stream, uint64_t parameters, uint64_t extra)",
  beginCapture: "int cuStreamBeginCapture_v2(uint64_t stream, int mode)",
  endCapture: "int cuStreamEndCapture(uint64_t stream, _Out_ uint64_t *graph)",
  instantiate: "int cuGraphInstantiateWithFlags(_Out_ uint64_t *executable, uint64_t graph, uint64_t flags)",
  destroyGraph: "int cuGraphDestroy(uint64_t graph)",
  launchGraph: "int cuGraphLaunch(uint64_t executable, uint64_t stream)",
  destroyExecutable: "int cuGraphExecDestroy(uint64_t executable)",
  encode:
    "int cuTensorMapEncodeTiled(uint64_t map, int type, uint32_t rank, uint64_t address, const uint64_t *sizes, const uint64_t *strides, const uint32_t *box, const uint32_t *steps, int interleave, int swizzle, int promotion, int fill)",
} as const;

type Call = (...args: (number | string | ArrayBufferView | number[] | (string | null)[])[]) => number;
type Calls = Readonly<Record<keyof typeof DECLARATIONS, Call>>;

// Values of the driver's enumerations.
const ATTRIBUTES = { multiprocessors: 16, major: 75, minor: 76, sharedBytes: 97 } as const;
const MAX_DYNAMIC_SHARED_BYTES = 8;
const NON_BLOCKING_STREAM = 1;
const UNTIMED_EVENT = 2;
const CAPTURE_OF_THIS_THREAD = 1;
const MATRIX_TYPES: Readonly<Record<DType, number>> = { u8: 0, bool: 0, u32: 2, i32: 3, f16: 6, f32: 7, f64: 8, bf16: 9 }; // prettier-ignore
const SWIZZLES: Readonly<Record<TensorMapRequest["swizzle"], number>> = { 0: 0, 32: 1, 64: 2, 128: 3 };
const PROMOTE_TO_128_BYTES = 2;

/** What a launch may be handed over on every GPU. */
const PARAMETER_BYTES = 4096;
const PAGE = 4096;

/** @throws Diagnostic of kind `gpu` when there is no driver, one that is too old, or no GPU */
export async function openDriver(
  loadKoffi: LoadKoffi = loadKoffiFromModules,
  environment: NodeJS.ProcessEnv = process.env,
): Promise<Driver> {
  // Kernels are loaded with their module: loading them in the middle of a capture would break it.
  environment["CUDA_MODULE_LOADING"] ??= "EAGER";
  const koffi = await loadKoffi();
  const { library, from } = findDriver(koffi, environment);
  const version = versionOf(library, from);
  const calls = Object.fromEntries(
    Object.entries(DECLARATIONS).map(([name, declaration]) => [name, library.func(declaration) as Call]),
  ) as Calls;

  const nameOf = (result: number): string | undefined => {
    const out: (string | null)[] = [null];
    return calls.errorName(result, out) === SUCCESS ? (out[0] ?? undefined) : undefined;
  };
  const check = (doing: string, result: number): void => {
    if (result !== SUCCESS) throw driverFailure(doing, result, nameOf);
  };
  /** The one value that a call gives. */
  const valueOf = (doing: string, call: (out: number[]) => number): number => {
    const out = [0];
    check(doing, call(out));
    return out[0]!;
  };

  check("it is initialised", calls.init(0));
  if (valueOf("GPUs are counted", calls.deviceCount) === 0) throw driverFailure("GPUs are counted", 100);
  const device = valueOf("a GPU is chosen", (out) => calls.device(out, 0));
  const gpu = describeGpu(calls, device, valueOf, check);
  const context = valueOf("the GPU's context is made", (out) => calls.retain(out, device));
  check("the GPU's context is made current", calls.setCurrent(context));

  function allocatePinned(bytes: number): PinnedMemory {
    const address = valueOf("pinned memory is allocated", (out) => calls.allocateHost(out, bytes));
    return {
      address,
      bytes: new Uint8Array(koffi.view(BigInt(address), bytes)),
      free: () => void calls.freeHost(address),
    };
  }

  // What a launch hands over is read while the call runs: one place serves all. First the struct, then its address.
  const desk = allocatePinned(PARAMETER_BYTES + PAGE);
  new DataView(desk.bytes.buffer).setBigUint64(PARAMETER_BYTES, BigInt(desk.address), true);

  const answers = (doing: string, result: number): boolean => {
    if (result === NOT_READY) return false;
    check(doing, result);
    return true;
  };

  return Object.freeze<Driver>({
    version,
    from,
    gpu,
    freeMemory: () => valueOf("memory is measured", (out) => calls.memoryInfo(out, [0])),
    allocate(bytes) {
      const out = [0];
      const result = calls.allocate(out, Math.max(bytes, 1));
      if (result === OUT_OF_MEMORY) return undefined;
      check(`${bytes} bytes are allocated`, result);
      return out[0]!;
    },
    free: (address) => void calls.free(address),
    allocatePinned,
    copyIn: (to, from, bytes, stream) => check("memory is written", calls.copyIn(to, from, bytes, stream)),
    copyOut: (to, from, bytes, stream) => check("memory is read", calls.copyOut(to, from, bytes, stream)),
    fill: (address, byte, bytes, stream) => {
      if (bytes > 0) check("memory is filled", calls.fill(address, byte, bytes, stream));
    },
    createStream: () => valueOf("a stream is made", (out) => calls.createStream(out, NON_BLOCKING_STREAM)),
    destroyStream: (stream) => void calls.destroyStream(stream),
    isIdle: (stream) => answers("kernels run", calls.queryStream(stream)),
    wait: (stream) => check("work is waited for", calls.waitStream(stream)),
    createEvent: (timed) => valueOf("an event is made", (out) => calls.createEvent(out, timed ? 0 : UNTIMED_EVENT)),
    destroyEvent: (event) => void calls.destroyEvent(event),
    record: (event, stream) => check("an event is recorded", calls.record(event, stream)),
    hasHappened: (event) => answers("kernels run", calls.queryEvent(event)),
    milliseconds: (first, second) => valueOf("time is measured", (out) => calls.elapsed(out, first, second)),
    loadModule: (image) => valueOf("compiled kernels are loaded", (out) => calls.loadModule(out, image)),
    unloadModule: (module) => void calls.unloadModule(module),
    functionOf(module, name) {
      const out = [0];
      return calls.functionOf(out, module, name) === SUCCESS ? out[0] : undefined;
    },
    allowShared: (kernel, bytes) =>
      check(
        `${bytes} bytes of shared memory are asked for`,
        calls.setFunction(kernel, MAX_DYNAMIC_SHARED_BYTES, bytes),
      ),
    launch(kernel, { blocks, threads, sharedBytes, arguments: given }, stream) {
      if (given.length > PARAMETER_BYTES) {
        throw new CompilerBug("a launch", `it is handed ${given.length} bytes, a GPU takes ${PARAMETER_BYTES}`);
      }
      desk.bytes.set(given);
      const parameters = desk.address + PARAMETER_BYTES;
      check(
        "a kernel is launched",
        calls.launch(kernel, blocks, 1, 1, threads, 1, 1, sharedBytes, stream, parameters, 0),
      );
    },
    capture(stream, work) {
      check("launches are recorded", calls.beginCapture(stream, CAPTURE_OF_THIS_THREAD));
      const graph = [0];
      try {
        work();
      } catch (error) {
        if (calls.endCapture(stream, graph) === SUCCESS) calls.destroyGraph(graph[0]!);
        throw error;
      }
      check("recorded launches become a graph", calls.endCapture(stream, graph));
      try {
        return valueOf("a graph is made ready", (out) => calls.instantiate(out, graph[0]!, 0));
      } finally {
        calls.destroyGraph(graph[0]!);
      }
    },
    launchGraph: (graph, stream) => check("a graph is launched", calls.launchGraph(graph, stream)),
    destroyGraph: (graph) => void calls.destroyExecutable(graph),
    encodeTensorMap({ address, dtype, sizes, strides, box, swizzle }) {
      const rank = sizes.length;
      if (strides.length !== rank - 1 || box.length !== rank) {
        throw new CompilerBug("a tensor map", `${rank} sizes, ${strides.length} strides, ${box.length} sides of a box`);
      }
      const wide = (values: readonly number[]): BigUint64Array => BigUint64Array.from(values, BigInt);
      const result = calls.encode(
        ...([desk.address, MATRIX_TYPES[dtype], rank, address, wide(sizes), wide([...strides, 0])] as const),
        ...([Uint32Array.from(box), new Uint32Array(rank).fill(1)] as const),
        ...([0, SWIZZLES[swizzle], PROMOTE_TO_128_BYTES, 0] as const),
      );
      if (result !== SUCCESS) {
        const facts = `address ${address}, sizes ${sizes.join(" ")}, strides ${strides.join(" ")}, box ${box.join(" ")}`;
        throw new CompilerBug("a tensor map", `the driver refuses it (${dtype}, ${facts}, swizzle ${swizzle})`);
      }
      return desk.bytes.slice(0, TENSOR_MAP_BYTES);
    },
    close() {
      desk.free();
      calls.release(device);
    },
  });
}

function versionOf(library: LibraryHandle, from: string): number {
  const out = [0];
  (library.func("int cuDriverGetVersion(_Out_ int *version)") as Call)(out);
  const [version = 0] = out;
  if (version >= OLDEST) return version;
  throw new Diagnostic({
    kind: "gpu",
    message: `the NVIDIA driver is too old: it knows CUDA ${printVersion(version)}, kernels need ${printVersion(OLDEST)}`,
    details: [`found in ${from}`],
    fix: "update the NVIDIA driver to version 525 or newer",
  });
}

/** `12.8` */
export const printVersion = (version: number): string =>
  `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`;

function describeGpu(
  calls: Calls,
  device: number,
  valueOf: (doing: string, call: (out: number[]) => number) => number,
  check: (doing: string, result: number) => void,
): Gpu {
  const name = Buffer.alloc(256);
  check("the GPU is named", calls.deviceName(name, name.length, device));
  const attribute = (which: keyof typeof ATTRIBUTES): number =>
    valueOf("the GPU is examined", (out) => calls.attribute(out, ATTRIBUTES[which], device));
  return {
    name: name.toString("utf8").replace(/\0.*$/s, ""),
    capability: [attribute("major"), attribute("minor")],
    memoryBytes: valueOf("the GPU is examined", (out) => calls.deviceMemory(out, device)),
    multiprocessors: attribute("multiprocessors"),
    sharedBytes: attribute("sharedBytes"),
  };
}
