/**
 * Runs generated CUDA kernels by themselves in the simulator, on guarded and poisoned memory, under several schedules:
 * the same cases, and the same expectations, as the CPU's.
 */
import { mkdtempSync, openSync, readSync, rmSync, closeSync, writeFileSync, existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Arch, PlanKernel } from "../../contract/plan.ts";
import { bytesOf } from "../../contract/dtype.ts";
import { evaluateSize } from "../../contract/size.ts";
import { cudaSources } from "../../compiler/emit/cuda-sources.ts";
import { toSize, type Dim } from "../../compiler/graph/dim.ts";
import { generate } from "../../compiler/targets/cuda/target.ts";
import { encodeTensorMap, openSimulator, type SimLaunch, type Simulator } from "../../runtime/devices/sim/simulator.ts";
import { expectedOf, firstMistake, prepare, type Case, type Tolerance } from "./harness.ts";

export interface SimOptions {
  readonly arch: Arch;
  /** The forms of the architecture also where others are faster. */
  readonly everywhere?: boolean;
  /** Orders in which warps run; results have the same bits under all of them. */
  readonly seeds: readonly number[];
}

const BASE = 2 ** 40;
const PAGE = 4096;

let simulator: Promise<Simulator> | undefined;

export function sim(): Promise<Simulator> {
  simulator ??= openSimulator({ sources: cudaSources().sim });
  return simulator;
}

/** Compiles, runs and compares; the mistakes in words. */
export async function simMistakesOf(
  cases: readonly Case[],
  tolerance: Tolerance,
  { arch, everywhere = false, seeds }: SimOptions,
): Promise<string[]> {
  const generated = cases.map((one) => generate(one.kernel, arch, everywhere));
  const kernels = generated.map(({ symbol, source, phases }): PlanKernel => ({
    symbol,
    formula: "",
    source,
    phases: phases.map((phase) => phase.symbol),
  }));
  const { libraries } = await (await sim()).build(kernels, () => undefined);
  const prepared = cases.map((one, i) => prepare(one, generated[i]!, 1));
  const starts: number[] = [];
  let end = 0;
  for (const { memory } of prepared) {
    starts.push(end);
    end += Math.ceil(memory.length / PAGE) * PAGE;
  }
  const launches = cases.flatMap((one, i): SimLaunch[] => {
    const { places, workspaces, operandBytes, workspaceBytes, tasks } = prepared[i]!;
    const gpu = generated[i]!.gpu!;
    const addresses = [...places, ...workspaces].map((place) => BASE + starts[i]! + place);
    const names = [
      ...one.kernel.operands.map((operand) => operand.name),
      ...workspaceBytes.map((_, w) => `workspace ${w}`),
    ];
    const bytes = [...operandBytes, ...workspaceBytes];
    return gpu.phases.flatMap(({ threads, sharedBytes }, phase): SimLaunch[] =>
      tasks[phase] === 0
        ? []
        : [
            {
              library: libraries[i]!,
              symbol: kernels[i]!.phases[phase]!,
              ...{ blocks: tasks[phase]!, threads, sharedBytes },
              arguments: argumentsOf(one, i),
              origin: one.kernel.name,
              formula: one.kernel.formula,
              buffers: addresses.map((address, b) => ({ name: names[b]!, address, bytes: bytes[b]! })),
            },
          ],
    );
  });

  function argumentsOf(one: Case, i: number): Uint8Array {
    const { places, workspaces, sizes, scalars } = prepared[i]!;
    const gpu = generated[i]!.gpu!;
    const symbols = new Map(Object.entries(one.sizes));
    const value = (dim: Dim): number => evaluateSize(toSize(dim), symbols);
    const addresses = [...places, ...workspaces].map((place) => BASE + starts[i]! + place);
    const maps = gpu.tensorMaps.map((map) =>
      encodeTensorMap({
        address: addresses[map.argument]! + value(map.offset) * bytesOf(map.dtype),
        dtype: map.dtype,
        sizes: map.sizes.map(value),
        strides: map.strides.map(value),
        box: map.box,
        swizzle: map.swizzle,
      }),
    );
    const words = new BigInt64Array([...addresses, ...sizes].map(BigInt));
    return Buffer.concat([...maps, Buffer.from(words.buffer), Buffer.from(Float64Array.from(scalars).buffer)]);
  }

  const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "soracc-sim-"));
  const path = join(folder, "memory");
  const mistakes: string[] = [];
  try {
    let before: Buffer | undefined;
    for (const seed of seeds) {
      const memory = Buffer.alloc(end);
      prepared.forEach((one, i) => memory.set(one.memory, starts[i]));
      writeFileSync(path, memory);
      await (await sim()).run({ launches, times: 1, seed, memory: { path, base: BASE, bytes: end } });
      const file = openSync(path, "r");
      readSync(file, memory, 0, end, 0);
      closeSync(file);
      if (before === undefined) {
        cases.forEach((one, i) => {
          const own = memory.subarray(starts[i], starts[i]! + prepared[i]!.memory.length);
          const got = prepared[i]!.results(Uint8Array.from(own));
          const mistake = firstMistake(one, { got, ...expectedOf(one), source: `generated for ${arch}` }, tolerance);
          if (mistake !== undefined) mistakes.push(mistake);
        });
      } else if (!before.equals(memory)) {
        mistakes.push(`schedule ${seed} gives other bits than schedule ${seeds[0]}`);
      }
      before ??= memory;
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return mistakes;
}
