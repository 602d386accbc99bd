/**
 * The simulator: CUDA kernels, unchanged, on this machine's processor. It compiles them with the host's compiler against
 * templates/cuda/sim and runs launches in a child process, so that nothing a kernel does can harm this one. What a
 * kernel does wrong (a race, an access out of bounds, a wait that is missing, a deadlock) ends the run and is told with
 * the line where it happens.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { CompilerBug, Diagnostic } from "../../../contract/diagnostic.ts";
import { bytesOf, type DType } from "../../../contract/dtype.ts";
import type { PlanKernel } from "../../../contract/plan.ts";
import { cached, hashOf, openCacheFolder, type CacheFolder } from "../cpu/cache-folder.ts";
import { runChild, type ChildResult } from "../cpu/child.ts";
import { findToolchain, type Toolchain } from "../cpu/toolchain.ts";
import type { LoadProgress } from "../device.ts";

export interface SimulatorOptions {
  /** Texts of the shared prelude and of templates/cuda/sim, by file name. */
  readonly sources: Readonly<Record<string, string>>;
  readonly cacheDir?: string | undefined;
  /** How many compilers run at a time. */
  readonly threads?: number | undefined;
  readonly notify?: ((message: string) => void) | undefined;
}

export interface SimKernels {
  /** The path of each kernel's library. */
  readonly libraries: readonly string[];
  readonly compiled: number;
}

export interface SimLaunch {
  readonly library: string;
  readonly symbol: string;
  readonly blocks: number;
  readonly threads: number;
  readonly sharedBytes: number;
  /** The launch's `Arguments`, as they lie in memory. */
  readonly arguments: Uint8Array;
  readonly origin: string;
  readonly formula: string;
  /** All that the launch may touch. */
  readonly buffers: readonly { readonly name: string; readonly address: number; readonly bytes: number }[];
}

export interface SimRun {
  readonly launches: readonly SimLaunch[];
  readonly times: number;
  /** The order in which warps run follows from it. */
  readonly seed: number;
  /** Device memory: `bytes` of the file `path`, mapped at the address `base`. */
  readonly memory: { readonly path: string; readonly base: number; readonly bytes: number };
  readonly signal?: AbortSignal;
}

export interface Simulator {
  /** For people: what compiles and runs the kernels. */
  readonly description: string;
  build(kernels: readonly PlanKernel[], progress: (progress: LoadProgress) => void): Promise<SimKernels>;
  /** @throws Diagnostic of kind `simulation` for what a kernel does wrong */
  run(run: SimRun): Promise<void>;
}

const NO_ENTRY_HOOKS = "--param=tsan-instrument-func-entry-exit=0";

/**
 * Loads and stores are reported by the compiler to functions of the executor; the sanitizer's own library is not linked,
 * nor is anything else: what a kernel calls is found in the executor. Numbers are those of the machine's own arithmetic,
 * with sums of products contracted as on a GPU.
 */
const KERNEL_FLAGS = [
  ...["-std=c++17", "-O1", "-g1", "-fPIC", "-fsanitize=thread", "-fno-exceptions", "-fno-rtti", "-w"],
  ...["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"],
  ...["-shared", "-nostdlib", "-Wl,--wrap=memcpy,--wrap=memmove,--wrap=memset"],
];
const EXECUTOR_FLAGS = [
  ...["-std=c++17", "-O3", "-g1", "-rdynamic", "-w", "executor.cpp", "-o", "executor"],
  ...["-Wl,--no-as-needed", "-lm", "-ldl"],
];
const FAULT_EXIT = 3;

interface Workshop {
  readonly cache: CacheFolder;
  readonly toolchain: Toolchain;
  /** The compiler, with what makes it step back behind other work. */
  readonly command: readonly [string, ...string[]];
  /** What this compiler and this processor add to the flags. */
  readonly flags: readonly string[];
  /** The folder with all sources. */
  readonly folder: string;
  /** Hash of everything that decides what a library is, apart from its kernel. */
  readonly common: string;
}

/** @throws Diagnostic when there is no compiler, or it rejects the executor */
export async function openSimulator(options: SimulatorOptions): Promise<Simulator> {
  if (process.platform !== "linux") {
    throw new Diagnostic({ kind: "machine", message: `the simulator runs on Linux, and this is ${process.platform}` });
  }
  const notify = options.notify ?? ((message: string) => void process.stderr.write(`soracc: ${message}\n`));
  const [toolchain, cache, nice] = await Promise.all([
    findToolchain(),
    openCacheFolder(options.cacheDir, notify),
    runChild("nice", ["-n", "5", "true"]),
  ]);
  const native = toolchain.kernelFlags.filter((flag) => /^-m(?:arch|cpu)=/.test(flag));
  const flags = toolchain.name.startsWith("g++") ? [...native, NO_ENTRY_HOOKS] : native;
  const common = hashOf(
    ...["sim", toolchain.fingerprint, ...flags, ...KERNEL_FLAGS, ...EXECUTOR_FLAGS],
    JSON.stringify(Object.entries(options.sources).sort()),
  );
  const bench = { toolchain, command: nice.code === 0 ? gently(toolchain) : toolchain.command };
  const executor = await cached(cache, common, "executor", async (folder) => {
    await Promise.all(Object.entries(options.sources).map(([name, text]) => writeFile(join(folder, name), text)));
    await compile(bench, [...native, ...EXECUTOR_FLAGS], folder, "the simulator");
  });
  const workshop: Workshop = { ...bench, cache, flags, folder: dirname(executor.path), common };
  const jobs = options.threads ?? availableParallelism();
  return {
    description: `simulated, ${toolchain.name}`,
    build: async (kernels, progress) => buildAll(workshop, kernels, jobs, progress),
    run: async (run) => runAll(toolchain, executor.path, run),
  };
}

const gently = ({ command }: Toolchain): Workshop["command"] => ["nice", "-n", "5", ...command];

async function buildAll(
  workshop: Workshop,
  kernels: readonly PlanKernel[],
  jobs: number,
  progress: (progress: LoadProgress) => void,
): Promise<SimKernels> {
  const libraries: string[] = [];
  let next = 0;
  let ready = 0;
  let compiled = 0;
  let failure: unknown;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < kernels.length && failure === undefined; index = next++) {
      try {
        const entry = await buildOne(workshop, kernels[index]!);
        libraries[index] = entry.path;
        if (entry.built) compiled++;
        progress({ kernels: kernels.length, ready: ++ready, compiled, doing: "compiling kernels" });
      } catch (error) {
        failure ??= error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, jobs) }, worker));
  if (failure !== undefined) throw failure as Error;
  progress({ kernels: kernels.length, ready: kernels.length, compiled, doing: "ready" });
  return { libraries, compiled };
}

const buildOne = (workshop: Workshop, kernel: PlanKernel) =>
  cached(workshop.cache, hashOf(workshop.common, kernel.source, ...kernel.phases), "kernel.so", async (folder) => {
    await writeFile(join(folder, "kernel.cu"), kernel.source);
    await writeFile(join(folder, "kernel.cpp"), entriesOf(kernel));
    const flags = [...workshop.flags, ...KERNEL_FLAGS, `-I${workshop.folder}`, "kernel.cpp", "-o", "kernel.so"];
    await compile(workshop, flags, folder, `kernel ${kernel.symbol}`);
  });

/** The kernel's source as it is, and for each phase a function that any launch can call, and the size of what it takes. */
const entriesOf = ({ phases }: PlanKernel): string =>
  [
    `#include "kernel.cu"`,
    ...phases.flatMap((phase) => [
      `extern "C" void ${phase}_sim(const void* given) { soracc::${phase}(*static_cast<const soracc::Arguments*>(given)); }`,
      `extern "C" unsigned long ${phase}_bytes() { return sizeof(soracc::Arguments); }`,
    ]),
    "",
  ].join("\n");

async function compile(
  { toolchain, command }: Pick<Workshop, "toolchain" | "command">,
  flags: readonly string[],
  folder: string,
  what: string,
): Promise<void> {
  const [program, ...first] = command;
  const result = await runChild(program, [...first, ...flags], { cwd: folder });
  if (result.code === 0) return;
  const lines = result.stderr.split("\n").filter((line) => line.trim() !== "");
  const errors = lines.filter((line) => /\berror\b|undefined reference|cannot find|[Kk]illed/.test(line));
  throw new Diagnostic({
    kind: "compiler",
    message: `${toolchain.name} rejects ${what} as host code`,
    details: (errors.length > 0 ? errors : lines).slice(0, 4),
    fix: "this is not your mistake; please report it",
  });
}

async function runAll(toolchain: Toolchain, executor: string, run: SimRun): Promise<void> {
  if (run.launches.length === 0) return;
  const folder = await mkdtemp(join(tmpdir(), "soracc-sim-"));
  try {
    const job = join(folder, "job.txt");
    await writeFile(job, jobText(run));
    const result = await runChild(executor, [job], { abort: run.signal });
    if (result.code === 0) return;
    if (run.signal?.aborted === true)
      throw new Diagnostic({ kind: "cancelled", message: "the simulation was stopped" });
    throw await explain(toolchain, run, result);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function jobText({ launches, times, seed, memory }: SimRun): string {
  const libraries = [...new Set(launches.map(({ library }) => library))];
  const positions = new Map(libraries.map((path, i) => [path, i]));
  const lines = [
    `memory ${memory.base} ${memory.bytes} ${memory.path}`,
    `seed ${seed}`,
    `times ${times}`,
    ...libraries.map((path) => `library ${path}`),
  ];
  for (const one of launches) {
    const hexadecimal = Buffer.from(one.arguments).toString("hex");
    const words = [positions.get(one.library), one.symbol, one.blocks, one.threads, one.sharedBytes, hexadecimal];
    lines.push(`launch ${words.join(" ")} ${one.origin}`);
    for (const { name, address, bytes } of one.buffers) lines.push(`buffer ${address} ${bytes} ${name}`);
  }
  return `${lines.join("\n")}\n`;
}

/** What the executor writes before it ends itself. */
interface Fault {
  readonly message: string;
  readonly kernel: string;
  readonly origin: string;
  /** Below 0: not in a block. */
  readonly block: number;
  readonly thread: number;
  readonly places: readonly FaultPlace[];
  readonly details: readonly string[];
}

/** An instruction, and what happened there. */
interface FaultPlace {
  readonly what: string;
  readonly library?: string;
  readonly offset?: number;
  readonly function?: string;
}

async function explain(toolchain: Toolchain, run: SimRun, result: ChildResult): Promise<Error> {
  const line = result.stdout.trim().split("\n").at(-1) ?? "";
  if (result.code !== FAULT_EXIT || !line.startsWith("{")) {
    return new CompilerBug(
      "the simulator",
      `it ended with ${result.code ?? result.signal ?? result.failure ?? "no code"}: ${result.stderr.slice(0, 400)}`,
    );
  }
  const fault = JSON.parse(line) as Fault;
  const launch = run.launches.find(({ symbol }) => symbol === fault.kernel);
  return new Diagnostic({
    kind: "simulation",
    message: `${fault.kernel}: ${fault.message}`,
    details: [
      ...(await Promise.all(fault.places.map(placeText))),
      ...fault.details,
      ...(fault.block < 0 ? [] : [`in block ${fault.block}, thread ${fault.thread}, schedule ${run.seed}`]),
      ...(fault.origin === "" ? [] : [`it comes from: ${fault.origin}`]),
      ...(launch === undefined || launch.formula === "" ? [] : [`it computes: ${launch.formula}`]),
      ...(launch === undefined ? [] : [`source: ${join(dirname(launch.library), "kernel.cu")}`]),
    ],
    fix: `the kernel is wrong, not the model; please report it with ${toolchain.name} and this message`,
  });
}

async function placeText(place: FaultPlace): Promise<string> {
  const { what, library, offset } = place;
  const where =
    library === undefined || offset === undefined
      ? "nowhere in the kernel"
      : ((await sourceLine(library, offset)) ??
        `${place.function ?? basename(library)} (no addr2line to tell the line)`);
  return what === "" ? `at ${where}` : `${what}: ${where}`;
}

/** `kernel.cu:41`, by the debugger's tables; from inside the prelude, `block.cuh:52, called from kernel.cu:41`. */
async function sourceLine(library: string, offset: number): Promise<string | undefined> {
  const result = await runChild("addr2line", ["-i", "-e", library, `0x${offset.toString(16)}`]);
  if (result.code !== 0) return undefined;
  const frames = result.stdout
    .trim()
    .split("\n")
    .flatMap((frame) => {
      const [, file, number] = /([^/]+):(\d+)/.exec(frame) ?? [];
      return file === undefined || MACHINE.includes(file) ? [] : [{ file, number: Number(number) }];
    });
  const own = frames.find(({ file }) => file === "kernel.cu");
  const [inner] = frames;
  if (inner === undefined) return undefined;
  const within = own === undefined || own === inner ? "" : `, called from kernel.cu:${own.number}`;
  return `${inner.file}:${inner.number}${within}`;
}

/** Every instruction is in there; who uses it is what people look for. */
const MACHINE = ["machine.cuh", "hopper.cuh"];

export interface TensorMapRequest {
  readonly address: number;
  readonly dtype: DType;
  readonly sizes: readonly number[];
  readonly strides: readonly number[];
  readonly box: readonly number[];
  readonly swizzle: 0 | 32 | 64 | 128;
}

const TENSOR_MAP = 0x50ac;

/** Our own bits of a tensor map (`TensorMapBits` of sim/copies.hpp), refused where the driver would refuse it. */
export function encodeTensorMap({ address, dtype, sizes, strides, box, swizzle }: TensorMapRequest): Uint8Array {
  const width = bytesOf(dtype);
  const refuse = (why: string): never => {
    throw new CompilerBug(
      "a tensor map",
      `${why} (sizes ${sizes.join(" ")}, strides ${strides.join(" ")}, box ${box.join(" ")})`,
    );
  };
  if (address % 16 !== 0) refuse(`its address ${address} is no multiple of 16`);
  if (sizes.length < 1 || sizes.length > 5) refuse(`it has ${sizes.length} dimensions`);
  if (sizes.some((size) => size < 1 || size > 2 ** 32)) refuse("a size is not from 1 to 2^32");
  if (strides.some((stride) => stride % 16 !== 0 || stride >= 2 ** 40))
    refuse("a stride is no multiple of 16 below 2^40");
  if (box.some((side) => side < 1 || side > 256)) refuse("a side of the box is not from 1 to 256");
  const inner = (box[0] ?? 0) * width;
  if (inner % 16 !== 0) refuse("a row of the box is no multiple of 16 bytes");
  if (swizzle !== 0 && inner > swizzle) refuse(`a row of the box has ${inner} bytes, the swizzle ${swizzle}`);
  const bytes = new DataView(new ArrayBuffer(128));
  bytes.setBigUint64(0, BigInt(address), true);
  bytes.setUint16(8, TENSOR_MAP, true);
  bytes.setUint8(10, sizes.length);
  bytes.setUint8(11, width);
  bytes.setUint32(12, swizzle, true);
  sizes.forEach((size, i) => bytes.setBigUint64(16 + 8 * i, BigInt(size), true));
  strides.forEach((stride, i) => bytes.setBigUint64(56 + 8 * i, BigInt(stride), true));
  box.forEach((side, i) => bytes.setBigUint64(88 + 8 * i, BigInt(side), true));
  return new Uint8Array(bytes.buffer);
}
