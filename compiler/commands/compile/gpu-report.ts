/** What NVRTC makes of a plan's kernels: registers, shared memory and spills of each. No GPU is needed. */
import { availableParallelism } from "node:os";
import type { Plan } from "../../../contract/plan.ts";
import { openCacheFolder } from "../../../runtime/devices/cpu/cache-folder.ts";
import { buildCubins } from "../../../runtime/devices/cuda/cubins.ts";
import { openNvrtc } from "../../../runtime/devices/cuda/nvrtc.ts";
import { cudaSources } from "../../emit/cuda-sources.ts";

export interface GpuReport {
  readonly arch: string;
  readonly nvrtc: string;
  /** From sources to cubins. */
  readonly seconds: number;
  /** How many kernels were not in the cache. */
  readonly compiled: number;
  readonly phases: readonly PhaseReport[];
}

/** One __global__ function. */
export interface PhaseReport {
  readonly symbol: string;
  readonly formula: string;
  readonly threads: number;
  readonly registers: number;
  /** Bytes of a block. */
  readonly sharedBytes: number;
  readonly spillBytes: number;
  readonly stackBytes: number;
  /** Times that one run of every program launches it. */
  readonly launches: number;
}

/** @throws Diagnostic: no NVRTC, or a kernel that it rejects */
export async function compileForGpu(plan: Plan, root: string): Promise<GpuReport> {
  const notify = (message: string): void => void process.stderr.write(`soracc: ${message}\n`);
  const [nvrtc, cache] = await Promise.all([openNvrtc(), openCacheFolder(undefined, notify)]);
  const arch = plan.arch ?? "sm_80";
  const started = performance.now();
  const origins = originsOf(plan);
  const { reports, compiled } = await buildCubins({
    ...{ cache, nvrtc, arch, kernels: plan.kernels, headers: cudaSources(root).prelude },
    jobs: availableParallelism(),
    originOf: (kernel) => origins.get(kernel.symbol)?.origin,
  });
  return {
    arch,
    nvrtc: nvrtc.version,
    seconds: (performance.now() - started) / 1000,
    compiled,
    phases: plan.kernels.flatMap(({ symbol, formula, phases, gpu }, k) =>
      phases.map((phase, i): PhaseReport => {
        const entry = reports[k]?.entries.find((one) => one.symbol === phase);
        return {
          ...{ symbol: phase, formula, threads: gpu?.phases[i]?.threads ?? 0 },
          registers: entry?.registers ?? 0,
          sharedBytes: gpu?.phases[i]?.sharedBytes ?? 0,
          spillBytes: entry?.spillBytes ?? 0,
          stackBytes: entry?.stackBytes ?? 0,
          launches: origins.get(symbol)?.launches ?? 0,
        };
      }),
    ),
  };
}

function originsOf(plan: Plan): ReadonlyMap<string, { readonly origin: string; readonly launches: number }> {
  const found = new Map<string, { origin: string; launches: number }>();
  for (const { steps } of Object.values(plan.programs)) {
    for (const { kernel, origin } of steps) {
      const { symbol } = plan.kernels[kernel]!;
      const known = found.get(symbol) ?? { origin, launches: 0 };
      known.launches++;
      found.set(symbol, known);
    }
  }
  return found;
}

/** A table, the phases that are launched most first. */
export function describeGpu({ arch, nvrtc, seconds, compiled, phases }: GpuReport): readonly string[] {
  const rows = [...phases].sort((a, b) => b.launches - a.launches);
  const spilled = rows.filter(({ spillBytes }) => spillBytes > 0).length;
  const head = ["launches", "threads", "registers", "shared", "spilled", "stack", "kernel"];
  const cells = rows.map((one) => [
    ...[one.launches, one.threads, one.registers, one.sharedBytes, one.spillBytes, one.stackBytes].map(String),
    one.symbol,
  ]);
  const width = (column: number): number => Math.max(...[head, ...cells].map((row) => row[column]!.length));
  const line = (row: readonly string[]): string =>
    `  ${row.map((cell, i) => (i === row.length - 1 ? cell : cell.padStart(width(i)))).join("  ")}`;
  return [
    `cubins      ${phases.length} functions for ${arch}, ${compiled} kernels compiled by NVRTC ${nvrtc} in ${seconds.toFixed(2)} s, ${spilled === 0 ? "none spills" : `${spilled} spill`}`,
    line(head),
    ...cells.map(line),
  ];
}
