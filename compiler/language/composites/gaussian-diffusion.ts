/**
 * Gaussian diffusion as published models train it: the network predicts the noise, and a fraction between the smallest
 * and the largest sensible variance of each step (Nichol and Dhariwal, "Improved denoising diffusion", 2021).
 *
 *   x_t  = sqrt(a_t) x + sqrt(1 - a_t) noise
 *   loss = mean (noise - epsilon)^2 + the variational bound of step t in bits, through which only the variance learns
 *
 * At t = 0 the bound is the likelihood of the data, held to steps of 1/255 in [-1, 1], under the predicted Gaussian.
 */
import { DIFFUSION_STEPS, gaussianSchedule, linearBetas, type GaussianSchedule } from "../../../contract/diffusion.ts";
import { constant as constantDim } from "../../graph/dim.ts";
import { constant } from "../../ops/source.ts";
import { build } from "../mistake.ts";
import { entered } from "../place.ts";
import { drawn, i32 } from "../program.ts";
import { concat, formula, Tensor } from "../tensor.ts";
import { maskedMean } from "./masked-mean.ts";
import type { LossInputs, LossMean, Predict, Process, SamplerRule, SamplerStep } from "./process.ts";

export interface GaussianDiffusionOptions {
  /** Whether the network predicts the variance too; if not, every step uses the largest. */
  readonly learnSigma: boolean;
  readonly lossMean: LossMean;
}

/** The linear schedule of 1000 steps. */
export function gaussianDiffusion(options: GaussianDiffusionOptions): Process {
  const schedule = gaussianSchedule(linearBetas());
  return {
    name: "ddpm",
    time: drawn(i32("batch"), "uniform", `i32(u * ${DIFFUSION_STEPS})`),
    predicted: (channels) => (options.learnSigma ? 2 * channels : channels),
    loss: (inputs, predict) => entered("gaussianDiffusion", () => lossOf(options, schedule, inputs, predict)),
    guide: (a, b, guidance) => guideNoise(options.learnSigma, a, b, guidance),
    samplers: { ddpm: ddpm(options.learnSigma), ddim: ddim(options.learnSigma) },
  };
}

/** What the loss reads at time t. */
const LOSS_TABLES = {
  root: ({ alphasCumprod }: GaussianSchedule) => alphasCumprod.map(Math.sqrt),
  rootLess1: ({ alphasCumprod }: GaussianSchedule) => alphasCumprod.map((a) => Math.sqrt(1 - a)),
  recipRoot: ({ alphasCumprod }: GaussianSchedule) => alphasCumprod.map((a) => Math.sqrt(1 / a)),
  recipRootLess1: ({ alphasCumprod }: GaussianSchedule) => alphasCumprod.map((a) => Math.sqrt(1 / a - 1)),
  meanOfX0: ({ posteriorMeanOfX0 }: GaussianSchedule) => posteriorMeanOfX0,
  low: ({ posteriorLogVariance }: GaussianSchedule) => posteriorLogVariance,
  high: ({ betas }: GaussianSchedule) => betas.map(Math.log),
} as const;

const LOG_VARIANCE = "fraction = 0.5 * (variance + 1); logVariance = fraction * high + (1 - fraction) * low";

/**
 * The bound of one element in bits. After t = 0: KL(N(true mean, e^low) || N(mean, e^logVariance)); the two means share
 * their part of x_t, so their distance is that of the two x_0. At t = 0: -log2 of the mass that the Gaussian puts on the
 * bin of x; the outermost bins reach to infinity, and the normal distribution function is its tanh approximation.
 * One formula, so that the arm not taken takes no part in the gradient.
 */
const BOUND = `${LOG_VARIANCE};
  distance = meanOfX0 * (x - (recipRoot * noisy - recipRootLess1 * epsilon));
  kl = 0.7213475204444817 * (logVariance - low - 1 + exp(low - logVariance) + distance * distance * exp(-logVariance));
  scale = exp(-0.5 * logVariance);
  upper = scale * (distance + 1 / 255);
  lower = scale * (distance - 1 / 255);
  below = 0.5 * (1 + tanh(0.7978845608028654 * (upper + 0.044715 * upper^3)));
  before = 0.5 * (1 + tanh(0.7978845608028654 * (lower + 0.044715 * lower^3)));
  mass = select(x < -0.999, below, select(x > 0.999, 1 - before, below - before));
  select(t == 0, -1.4426950408889634 * log(max(mass, 1e-12)), kl)`;

function lossOf(
  { learnSigma, lossMean }: GaussianDiffusionOptions,
  schedule: GaussianSchedule,
  { x, t, noise, mask }: LossInputs,
  predict: Predict,
): Record<string, Tensor> {
  const at = (name: keyof typeof LOSS_TABLES): Tensor => table(name, schedule).gather(t, "time");
  const noisy = formula("root * x + rootLess1 * noise", { x, noise, root: at("root"), rootLess1: at("rootLess1") });
  const prediction = predict(noisy, t);
  const [epsilon, variance] = partsOf(learnSigma, prediction);
  const mse = maskedMean(formula("(noise - epsilon) * (noise - epsilon)", { noise, epsilon }), mask, lossMean);
  if (variance === undefined) return { loss: mse, mse, x_t: noisy };
  const bound = formula(BOUND, {
    ...{ x, t, noisy, variance, epsilon: epsilon.stopGradient() },
    ...{ recipRoot: at("recipRoot"), recipRootLess1: at("recipRootLess1"), meanOfX0: at("meanOfX0") },
    ...{ low: at("low"), high: at("high") },
  });
  const vb = maskedMean(bound, mask, lossMean);
  return { loss: mse.add(vb), mse, vb, x_t: noisy };
}

/** A table of the schedule over all times, as a constant of the program. */
function table(name: keyof typeof LOSS_TABLES, schedule: GaussianSchedule): Tensor {
  const values = LOSS_TABLES[name](schedule);
  const shape = [{ name: "time", size: constantDim(values.length) }];
  return build("schedule", {}, () => new Tensor(constant(values, "f32", shape)));
}

/** Guidance moves the noise away from the unconditional one; the variance is the conditional one's. */
function guideNoise(learnSigma: boolean, a: Tensor, b: Tensor, guidance: Tensor): Tensor {
  const [withText, variance] = partsOf(learnSigma, a);
  const [without] = partsOf(learnSigma, b);
  const noise = formula("without + guidance * (withText - without)", { without, withText, guidance });
  return variance === undefined ? noise : concat([noise, variance], "channels");
}

/** The predicted noise, and the variance fraction where it is learned. */
const partsOf = (learnSigma: boolean, prediction: Tensor): readonly [Tensor, Tensor?] =>
  learnSigma ? prediction.split(2, "channels") : [prediction];

/** Ancestral sampling: a draw from the predicted Gaussian of x_(t-1). */
const ddpm = (learnSigma: boolean): SamplerRule => ({
  tables: ["recipRoot", "recipRootLess1", "meanOfX0", "meanOfXt", "logVarianceLow", "logVarianceHigh", "noiseScale"],
  isNoisy: true,
  step: ({ z, prediction, noise, at }: SamplerStep) => {
    const [epsilon, variance] = partsOf(learnSigma, prediction);
    const coefficients = { recipRoot: at("recipRoot"), recipRootLess1: at("recipRootLess1") };
    const clean = formula("recipRoot * z - recipRootLess1 * epsilon", { z, epsilon, ...coefficients });
    const weights = { meanOfX0: at("meanOfX0"), meanOfXt: at("meanOfXt") };
    const mean = formula("meanOfX0 * clean + meanOfXt * z", { clean, z, ...weights });
    const high = at("logVarianceHigh");
    const logVariance =
      variance === undefined
        ? high
        : formula(`${LOG_VARIANCE}; logVariance`, { variance, high, low: at("logVarianceLow") });
    if (noise === undefined) return mean;
    const spread = { noise, scale: at("noiseScale"), logVariance };
    return formula("mean + scale * exp(0.5 * logVariance) * noise", { mean, ...spread });
  },
});

/** The deterministic sampler (Song, Meng and Ermon, "Denoising diffusion implicit models", 2021; eta = 0). */
const ddim = (learnSigma: boolean): SamplerRule => ({
  tables: ["recipRoot", "recipRootLess1", "rootBefore", "rootLess1Before"],
  isNoisy: false,
  step: ({ z, prediction, at }: SamplerStep) => {
    const [epsilon] = partsOf(learnSigma, prediction);
    const coefficients = { recipRoot: at("recipRoot"), recipRootLess1: at("recipRootLess1") };
    const clean = formula("recipRoot * z - recipRootLess1 * epsilon", { z, epsilon, ...coefficients });
    const before = { rootBefore: at("rootBefore"), rootLess1Before: at("rootLess1Before") };
    return formula("rootBefore * clean + rootLess1Before * epsilon", { clean, epsilon, ...before });
  },
});
