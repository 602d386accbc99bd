/**
 * Diffusion schedules: the numbers of a noise process, in float64, for the compiler (loss tables) and the runtime
 * (sampler tables, one entry per executed step).
 *
 * Gaussian diffusion: q(x_t | x_0) = N(sqrt(a_t) x_0, (1 - a_t) I) with a_t the running product of 1 - beta_t
 * (Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", 2020). Fewer sampling steps keep a subset of the
 * times and rebuild the betas from the products that remain (Nichol and Dhariwal, "Improved denoising diffusion", 2021).
 * Rectified flow: x_t = (1 - t) x + t noise for t in [0, 1] (Liu, Gong and Liu, "Flow straight and fast", 2022).
 */
import { Diagnostic } from "./diagnostic.ts";
import { roundHalfToEven } from "./dtype.ts";

export const DIFFUSION_STEPS = 1000;

export interface GaussianSchedule {
  /** The time of the unshortened process that each entry stands for, ascending. */
  readonly timesteps: readonly number[];
  readonly betas: readonly number[];
  /** The running product of 1 - beta. */
  readonly alphasCumprod: readonly number[];
  /** The same, one step earlier; 1 before the first. */
  readonly alphasCumprodPrevious: readonly number[];
  /** Variance of q(x_(t-1) | x_t, x_0). */
  readonly posteriorVariance: readonly number[];
  /** Its logarithm; the first entry, a variance of zero, takes the value of the second. */
  readonly posteriorLogVariance: readonly number[];
  /** The posterior mean is meanOfX0 x_0 + meanOfXt x_t. */
  readonly posteriorMeanOfX0: readonly number[];
  readonly posteriorMeanOfXt: readonly number[];
}

/** Betas in equal steps from 1e-4 to 0.02, scaled so that any number of steps destroys as much as 1000 do. */
export function linearBetas(steps: number = DIFFUSION_STEPS): number[] {
  const scale = 1000 / steps;
  const [first, last] = [scale * 1e-4, scale * 0.02];
  const increment = (last - first) / (steps - 1);
  return Array.from({ length: steps }, (_, i) => (i === steps - 1 ? last : i * increment + first));
}

/** The whole schedule that a list of betas implies. */
export function gaussianSchedule(betas: readonly number[], timesteps?: readonly number[]): GaussianSchedule {
  const alphasCumprod: number[] = [];
  let product = 1;
  for (const beta of betas) alphasCumprod.push((product *= 1 - beta));
  const alphasCumprodPrevious = [1, ...alphasCumprod.slice(0, -1)];
  const each = (value: (beta: number, now: number, before: number) => number): number[] =>
    betas.map((beta, i) => value(beta, alphasCumprod[i]!, alphasCumprodPrevious[i]!));
  const posteriorVariance = each((beta, now, before) => (beta * (1 - before)) / (1 - now));
  return {
    timesteps: timesteps ?? betas.map((_, i) => i),
    betas,
    alphasCumprod,
    alphasCumprodPrevious,
    posteriorVariance,
    posteriorLogVariance: posteriorVariance.map((variance, i) =>
      Math.log(i === 0 ? (posteriorVariance[1] ?? betas[0]!) : variance),
    ),
    posteriorMeanOfX0: each((beta, now, before) => (beta * Math.sqrt(before)) / (1 - now)),
    posteriorMeanOfXt: each((beta, now, before) => ((1 - before) * Math.sqrt(1 - beta)) / (1 - now)),
  };
}

/** The schedule that keeps only some times of `base`: the products at those times stay as they are. */
export function respacedSchedule(base: GaussianSchedule, timesteps: readonly number[]): GaussianSchedule {
  let before = 1;
  const betas = timesteps.map((t) => {
    const now = base.alphasCumprod[t] ?? 0;
    const beta = 1 - now / before;
    before = now;
    return beta;
  });
  return gaussianSchedule(betas, timesteps);
}

/**
 * Which times a shorter process keeps, ascending. A number: so many, evenly spaced. A list such as `10,15,20`: the
 * process is cut in as many equal sections, each with its own count. `ddim25`: a fixed whole stride that gives 25.
 * Errors: a count that no such choice can give.
 */
export function respacedTimesteps(spacing: number | string, steps: number = DIFFUSION_STEPS): number[] {
  const text = String(spacing);
  const stride = /^ddim(\d+)$/.exec(text)?.[1];
  if (stride !== undefined) return strided(Number(stride), steps);
  if (!/^\d+(,\d+)*$/.test(text)) {
    throw spacingMistake(
      `there is no spacing of steps "${text}"`,
      'write a count (250), counts of sections ("10,15,20") or a stride ("ddim25")',
    );
  }
  const counts = text.split(",").map(Number);
  const kept: number[] = [];
  let start = 0;
  counts.forEach((count, section) => {
    const size = Math.floor(steps / counts.length) + (section < steps % counts.length ? 1 : 0);
    if (count < 1 || count > size) {
      throw spacingMistake(
        `a section of ${size} times cannot be sampled in ${count} steps`,
        `choose from 1 to ${size} steps${counts.length > 1 ? " for each section" : ""}`,
      );
    }
    const distance = count === 1 ? 1 : (size - 1) / (count - 1);
    let at = 0;
    for (let i = 0; i < count; i++, at += distance) kept.push(start + roundHalfToEven(at));
    start += size;
  });
  return kept;
}

function strided(count: number, steps: number): number[] {
  for (let stride = 1; stride < steps; stride++) {
    if (Math.ceil(steps / stride) !== count) continue;
    return Array.from({ length: count }, (_, i) => i * stride);
  }
  throw spacingMistake(
    `no whole stride takes ${count} of ${steps} times`,
    `choose another count, or the even spacing "${count}"`,
  );
}

const spacingMistake = (message: string, fix: string): Diagnostic => new Diagnostic({ kind: "sampler", message, fix });

export const SAMPLERS = ["ddpm", "ddim", "euler"] as const;
export type Sampler = (typeof SAMPLERS)[number];

/** The tables a sampler's step program gathers from, by the names of its inputs; entry i belongs to the i-th step run. */
export type SamplerTables = Readonly<Record<string, Float64Array>>;

const GAUSSIAN_TABLES: Readonly<Record<string, (schedule: GaussianSchedule, i: number) => number>> = {
  timestep: ({ timesteps }, i) => timesteps[i]!,
  /** x_0 = recipRoot x_t - recipRootLess1 epsilon. */
  recipRoot: ({ alphasCumprod }, i) => Math.sqrt(1 / alphasCumprod[i]!),
  recipRootLess1: ({ alphasCumprod }, i) => Math.sqrt(1 / alphasCumprod[i]! - 1),
};

const TABLES: Readonly<Record<Sampler, Readonly<Record<string, (schedule: GaussianSchedule, i: number) => number>>>> = {
  ddpm: {
    ...GAUSSIAN_TABLES,
    meanOfX0: ({ posteriorMeanOfX0 }, i) => posteriorMeanOfX0[i]!,
    meanOfXt: ({ posteriorMeanOfXt }, i) => posteriorMeanOfXt[i]!,
    logVarianceLow: ({ posteriorLogVariance }, i) => posteriorLogVariance[i]!,
    logVarianceHigh: ({ betas }, i) => Math.log(betas[i]!),
    /** The last step, to time 0, adds none. */
    noiseScale: (_, i) => (i === 0 ? 0 : 1),
  },
  ddim: {
    ...GAUSSIAN_TABLES,
    rootBefore: ({ alphasCumprodPrevious }, i) => Math.sqrt(alphasCumprodPrevious[i]!),
    rootLess1Before: ({ alphasCumprodPrevious }, i) => Math.sqrt(1 - alphasCumprodPrevious[i]!),
  },
  euler: {},
};

/**
 * The tables of `sample.ddpm`, `sample.ddim` or `sample.euler` for a number of steps (or a spacing, see
 * `respacedTimesteps`), in the order in which the steps run: noise first. `timeShift` is that of a flow.
 */
export function samplerTables(sampler: Sampler, spacing: number | string, timeShift = 1): SamplerTables {
  if (sampler === "euler") return eulerTables(Number(spacing), timeShift);
  const base = gaussianSchedule(linearBetas(DIFFUSION_STEPS));
  const schedule = respacedSchedule(base, respacedTimesteps(spacing, DIFFUSION_STEPS));
  const count = schedule.timesteps.length;
  return Object.fromEntries(
    Object.entries(TABLES[sampler]).map(([name, value]) => [
      name,
      Float64Array.from({ length: count }, (_, step) => value(schedule, count - 1 - step)),
    ]),
  );
}

/** Time runs from 1 (noise) to 0 (data) in equal parts, which are then shifted. */
function eulerTables(steps: number, timeShift: number): SamplerTables {
  if (!Number.isInteger(steps) || steps < 1) {
    throw spacingMistake(`Euler's method takes a whole number of steps, not ${steps}`, "give 1 or more steps");
  }
  const time = (i: number): number => shiftTime(1 - i / steps, timeShift);
  return {
    timestep: Float64Array.from({ length: steps }, (_, i) => time(i)),
    timestepDelta: Float64Array.from({ length: steps }, (_, i) => time(i + 1) - time(i)),
  };
}

/**
 * A time of a flow, moved towards noise by a shift above 1 (Esser et al., "Scaling rectified flow transformers", 2024):
 * the more pixels say the same, the more noise it takes until the large things are open, and there they are decided.
 */
export const shiftTime = (t: number, shift: number): number => (shift * t) / (1 + (shift - 1) * t);
