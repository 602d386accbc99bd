/**
 * Runs generated CPU kernels by themselves: many of them compiled into one library, each launched on guarded and
 * poisoned memory, with one thread and with two that take the tasks in another order.
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import koffi from "koffi";
import { bytesOf, roundToBf16, type DType } from "../../contract/dtype.ts";
import { evaluateSize } from "../../contract/size.ts";
import { toSize, type Dim } from "../../compiler/graph/dim.ts";
import { interpret, rounded } from "../../compiler/kernels/interpret.ts";
import type { Isa } from "../../runtime/devices/cpu/isa.ts";
import type { GeneratedKernel, Kernel } from "../../compiler/kernels/kernel.ts";
import { templateFolder } from "../../compiler/targets/render.ts";
import { generate } from "../../compiler/targets/cpu/target.ts";
import { findToolchain } from "../../runtime/devices/cpu/toolchain.ts";

/** A kernel with everything it is launched with. */
export interface Case {
  readonly kernel: Kernel;
  readonly sizes: Readonly<Record<string, number>>;
  /** Elements of each operand; for one that is only written, their number. */
  readonly operands: readonly (readonly number[] | Float64Array | number)[];
  /** Operand -> the operand it shares memory with (in place). */
  readonly inPlace?: ReadonlyMap<number, number>;
  readonly scalars?: readonly number[];
}

export interface Outcome {
  /** Every operand after the kernel, as numbers; what the kernel left poisoned is the poison's value. */
  readonly got: readonly Float64Array[];
  readonly expected: readonly Float64Array[];
  /** For each operand, which elements the kernel should have written. */
  readonly written: readonly boolean[][];
  readonly source: string;
}

export interface Library {
  readonly run: (which: number, one: Case, options?: { threads?: number }) => readonly Float64Array[];
  readonly sources: readonly string[];
  readonly close: () => Promise<void>;
}

const GUARD = 256; // bytes on either side of an operand
const GUARD_BYTE = 0xa5;
/** A NaN in every float type, and no likely integer. */
const POISON = 0xff;

/** What kernels are compiled for, where it is not what this machine does best. */
export interface Machine {
  readonly isa?: Isa;
  /** Flags after those of the instruction set. */
  readonly flags?: readonly string[];
}

/** Compiles the kernels of some cases, about a dozen to a source file and two files at a time. */
export async function compileCases(cases: readonly Case[], { isa, flags = [] }: Machine = {}): Promise<Library> {
  const folder = await mkdtemp(join(tmpdir(), "soracc-kernels-"));
  const generated = cases.map((one) => generate(one.kernel));
  const { command, kernelFlags } = await findToolchain(
    isa === undefined ? process.env : { ...process.env, SORACC_ISA: isa },
  );
  const [program, ...first] = command;
  const build = (args: readonly string[]) =>
    promisify(execFile)(program, [
      ...first,
      ...kernelFlags,
      ...flags,
      `-I${join(templateFolder("cpu"), "prelude")}`,
      `-I${templateFolder("prelude")}`,
      ...args,
    ]);

  const distinct = [...new Map(generated.map((kernel) => [kernel.symbol, kernel])).values()];
  const groups: GeneratedKernel[][] = [];
  distinct.forEach((kernel, i) => (groups[Math.floor(i / 12)] ??= []).push(kernel));
  const objects = groups.map((_, i) => join(folder, `group${i}.o`));
  const compile = async (i: number): Promise<void> => {
    const source = join(folder, `group${i}.cpp`);
    await writeFile(source, groups[i]!.map(inNamespace).join("\n"));
    await build(["-c", source, "-o", objects[i]!]);
  };
  const phases = distinct.flatMap((kernel) => kernel.phases.map((phase) => phase.symbol));
  await writeFile(join(folder, "driver.cpp"), driver(phases));
  const pending = groups.map((_, i) => i);
  const worker = async (): Promise<void> => {
    for (let next = pending.shift(); next !== undefined; next = pending.shift()) await compile(next);
  };
  await Promise.all([worker(), worker()]);
  const library = join(folder, "kernels.so");
  await build(["-shared", "-pthread", "-o", library, ...objects, join(folder, "driver.cpp")]);

  const loaded = koffi.load(library);
  const drive = loaded.func(
    "void drive(void* memory, const int64_t* offsets, const int64_t* sizes, const double* scalars, const int64_t* phases, int64_t threads)",
  );
  const numbers = new Map(phases.map((symbol, i) => [symbol, i]));
  return {
    sources: generated.map((kernel) => kernel.source),
    run: (which, one, { threads = 1 } = {}) =>
      launch(one, generated[which]!, threads, (memory, offsets, sizes, scalars, tasks) => {
        const list = generated[which]!.phases.flatMap((phase, i) => [numbers.get(phase.symbol)!, tasks[i]!]);
        const count = [generated[which]!.phases.length, ...list].map(BigInt);
        drive(memory, offsets, sizes, scalars, new BigInt64Array(count), threads);
      }),
    close: async () => {
      loaded.unload();
      await rm(folder, { recursive: true });
    },
  };
}

/** Sources that share one file: what is private to each moves into a namespace of its own. */
function inNamespace(kernel: GeneratedKernel, i: number): string {
  const text = kernel.source.replace(/(?:#include .*\n)+/, (includes) => `${includes}namespace source${i} {\n`);
  return `${text}\n}  // namespace source${i}\n`;
}

/** Calls phases by number; odd tasks run first, and backwards, on a second thread where there is one. */
function driver(phases: readonly string[]): string {
  return `#include <thread>
#include <vector>
#include "launch.hpp"
${phases.map((symbol) => `extern "C" void ${symbol}(const Launch*, int64_t);`).join("\n")}
typedef void (*Phase)(const Launch*, int64_t);
static const Phase PHASES[] = {${phases.join(", ")}};
extern "C" __attribute__((visibility("default"))) void drive(void* memory, const int64_t* offsets, const int64_t* sizes,
    const double* scalars, const int64_t* phases, int64_t threads) {
  // offsets: number of buffers, their places, the places of each thread's scratch
  char* const base = static_cast<char*>(memory);
  std::vector<void*> buffers;
  for (int64_t i = 0; i < offsets[0]; ++i) buffers.push_back(base + offsets[1 + i]);
  for (int64_t p = 0; p < phases[0]; ++p) {
    const Phase phase = PHASES[phases[1 + 2 * p]];
    const int64_t tasks = phases[2 + 2 * p];
    auto work = [&](int64_t thread) {
      const Launch launch = {buffers.data(), sizes, scalars, base + offsets[1 + offsets[0] + thread]};
      if (threads == 1) for (int64_t task = 0; task < tasks; ++task) phase(&launch, task);
      else for (int64_t task = tasks - 1; task >= 0; --task) if (task % 2 == thread) phase(&launch, task);
    };
    if (threads == 1) { work(0); continue; }
    std::thread other(work, 1);
    work(0);
    other.join();
  }
}
`;
}

type Drive = (
  memory: Uint8Array,
  offsets: BigInt64Array,
  sizes: BigInt64Array,
  scalars: Float64Array,
  tasks: number[],
) => void;

function launch(one: Case, generated: GeneratedKernel, threads: number, drive: Drive): Float64Array[] {
  const { memory, places, workspaces, scratch, sizes, scalars, tasks, results } = prepare(one, generated, threads);
  const buffers = [...places, ...workspaces];
  drive(
    memory,
    new BigInt64Array([buffers.length, ...buffers, ...scratch].map(BigInt)),
    new BigInt64Array([...sizes, 0].map(BigInt)),
    new Float64Array([...scalars, 0]),
    [...tasks],
  );
  return results(memory);
}

/** A case in memory, ready to be launched. Places are bytes from the start of `memory`. */
export interface Prepared {
  readonly memory: Uint8Array;
  readonly places: readonly number[];
  readonly workspaces: readonly number[];
  readonly scratch: readonly number[];
  /** Bytes of each operand and of each workspace. */
  readonly operandBytes: readonly number[];
  readonly workspaceBytes: readonly number[];
  readonly sizes: readonly number[];
  readonly scalars: readonly number[];
  readonly tasks: readonly number[];
  /** Checks the guards and what must not have changed, and reads the operands. */
  readonly results: (memory: Uint8Array) => Float64Array[];
}

/** Lays operands, workspaces and scratch out with guards between them. */
export function prepare(one: Case, generated: GeneratedKernel, threads: number): Prepared {
  const { kernel } = one;
  const symbols = new Map(Object.entries(one.sizes));
  const size = (dim: Dim): number => evaluateSize(toSize(dim), symbols);
  let end = 0;
  const parts: { start: number; bytes: number }[] = [];
  const reserve = (bytes: number): number => {
    const start = Math.ceil((end + GUARD) / 64) * 64;
    parts.push({ start, bytes });
    end = start + bytes + GUARD;
    return start;
  };
  const lengths = one.operands.map((operand) => (typeof operand === "number" ? operand : operand.length));
  const places: number[] = [];
  kernel.operands.forEach(({ dtype }, i) => {
    const shared = one.inPlace?.get(i);
    places.push(shared === undefined ? reserve(lengths[i]! * bytesOf(dtype)) : places[shared]!);
  });
  const operandBytes = kernel.operands.map(({ dtype }, i) => lengths[i]! * bytesOf(dtype));
  const workspaceBytes = generated.workspaces.map(size);
  const workspaces = workspaceBytes.map(reserve);
  const scratch = Array.from({ length: threads }, () => reserve(size(generated.scratch)));

  const memory = alignedBytes(end);
  memory.fill(GUARD_BYTE);
  for (const { start, bytes } of parts) memory.fill(POISON, start, start + bytes);
  one.operands.forEach((operand, i) => {
    if (typeof operand !== "number") encode(memory, places[i]!, kernel.operands[i]!.dtype, operand);
  });
  const inputs = kernel.operands.map(({ dtype }, i) =>
    memory.slice(places[i], places[i]! + lengths[i]! * bytesOf(dtype)),
  );

  return {
    ...{ memory, places, workspaces, scratch, operandBytes, workspaceBytes },
    sizes: kernel.symbols.map((name) => symbols.get(name)!),
    scalars: one.scalars ?? [],
    tasks: generated.phases.map((phase) => size(phase.tasks)),
    results: (after) => resultsOf(one, parts, end, places, inputs, after),
  };
}

function resultsOf(
  one: Case,
  parts: readonly { readonly start: number; readonly bytes: number }[],
  end: number,
  places: readonly number[],
  inputs: readonly Uint8Array[],
  memory: Uint8Array,
): Float64Array[] {
  const { kernel } = one;
  const lengths = one.operands.map((operand) => (typeof operand === "number" ? operand : operand.length));
  let from = 0;
  for (const { start, bytes } of [...parts, { start: end, bytes: 0 }]) {
    for (let at = from; at < start; at++) {
      if (memory[at] !== GUARD_BYTE) throw new Error(`${kernel.name} wrote outside its operands`);
    }
    from = start + bytes;
  }
  kernel.operands.forEach(({ role, name, dtype }, i) => {
    if (role === "write" || [...(one.inPlace ?? [])].some(([, shared]) => shared === i)) return;
    const now = memory.subarray(places[i], places[i]! + lengths[i]! * bytesOf(dtype));
    if (Buffer.compare(now, inputs[i]!) !== 0) throw new Error(`${kernel.name} wrote to ${name}, which it only reads`);
  });
  return kernel.operands.map(({ dtype }, i) => decode(memory, places[i]!, dtype, lengths[i]!));
}

function alignedBytes(bytes: number): Uint8Array {
  return new Uint8Array(Math.ceil(bytes / 64) * 64); // typed arrays of this size start on a 16-byte boundary at least
}

/** Stores numbers as elements: exactly, since inputs are rounded to their type first. */
function encode(memory: Uint8Array, start: number, dtype: DType, values: ArrayLike<number>): void {
  const view = new DataView(memory.buffer);
  for (let i = 0; i < values.length; i++) {
    const at = start + i * bytesOf(dtype);
    const value = values[i]!;
    if (dtype === "f64") view.setFloat64(at, value, true);
    else if (dtype === "f32") view.setFloat32(at, value, true);
    else if (dtype === "i32") view.setInt32(at, value, true);
    else if (dtype === "u32") view.setUint32(at, value, true);
    else if (dtype === "bf16") view.setUint16(at, bf16Bits(value), true);
    else if (dtype === "f16") view.setUint16(at, f16Bits(value), true);
    else memory[at] = value;
  }
}

function decode(memory: Uint8Array, start: number, dtype: DType, count: number): Float64Array {
  const view = new DataView(memory.buffer);
  const read: Readonly<Record<DType, (at: number) => number>> = {
    f64: (at) => view.getFloat64(at, true),
    f32: (at) => view.getFloat32(at, true),
    i32: (at) => view.getInt32(at, true),
    u32: (at) => view.getUint32(at, true),
    bf16: (at) => new Float32Array(new Uint32Array([view.getUint16(at, true) * 65536]).buffer)[0]!,
    f16: (at) => f16Value(view.getUint16(at, true)),
    u8: (at) => memory[at]!,
    bool: (at) => memory[at]!,
  };
  return Float64Array.from({ length: count }, (_, i) => read[dtype](start + i * bytesOf(dtype)));
}

const bf16Bits = (value: number): number => new Uint32Array(new Float32Array([roundToBf16(value)]).buffer)[0]! >>> 16;

function f16Value(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

function f16Bits(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (magnitude === Infinity) return sign | 0x7c00;
  if (magnitude < 2 ** -14) return sign | (magnitude * 2 ** 24);
  const exponent = Math.floor(Math.log2(magnitude));
  return sign | ((exponent + 15) << 10) | (magnitude * 2 ** (10 - exponent) - 1024);
}

/** Runs a case on one thread and on two, which must agree to the bit, and in the interpreter. */
export function runCase(library: Library, which: number, one: Case): Outcome {
  const { kernel } = one;
  const got = library.run(which, one);
  const again = library.run(which, one, { threads: 2 });
  got.forEach((operand, i) => {
    const bits = (values: Float64Array) => Buffer.from(values.buffer);
    if (bits(operand).equals(bits(again[i]!))) return;
    throw new Error(`${kernel.name}: ${kernel.operands[i]!.name} differs between one thread and two`);
  });
  return { got, ...expectedOf(one), source: library.sources[which]! };
}

/** What the interpreter makes of a case, and which elements it writes. */
export function expectedOf(one: Case): Pick<Outcome, "expected" | "written"> {
  const expected = one.kernel.operands.map(({ dtype }, i) => startValues(one.operands[i]!, dtype));
  for (const [operand, shared] of one.inPlace ?? []) expected[operand] = expected[shared]!;
  interpret(one.kernel, { sizes: new Map(Object.entries(one.sizes)), operands: expected, scalars: one.scalars ?? [] });
  const written = expected.map((values) => [...values].map((value) => value !== UNWRITTEN));
  return { expected, written };
}

/** Stands for an element that was never written; no test computes it. */
const UNWRITTEN = -7.0368744177664e13;

const startValues = (operand: readonly number[] | Float64Array | number, dtype: DType): Float64Array =>
  typeof operand === "number"
    ? new Float64Array(operand).fill(UNWRITTEN)
    : Float64Array.from(operand, (value) => rounded(value, dtype));

/** The poisoned value of an element that nobody wrote. */
export const isPoison = (value: number, dtype: DType): boolean =>
  Object.is(value, { f64: NaN, f32: NaN, bf16: NaN, f16: NaN, i32: -1, u32: 2 ** 32 - 1, u8: 255, bool: 255 }[dtype]);

export interface Tolerance {
  readonly relative: number;
  readonly absolute: number;
}

const STEP: Readonly<Record<DType, number>> = {
  f64: 0,
  f32: 0,
  bf16: 2 ** -7,
  f16: 2 ** -10,
  i32: 0,
  u32: 0,
  u8: 0,
  bool: 0,
};

/** The first element that is wrong, in words; undefined when all are right. Stores may round to either neighbour. */
export function firstMistake(one: Case, outcome: Outcome, { relative, absolute }: Tolerance): string | undefined {
  for (const [i, { name, dtype, role }] of one.kernel.operands.entries()) {
    if (role === "read" && !(one.inPlace?.size ?? 0)) continue;
    const [got, expected, written] = [outcome.got[i]!, outcome.expected[i]!, outcome.written[i]!];
    for (let at = 0; at < got.length; at++) {
      if (!written[at]) {
        if (isPoison(got[at]!, dtype)) continue;
        return `${one.kernel.name}: ${name}[${at}] was written and should not be\n${outcome.source}`;
      }
      const [mine, theirs] = [got[at]!, expected[at]!];
      if (Object.is(mine, theirs) || mine === theirs) continue;
      const allowed = absolute + (relative + STEP[dtype]) * Math.abs(theirs);
      if (Math.abs(mine - theirs) <= allowed) continue;
      return `${one.kernel.name}: ${name}[${at}] is ${mine} and should be ${theirs}\n${outcome.source}`;
    }
  }
  return undefined;
}

/** Compiles, runs and compares; the mistakes in words. */
export async function mistakesOf(cases: readonly Case[], tolerance: Tolerance, machine?: Machine): Promise<string[]> {
  const library = await compileCases(cases, machine);
  try {
    return cases.flatMap((one, i) => firstMistake(one, runCase(library, i, one), tolerance) ?? []);
  } finally {
    await library.close();
  }
}
