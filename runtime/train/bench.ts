/** How fast is a training step here? Synthetic clips and texts, the real programs and kernels. */
import type { Plan } from "../../contract/plan.ts";
import type { Device, RunOptions, StepProfile } from "../devices/device.ts";
import { measurePeaks, type Peaks } from "../devices/cpu/peaks.ts";
import { conditionSources } from "../program/conditions.ts";
import { textDimOf, videoFormOf } from "../program/facts.ts";
import { bindFilled, createStates, programNamed, scalarGiven } from "../program/fill.ts";
import { loadPrograms } from "../program/load.ts";
import { checkSize, type SampleSize } from "../sample/sampler.ts";
import { bytesBesidesState, bytesOfStates } from "./steps.ts";

export interface StepSize {
  readonly size: SampleSize;
  readonly batch: number;
  readonly textTokens: number;
}

export interface BenchRequest extends StepSize {
  readonly steps: number;
  readonly warmup: number;
  /** Takes the time of every kernel, in steps of their own after those that are timed. */
  readonly profile: boolean;
}

/** A training step that can be taken: gradients of one batch, then the optimizer. */
export interface TrainingStep {
  readonly tokensPerClip: number;
  readonly peakBytes: number;
  take(options?: RunOptions): Promise<void>;
  /** Time of every launch so far, of the runs that were profiled. */
  profile(): readonly StepProfile[];
}

export interface BenchResult {
  readonly tokensPerClip: number;
  readonly milliseconds: { readonly median: number; readonly least: number; readonly most: number };
  readonly tokensPerSecond: number;
  readonly peakBytes: number;
  readonly launches: number;
  readonly device: string;
  /** By kernel, the slowest first. Empty without a profile. */
  readonly kernels: readonly KernelTime[];
  /** What the machine can do at most. Undefined without a profile, and on a GPU. */
  readonly peaks: Peaks | undefined;
}

export interface KernelTime {
  readonly kernel: string;
  readonly launches: number;
  readonly milliseconds: number;
  /** Of all time that kernels took. */
  readonly share: number;
  /** 10^9 operations a second, of matrix products alone; null where there are none. */
  readonly gflops: number | null;
  /** 10^9 bytes a second that were read and written, each element once for every access. */
  readonly gigabytes: number;
  /** How near it comes to what bounds it: the products, or the memory. Null where no peaks are known. */
  readonly ofPeak: number | null;
}

/** Enough for means; a profile of a GPU has its own cost. */
const PROFILED_STEPS = 5;

/** Weights are initialized with seed 0. Memory is given back with the device. */
export async function prepareStep(plan: Plan, device: Device, request: StepSize): Promise<TrainingStep> {
  const form = videoFormOf(
    "accumulate",
    programNamed(plan.programs, "accumulate").inputs.find(({ name }) => name === "x"),
  );
  const { channels, patch } = form;
  const { size, batch, textTokens } = request;
  checkSize(size, patch);
  const [rows, columns] = [size.height / patch, size.width / patch];
  const tokens = size.frames * rows * columns;
  const textDim = Math.max(textDimOf(plan, "accumulate"), 1);
  const programs = ["initialize", "accumulate", "update"];
  const loaded = await loadPrograms(device, plan, programs);
  const states = createStates(loaded, programs, {});
  await bindFilled(loaded, "initialize", { seed: () => scalarGiven(0) }, states).run();
  const bound = bindFilled(
    loaded,
    "accumulate",
    {
      x: () => ({
        shape: [batch, tokens, channels, patch, patch],
        values: noise(batch * tokens * channels * patch * patch),
      }),
      ...conditionSources({
        ...{ batch, tokens, textDim, textTokens },
        videoLengths: new Int32Array(batch).fill(tokens),
        grids: Array.from({ length: batch }, () => [size.frames, rows, columns]).flat(),
        text: noise(batch * textTokens * textDim),
        textLengths: new Int32Array(batch).fill(textTokens),
        pooled: noise(batch * textDim),
      }),
      seed: () => scalarGiven(0),
      micro: () => scalarGiven(0),
      accumulation: () => scalarGiven(1),
    },
    states,
  );
  const update = bindFilled(loaded, "update", { totalSteps: () => scalarGiven(1_000_000) }, states);
  return {
    tokensPerClip: tokens,
    peakBytes: Math.max(bytesBesidesState(bound), bytesBesidesState(update)) + bytesOfStates(states),
    take: async (options = {}) => {
      await bound.run(1, options);
      await update.run(1, options);
    },
    profile: () => [...bound.profile(), ...update.profile()],
  };
}

export async function bench(
  plan: Plan,
  openDevice: () => Promise<Device>,
  request: BenchRequest,
): Promise<BenchResult> {
  const device = await openDevice();
  try {
    const step = await prepareStep(plan, device, request);
    for (let i = 0; i < request.warmup; i++) await step.take();
    const times: number[] = [];
    for (let i = 0; i < request.steps; i++) {
      const started = performance.now();
      await step.take();
      times.push(performance.now() - started);
    }
    times.sort((a, b) => a - b);
    const before = step.profile();
    const profiled = request.profile ? Math.min(request.steps, PROFILED_STEPS) : 0;
    for (let i = 0; i < profiled; i++) await step.take({ profile: true });
    const peaks = profiled > 0 && device.name === "cpu" ? await measurePeaks(device) : undefined;
    const median = times[Math.floor(times.length / 2)]!;
    return {
      tokensPerClip: step.tokensPerClip,
      milliseconds: { median, least: times[0]!, most: times.at(-1)! },
      tokensPerSecond: (request.batch * step.tokensPerClip) / (median / 1000),
      peakBytes: step.peakBytes,
      launches: before.length,
      device: device.description,
      kernels: profiled === 0 ? [] : timesByKernel(before, step.profile(), profiled, peaks),
      peaks,
    };
  } finally {
    await device.close();
  }
}

function timesByKernel(
  before: readonly StepProfile[],
  after: readonly StepProfile[],
  steps: number,
  peaks: Peaks | undefined,
): readonly KernelTime[] {
  const sums = new Map<string, Sum>();
  after.forEach(({ kernel, nanoseconds, flops, products, bytes }, index) => {
    const sum = sums.get(kernel) ?? { launches: 0, nanoseconds: 0, flops: 0, bytes: 0, products };
    sum.launches++;
    sum.nanoseconds += (nanoseconds - before[index]!.nanoseconds) / steps;
    sum.flops += flops;
    sum.bytes += bytes;
    sums.set(kernel, sum);
  });
  const total = [...sums.values()].reduce((all, { nanoseconds }) => all + nanoseconds, 0);
  return [...sums]
    .map(([kernel, sum]) => ({
      kernel,
      launches: sum.launches,
      milliseconds: sum.nanoseconds / 1e6,
      share: total === 0 ? 0 : sum.nanoseconds / total,
      gflops: sum.flops === 0 ? null : sum.flops / sum.nanoseconds,
      gigabytes: sum.bytes / sum.nanoseconds,
      ofPeak: peaks === undefined ? null : shareOfPeak(sum, peaks),
    }))
    .sort((a, b) => b.milliseconds - a.milliseconds);
}

/** All launches of a kernel in one step of training. */
interface Sum {
  launches: number;
  nanoseconds: number;
  flops: number;
  bytes: number;
  readonly products: StepProfile["products"];
}

function shareOfPeak({ nanoseconds, flops, bytes, products }: Sum, { gflops, gigabytes }: Peaks): number {
  const least = Math.max(flops / (products === "bf16" ? gflops.bf16 : gflops.f32), bytes / gigabytes);
  return least / nanoseconds;
}

/** Numbers in [-0.5, 0.5) without pattern; what they are does not change the time. */
function noise(count: number): Float32Array {
  const values = new Float32Array(count);
  let state = 1;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = state / 2 ** 32 - 0.5;
  }
  return values;
}
