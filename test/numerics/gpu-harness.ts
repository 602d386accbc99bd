/**
 * Runs generated CUDA kernels by themselves, on guarded and poisoned memory, in the simulator under several schedules
 * or on a GPU: the same cases, and the same expectations, as the CPU's.
 */
import { bytesOf } from "../../contract/dtype.ts";
import type { Arch, PlanKernel } from "../../contract/plan.ts";
import { evaluateSize } from "../../contract/size.ts";
import { toSize, type Dim } from "../../compiler/graph/dim.ts";
import { generate } from "../../compiler/targets/cuda/target.ts";
import { runOnMachine, type Grid, type Ground } from "../gpu/machine.ts";
import { expectedOf, firstMistake, prepare, type Case, type Tolerance } from "./harness.ts";
import { NO_WORK } from "../device/small-plans.ts";

export interface GpuOptions {
  readonly arch: Arch;
  /** The forms of the architecture also where others are faster. */
  readonly everywhere?: boolean;
  /** Orders in which warps run; results have the same bits under all of them. */
  readonly seeds: readonly number[];
}

const PAGE = 4096;

/** Compiles, runs and compares; the mistakes in words. */
export async function gpuMistakesOf(
  cases: readonly Case[],
  tolerance: Tolerance,
  { arch, everywhere = false, seeds }: GpuOptions,
): Promise<string[]> {
  const generated = cases.map((one) => generate(one.kernel, arch, everywhere));
  const kernels = generated.map(({ symbol, source, phases }, i): PlanKernel => ({
    ...{ symbol, source, formula: cases[i]!.kernel.formula },
    phases: phases.map((phase) => phase.symbol),
    sizes: [],
    work: NO_WORK,
  }));
  const prepared = cases.map((one, i) => prepare(one, generated[i]!, 1));
  const starts: number[] = [];
  let end = 0;
  for (const { memory } of prepared) {
    starts.push(end);
    end += Math.ceil(memory.length / PAGE) * PAGE;
  }
  const grids = cases.flatMap((one, i): Grid[] => {
    const { places, workspaces, operandBytes, workspaceBytes, tasks } = prepared[i]!;
    const names = [...one.kernel.operands.map(({ name }) => name), ...workspaceBytes.map((_, w) => `workspace ${w}`)];
    const bytes = [...operandBytes, ...workspaceBytes];
    const buffers = [...places, ...workspaces].map((place, b) => ({
      ...{ name: names[b]!, start: starts[i]! + place, bytes: bytes[b]! },
    }));
    return generated[i]!.gpu!.phases.flatMap(({ threads, sharedBytes }, phase): Grid[] =>
      tasks[phase] === 0
        ? []
        : [
            {
              kernel: i,
              phase,
              blocks: tasks[phase]!,
              threads,
              sharedBytes,
              buffers,
              argumentsOn: argumentsOf(one, i),
            },
          ],
    );
  });

  function argumentsOf(one: Case, i: number): Grid["argumentsOn"] {
    const { places, workspaces, sizes, scalars } = prepared[i]!;
    const symbols = new Map(Object.entries(one.sizes));
    const value = (dim: Dim): number => evaluateSize(toSize(dim), symbols);
    return ({ base, encodeTensorMap }: Ground) => {
      const addresses = [...places, ...workspaces].map((place) => base + starts[i]! + place);
      const maps = generated[i]!.gpu!.tensorMaps.map((map) =>
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
    };
  }

  const memory = new Uint8Array(end);
  prepared.forEach((one, i) => memory.set(one.memory, starts[i]));
  const mistakes: string[] = [];
  let before: Uint8Array | undefined;
  for (const seed of seeds) {
    const after = await runOnMachine({ kernels, grids, memory, seed });
    if (before !== undefined) {
      if (Buffer.compare(before, after) !== 0) mistakes.push(`schedule ${seed} gives other bits than ${seeds[0]}`);
      continue;
    }
    before = after;
    cases.forEach((one, i) => {
      const got = prepared[i]!.results(after.slice(starts[i], starts[i]! + prepared[i]!.memory.length));
      const mistake = firstMistake(one, { got, ...expectedOf(one), source: `generated for ${arch}` }, tolerance);
      if (mistake !== undefined) mistakes.push(mistake);
    });
  }
  return mistakes;
}
