/** How parameters start. Each gives what `parameter(…)` takes. */
import type { Initialiser } from "../parameters.ts";

export const zeros: Initialiser = { kind: "constant", value: 0 };
export const ones: Initialiser = { kind: "constant", value: 1 };

/** Normal around 0 with this standard deviation. */
export const normal = (deviation: number): Initialiser => ({ kind: "normal", deviation });

/** Uniform in [-bound, bound]. */
export const uniform = (bound: number): Initialiser => ({ kind: "uniform", bound });

/** Uniform within sqrt(6 / (fan in + fan out)) (Glorot and Bengio, 2010). */
export const xavier = (fanIn: number, fanOut: number): Initialiser => uniform(Math.sqrt(6 / (fanIn + fanOut)));
