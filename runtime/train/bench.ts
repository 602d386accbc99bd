/** How fast is a training step here? Synthetic clips and texts, the real programs and kernels. */
import type { Plan } from "../../contract/plan.ts";
import type { Device, RunOptions, StepProfile } from "../devices/device.ts";
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
  /** By kernel, the slowest first; shares of all time that kernels took. Empty without a profile. */
  readonly kernels: readonly KernelTime[];
}

export interface KernelTime {
  readonly kernel: string;
  readonly launches: number;
  readonly milliseconds: number;
  readonly share: number;
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
    const median = times[Math.floor(times.length / 2)]!;
    return {
      tokensPerClip: step.tokensPerClip,
      milliseconds: { median, least: times[0]!, most: times.at(-1)! },
      tokensPerSecond: (request.batch * step.tokensPerClip) / (median / 1000),
      peakBytes: step.peakBytes,
      launches: before.length,
      device: device.description,
      kernels: profiled === 0 ? [] : timesByKernel(before, step.profile(), profiled),
    };
  } finally {
    await device.close();
  }
}

function timesByKernel(
  before: readonly StepProfile[],
  after: readonly StepProfile[],
  steps: number,
): readonly KernelTime[] {
  const sums = new Map<string, { launches: number; nanoseconds: number }>();
  after.forEach(({ kernel, nanoseconds }, index) => {
    const sum = sums.get(kernel) ?? { launches: 0, nanoseconds: 0 };
    sum.launches++;
    sum.nanoseconds += nanoseconds - before[index]!.nanoseconds;
    sums.set(kernel, sum);
  });
  const total = [...sums.values()].reduce((sum, { nanoseconds }) => sum + nanoseconds, 0);
  return [...sums]
    .map(([kernel, { launches, nanoseconds }]) => ({
      kernel,
      launches,
      milliseconds: nanoseconds / 1e6 / steps,
      share: total === 0 ? 0 : nanoseconds / total,
    }))
    .sort((a, b) => b.milliseconds - a.milliseconds);
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
