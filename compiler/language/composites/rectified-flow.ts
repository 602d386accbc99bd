/**
 * Rectified flow (Liu, Gong and Liu, "Flow straight and fast", 2022): data and noise are joined by straight lines, and
 * the network predicts the direction along them.
 *
 *   x_t  = (1 - t) x + t noise,  t = sigmoid(standard normal + ln shift)
 *   loss = mean (noise - x - velocity)^2
 *
 * The network predicts the velocity, or the data itself, which makes velocity = (x_t - prediction) / t. Videos lie on far
 * fewer dimensions than noise does: a network too narrow for all of a large patch can still say what the data is (Li and
 * He, "Back to basics: let denoising generative models denoise", 2025). Near the data, t is taken as 0.05 at least.
 *
 * The network sees 1000 t, the range its time embedding resolves.
 */
import { DIFFUSION_STEPS } from "../../../contract/diffusion.ts";
import { entered } from "../place.ts";
import { drawn, f32 } from "../program.ts";
import { formula, type Tensor } from "../tensor.ts";
import { maskedMean } from "./masked-mean.ts";
import type { LossMean, Process, SamplerRule } from "./process.ts";

const LEAST_TIME = 0.05;

export interface RectifiedFlowOptions {
  readonly lossMean: LossMean;
  /** Default: velocity. */
  readonly predicts?: "velocity" | "data";
  /** Above 1, more of training and of sampling is spent near noise: see `shiftTime`. Default: 1. */
  readonly timeShift?: number;
}

export function rectifiedFlow({ lossMean, predicts = "velocity", timeShift = 1 }: RectifiedFlowOptions): Process {
  const velocityOf = (prediction: Tensor, z: Tensor, t: Tensor): Tensor =>
    predicts === "velocity"
      ? prediction
      : formula("(z - prediction) / max(t, least)", { z, prediction, t, least: LEAST_TIME });
  return {
    name: "flow",
    time: drawn(f32("batch"), "normal", timeShift === 1 ? "sigmoid(n)" : `sigmoid(n + ${Math.log(timeShift)})`),
    predicted: (channels) => channels,
    loss: ({ x, t, noise, mask }, predict) =>
      entered("rectifiedFlow", () => {
        const noisy = formula("(1 - t) * x + t * noise", { x, noise, t });
        const velocity = velocityOf(predict(noisy, t), noisy, t);
        const error = formula("noise - x - velocity", { noise, x, velocity });
        const mse = maskedMean(error.apply("x * x"), mask, lossMean);
        return { loss: mse, mse, x_t: noisy };
      }),
    guide: (a, b, guidance) => formula("b + guidance * (a - b)", { b, a, guidance }),
    samplers: { euler: eulerWith(velocityOf) },
  };
}

/** One straight piece of the way from noise to data. */
const eulerWith = (velocityOf: (prediction: Tensor, z: Tensor, t: Tensor) => Tensor): SamplerRule => ({
  tables: ["timestepDelta"],
  isNoisy: false,
  step: ({ z, prediction, at }): Tensor => {
    const velocity = velocityOf(prediction, z, at("timestep"));
    return formula("z + delta * velocity", { z, delta: at("timestepDelta"), velocity });
  },
});

/** What a network's time embedding takes for a time of the process. */
export const embeddedTime = (t: Tensor): Tensor => (t.dtype === "i32" ? t : t.mul(DIFFUSION_STEPS));
