/**
 * Rectified flow (Liu, Gong and Liu, "Flow straight and fast", 2022): data and noise are joined by straight lines, and
 * the network predicts the direction along them.
 *
 *   x_t  = (1 - t) x + t noise,  t = sigmoid(standard normal)
 *   loss = mean (noise - x - prediction)^2
 *
 * The network sees 1000 t, the range its time embedding resolves.
 */
import { DIFFUSION_STEPS } from "../../../contract/diffusion.ts";
import { entered } from "../place.ts";
import { drawn, f32 } from "../program.ts";
import { formula, type Tensor } from "../tensor.ts";
import { maskedMean } from "./masked-mean.ts";
import type { LossMean, Process, SamplerRule } from "./process.ts";

export function rectifiedFlow({ lossMean }: { readonly lossMean: LossMean }): Process {
  return {
    name: "flow",
    time: drawn(f32("batch"), "normal", "sigmoid(n)"),
    predicted: (channels) => channels,
    loss: ({ x, t, noise, mask }, predict) =>
      entered("rectifiedFlow", () => {
        const noisy = formula("(1 - t) * x + t * noise", { x, noise, t });
        const prediction = predict(noisy, t);
        const error = formula("noise - x - prediction", { noise, x, prediction });
        const mse = maskedMean(error.apply("x * x"), mask, lossMean);
        return { loss: mse, mse, x_t: noisy };
      }),
    guide: (a, b, guidance) => formula("b + guidance * (a - b)", { b, a, guidance }),
    samplers: { euler },
  };
}

/** One straight piece of the way from noise to data. */
const euler: SamplerRule = {
  tables: ["timestepDelta"],
  isNoisy: false,
  step: ({ z, prediction, at }): Tensor =>
    formula("z + delta * prediction", { z, delta: at("timestepDelta"), prediction }),
};

/** What a network's time embedding takes for a time of the process. */
export const embeddedTime = (t: Tensor): Tensor => (t.dtype === "i32" ? t : t.mul(DIFFUSION_STEPS));
