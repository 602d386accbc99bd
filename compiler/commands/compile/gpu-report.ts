/** What NVRTC makes of a plan's kernels: registers, shared memory and spills of each. No GPU is needed. */
import type { Arch, Plan } from "../../../contract/plan.ts";
import { openCacheFolder } from "../../../runtime/devices/cpu/cache-folder.ts";
import { threadsWanted } from "../../../runtime/devices/cpu/threads.ts";
import {
  buildCubins,
  openBuilds,
  type BuildRequest,
  type CubinRequest,
  type Cubins,
  type KernelBuilds,
} from "../../../runtime/devices/cuda/cubins.ts";
import type { Warning } from "../../../runtime/devices/cuda/nvrtc-log.ts";
import { openNvrtc } from "../../../runtime/devices/cuda/nvrtc.ts";
import type { LoadProgress } from "../../../runtime/devices/device.ts";
import { silentProgress, startProgress } from "../../../runtime/observe/progress.ts";
import { cudaSources } from "../../emit/cuda-sources.ts";
import { targetOf } from "./build.ts";

export interface GpuReport {
  readonly arch: string;
  readonly nvrtc: string;
  /** How many kernels were not in the cache. */
  readonly compiled: number;
  /** From sources to cubins, compiling what was missing. */
  readonly seconds: number;
  /** The same once more, with all of them in the cache. */
  readonly warmSeconds: number;
  readonly phases: readonly PhaseReport[];
  /** What the compiler complains of; those about wgmma and setmaxnreg cost speed. */
  readonly warnings: readonly (Warning & { readonly kernel: string })[];
}

/** One __global__ function. */
export interface PhaseReport {
  readonly symbol: string;
  readonly formula: string;
  /** The operator of the model that it first comes from. */
  readonly origin: string;
  readonly threads: number;
  /** Of a thread. */
  readonly registers: number;
  /** Bytes of a block: those that the launch asks for, and those that the function declares. */
  readonly sharedBytes: number;
  /** Bytes of local memory of a thread; below, those of all its stores and loads of spilled registers. */
  readonly stackBytes: number;
  readonly spillStoreBytes: number;
  readonly spillLoadBytes: number;
  /** Times that one run of every program launches it. */
  readonly launches: number;
}

/** What builds the kernels of a plan that is not made yet. */
export interface Begun {
  readonly request: BuildRequest;
  readonly builds: KernelBuilds;
}

/** Undefined where something is missing: mistakes in the model are told first. */
export async function beginBuilds(arch: string | undefined, root: string): Promise<Begun | undefined> {
  try {
    const target = targetOf("cuda", arch);
    if (target.name !== "cuda") return undefined;
    const request = await requestFor(target.arch, root);
    return { request, builds: openBuilds(request, true) };
  } catch {
    return undefined;
  }
}

async function requestFor(arch: Arch, root: string): Promise<BuildRequest> {
  const notify = (message: string): void => void process.stderr.write(`soracc: ${message}\n`);
  const [nvrtc, cache] = await Promise.all([openNvrtc(), openCacheFolder(undefined, notify)]);
  return { ...{ cache, nvrtc, arch, headers: cudaSources(root).prelude }, jobs: threadsWanted() };
}

/** @throws Diagnostic: no NVRTC, or a kernel that it rejects */
export async function compileForGpu(plan: Plan, root: string, begun?: Begun): Promise<GpuReport> {
  const arch = plan.arch ?? "sm_80";
  const places = placesOf(plan);
  const request: CubinRequest = { ...(begun?.request ?? (await requestFor(arch, root))), kernels: plan.kernels };
  const { nvrtc } = request;
  const progress = process.stderr.isTTY
    ? await startProgress({ label: "kernels", total: plan.kernels.length, unit: "kernel" })
    : silentProgress;
  const watched = { ...request, progress: ({ ready }: LoadProgress) => progress.update(ready) };
  const cold = await timed(() => buildCubins(watched, begun?.builds)).finally(progress.stop);
  const warm = await timed(() => buildCubins(request));
  return {
    ...{ arch, nvrtc: nvrtc.version, compiled: cold.result.compiled },
    ...{ seconds: cold.seconds, warmSeconds: warm.seconds },
    phases: phasesOf(plan, warm.result, places),
    warnings: plan.kernels.flatMap(({ symbol }, k) =>
      warm.result.reports[k]!.warnings.map((warning) => ({ kernel: symbol, ...warning })),
    ),
  };
}

async function timed<T>(work: () => Promise<T>): Promise<{ readonly result: T; readonly seconds: number }> {
  const started = performance.now();
  const result = await work();
  return { result, seconds: (performance.now() - started) / 1000 };
}

interface Place {
  readonly origin: string;
  readonly launches: number;
}

/** By the kernel's symbol. */
function placesOf(plan: Plan): ReadonlyMap<string, Place> {
  const places = new Map<string, Place>();
  for (const { steps } of Object.values(plan.programs)) {
    for (const { kernel, origin } of steps) {
      const { symbol } = plan.kernels[kernel]!;
      const known = places.get(symbol);
      places.set(symbol, { origin: known?.origin ?? origin, launches: (known?.launches ?? 0) + 1 });
    }
  }
  return places;
}

function phasesOf(plan: Plan, { reports }: Cubins, places: ReadonlyMap<string, Place>): readonly PhaseReport[] {
  return plan.kernels.flatMap(({ symbol, formula, phases, gpu }, k) =>
    phases.map((phase, i): PhaseReport => {
      const { threads = 0, sharedBytes = 0 } = gpu?.phases[i] ?? {};
      const entry = reports[k]?.entries.find((one) => one.symbol === phase);
      return {
        ...{ symbol: phase, formula, threads, origin: places.get(symbol)?.origin ?? "" },
        registers: entry?.registers ?? 0,
        sharedBytes: sharedBytes + (entry?.sharedBytes ?? 0),
        stackBytes: entry?.stackBytes ?? 0,
        spillStoreBytes: entry?.spillStoreBytes ?? 0,
        spillLoadBytes: entry?.spillLoadBytes ?? 0,
        launches: places.get(symbol)?.launches ?? 0,
      };
    }),
  );
}

/** A table, the phases that are launched most first, then what the compiler complains of. */
export function describeGpu(report: GpuReport): readonly string[] {
  const { arch, nvrtc, seconds, warmSeconds, compiled, warnings } = report;
  const phases = [...report.phases].sort((a, b) => b.launches - a.launches);
  const spilling = phases.filter(({ spillStoreBytes, spillLoadBytes }) => spillStoreBytes + spillLoadBytes > 0).length;
  const table = [
    ["launches", "threads", "registers", "shared", "stack", "spilled", "reloaded", "function"],
    ...phases.map((one) => [
      ...[one.launches, one.threads, one.registers, one.sharedBytes, one.stackBytes].map(String),
      ...[one.spillStoreBytes, one.spillLoadBytes].map(String),
      one.symbol,
    ]),
  ];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
  const line = (row: readonly string[]): string =>
    `  ${row.map((cell, i) => (i === row.length - 1 ? cell : cell.padStart(widths[i]!))).join("  ")}`;
  const time = compiled === 0 ? "all from the cache" : `${compiled} kernels compiled in ${seconds.toFixed(2)} s`;
  return [
    `cubins      ${phases.length} functions for ${arch} by NVRTC ${nvrtc}; ${time}, ${milliseconds(warmSeconds)} when cached; ${spilling === 0 ? "none spills" : `${spilling} spill`}`,
    ...table.map(line),
    ...warnings.map(({ kernel, about, text }) => `  ${about === "other" ? "warning" : about}  ${kernel}: ${text}`),
  ];
}

const milliseconds = (seconds: number): string => `${Math.max(1, Math.round(seconds * 1000))} ms`;
