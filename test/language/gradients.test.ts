// Gradients of the composites against central differences of their values, on the float64 interpreter.
import { describe, expect, test } from "vitest";
import {
  attend,
  component,
  concat,
  f32,
  gaussianDiffusion,
  gelu,
  gridPositions,
  i32,
  layerNorm,
  linear,
  mask,
  mlp,
  modulate,
  patchEmbedding,
  program,
  rectifiedFlow,
  segment,
  silu,
  timestepEmbedding,
  type InputSpec,
  type Process,
  type Tensor,
} from "../../compiler/language/index.ts";
import { build } from "../../compiler/language/mistake.ts";
import { erf } from "../../compiler/notation/arithmetic.ts";
import { gaussianSchedule, linearBetas } from "../../contract/diffusion.ts";
import { formula, Tensor as TensorClass } from "../../compiler/language/tensor.ts";
import { gradients } from "../../compiler/passes/differentiate.ts";
import { arenaFor, differenceError, run, tracedProgram, tracedPrograms, valuesFor, type Values } from "./models.ts";

const SIZES = { batch: 2, tokens: 3, textTokens: 2 };

/** d loss / d every input, as a program; the loss weighs every element of the result differently. */
function errorsOf(
  inputs: Readonly<Record<string, InputSpec>>,
  body: (tensors: Readonly<Record<string, Tensor>>) => Tensor,
  given: Values = {},
): Record<string, number> {
  const lossOf = (tensors: Readonly<Record<string, Tensor>>): Tensor => {
    const result = body(tensors);
    return result.apply("x * sin(1.7 * x + 0.3)").sum();
  };
  const loss = tracedProgram(inputs, (tensors) => ({ loss: lossOf(tensors) }));
  const floats = Object.keys(inputs).filter((name) => inputs[name]!.dtype === "f32");
  const gradient = tracedProgram(inputs, (tensors) => {
    const found = build("gradient", {}, () =>
      gradients(
        lossOf(tensors).edge,
        floats.map((name) => tensors[name]!.edge),
      ),
    );
    return Object.fromEntries(floats.map((name, i) => [name, new TensorClass(found[i]!)]));
  });
  const values = valuesFor(loss, SIZES, given);
  const computed = run(gradient, values, SIZES);
  return Object.fromEntries(floats.map((name) => [name, differenceError(loss, computed[name]!, name, values, SIZES)]));
}

/** The same for the parameters of a component. */
function parameterErrors(
  inputs: Readonly<Record<string, InputSpec>>,
  make: () => (tensors: Readonly<Record<string, Tensor>>) => Tensor,
  given: Values = {},
): Record<string, number> {
  const traced = tracedPrograms(() => {
    const body = make();
    return { loss: program(inputs, (tensors) => ({ loss: body(tensors).apply("x * sin(1.7 * x + 0.3)").sum() })) };
  });
  const loss = traced.programs.get("loss")!();
  const values = valuesFor(loss, SIZES, { ...given, parameters: arenaFor(traced) });
  const computed = run(traced.recorded.gradients("loss"), values, SIZES);
  return Object.fromEntries(
    traced.layout.parameters.map(({ name, offset }) => {
      const error = differenceError(loss, computed[name]!, "parameters", values, SIZES, undefined, offset);
      return [name, error];
    }),
  );
}

const small = (errors: Record<string, number>): void => {
  expect(Object.keys(errors).length).toBeGreaterThan(0);
  for (const [name, error] of Object.entries(errors)) expect(error, name).toBeLessThan(2e-7);
};

const x = f32("batch tokens width", { width: 4 });
const vector = f32("batch width", { width: 4 });

describe("composites without parameters", () => {
  const cases: Readonly<
    Record<string, [Record<string, InputSpec>, (tensors: Record<string, Tensor>) => Tensor, Values?]>
  > = {
    layerNorm: [{ x }, (t) => layerNorm(t["x"]!)],
    modulate: [{ x, shift: vector, scale: vector }, (t) => modulate(t["x"]!, t["shift"]!, t["scale"]!)],
    silu: [{ x }, (t) => silu(t["x"]!)],
    gelu: [{ x }, (t) => gelu(t["x"]!)],
    "mean over symbols": [{ x }, (t) => t["x"]!.apply("x * x").mean("batch", "tokens")],
    max: [{ x }, (t) => t["x"]!.max("width")],
    "split and concat": [{ x }, (t) => concat([...t["x"]!.split(2)].reverse(), "width").mul(t["x"]!)],
    "slice and pad": [{ x }, (t) => t["x"]!.slice("tokens", 1, 2).apply("x * x * x")],
    rearrange: [{ x }, (t) => t["x"]!.rearrange("b t (p q) -> q b (p t)", { q: 2 }).apply("x * x")],
    contract: [{ x, y: vector }, (t) => t["x"]!.contract("b t w, b w -> t b", t["y"]!)],
    "gather rows": [
      { table: f32("row width", { row: 3, width: 4 }), at: i32("batch") },
      (t) => t["table"]!.gather(t["at"]!, "row").apply("x * x"),
      { at: [2, 0] },
    ],
    "positions added": [
      { x: f32("batch tokens width", { width: 8 }), where: i32("batch tokens axis", { axis: 3 }) },
      (t) => t["x"]!.mul(gridPositions(t["where"]!, 8)),
      { where: [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 2, 1, 1, 1, 1, 5, 0, 9] },
    ],
  };
  for (const [name, [inputs, body, given]] of Object.entries(cases)) {
    test(name, () => {
      small(errorsOf(inputs, body, given));
    });
  }

  test("masked attention, one sample without a single valid key", () => {
    const q = f32("batch tokens heads head", { heads: 2, head: 3 });
    const k = f32("batch keys heads head", { keys: 4, heads: 2, head: 3 });
    const inputs = { q, k, v: k, lengths: i32("batch") };
    const body = (t: Record<string, Tensor>): Tensor => {
      const segments = [{ extent: t["k"]!.size("keys"), lengths: t["lengths"]! }];
      return attend(t["q"]!, t["k"]!, t["v"]!, { scale: 0.6, segments });
    };
    small(errorsOf(inputs, body, { lengths: [3, 0] }));
    small(errorsOf(inputs, body, { lengths: [1, 4] }));
  });
});

describe("layers with parameters", () => {
  test("linear, also onto a renamed axis", () => {
    small(
      parameterErrors({ x }, () => {
        const [first, second] = [linear("a", 4, 3), linear("b", 3, 5, { as: "other", bias: false })];
        return (t) => second(first(t["x"]!));
      }),
    );
  });

  test("mlp, behind a norm and a gate inside a component", () => {
    const part = component("part", (width: number) => {
      const [gate, feed] = [linear("gate", width, width), mlp("mlp", width, 6)];
      return (t: Tensor, by: Tensor) => t.add(gate(silu(by)).mul(feed(layerNorm(t))));
    });
    small(
      parameterErrors({ x, by: vector }, () => {
        const run = part("part", 4);
        return (t) => run(t["x"]!, t["by"]!);
      }),
    );
  });

  test("patch embedding, whose weight is a convolution", () => {
    const video = f32("batch tokens channels rows columns", { channels: 2, rows: 2, columns: 2 });
    small(
      parameterErrors({ video }, () => {
        const embed = patchEmbedding("proj", { channels: 2, patch: 2, width: 3 });
        return (t) => embed(t["video"]!);
      }),
    );
  });

  test("time embedding", () => {
    small(
      parameterErrors(
        { t: i32("batch") },
        () => {
          const embed = timestepEmbedding("time", 4);
          return (tensors) => embed(tensors["t"]!);
        },
        { t: [3, 997] },
      ),
    );
  });
});

describe("losses", () => {
  const video = f32("batch tokens channels rows columns", { channels: 2, rows: 1, columns: 2 });

  /** The loss of a network that is one linear map of the noisy pixels. */
  function lossErrors(process: Process, t: readonly number[], changes: Values = {}): Record<string, number> {
    const traced = tracedPrograms(() => {
      const map = linear("map", 2, process.predicted(2));
      const predict = (noisy: Tensor): Tensor => {
        const last = noisy.permute("batch", "tokens", "rows", "columns", "channels");
        return map(last).permute("batch", "tokens", "channels", "rows", "columns");
      };
      const inputs = { x: video, t: process.time, noise: video, mask: mask("batch tokens") };
      return { loss: program(inputs, (tensors) => process.loss(tensors, predict)) };
    });
    const loss = traced.programs.get("loss")!();
    const given = { t, mask: [1, 1, 1, 1, 0, 0], parameters: arenaFor(traced), ...changes };
    const values = valuesFor(loss, SIZES, given);
    const computed = run(traced.recorded.gradients("loss"), values, SIZES);
    for (const name of ["map.weight", "map.bias"]) {
      expect(
        computed[name]!.some((value) => Math.abs(value) > 1e-6),
        name,
      ).toBe(true);
    }
    return Object.fromEntries(
      traced.layout.parameters.map(({ name, offset }) => [
        name,
        differenceError(loss, computed[name]!, "parameters", values, SIZES, undefined, offset),
      ]),
    );
  }

  for (const lossMean of ["padded", "valid"] as const) {
    test(`ddpm, times inside the process, mean over ${lossMean}`, () => {
      small(lossErrors(gaussianDiffusion({ learnSigma: false, lossMean }), [500, 20]));
    });

    test(`flow, mean over ${lossMean}`, () => {
      small(lossErrors(rectifiedFlow({ lossMean }), [0.25, 0.9]));
    });

    test(`flow whose network predicts the data, mean over ${lossMean}`, () => {
      small(lossErrors(rectifiedFlow({ lossMean, predicts: "data" }), [0.25, 0.9]));
    });
  }

  /** The bound of a free tensor: prediction = x_t * 0 + parameters, so that its variance half can be moved alone. */
  function boundErrors(t: readonly number[], x: ArrayLike<number>): number {
    const process = gaussianDiffusion({ learnSigma: true, lossMean: "padded" });
    const fraction = f32("batch tokens channels rows columns", { channels: 2, rows: 1, columns: 2 });
    const inputs = { x: video, t: process.time, noise: video, epsilon: video, fraction };
    const losses = (tensors: Readonly<Record<keyof typeof inputs, Tensor>>): Readonly<Record<string, Tensor>> =>
      process.loss({ ...tensors, mask: undefined }, () => concat([tensors.epsilon, tensors.fraction], "channels"));
    const loss = tracedProgram(inputs, (tensors) => losses(tensors));
    const gradient = tracedProgram(inputs, (tensors) => {
      const [found] = gradients(losses(tensors)["loss"]!.mean().edge, [tensors.fraction.edge]);
      return { fraction: new TensorClass(found!) };
    });
    const values = valuesFor(loss, SIZES, { t, x });
    // A prediction near the truth, so that no bin of the likelihood is empty.
    values["epsilon"] = Float64Array.from(values["noise"]!, (value, i) => value + 0.1 * Math.sin(i));
    const computed = run(gradient, values, SIZES)["fraction"]!;
    expect(computed.every((value) => Math.abs(value) > 1e-9)).toBe(true);
    return differenceError(loss, computed, "fraction", values, SIZES);
  }

  const inside = Float64Array.from({ length: 24 }, (_, i) => Math.sin(i) * 0.9);
  const edges = Float64Array.from({ length: 24 }, (_, i) => (i % 2 === 0 ? 1 : -1));

  test("the variance learns from the bound, at t = 0 too", () => {
    expect(boundErrors([40, 1], inside)).toBeLessThan(2e-7);
    expect(boundErrors([0, 0], inside)).toBeLessThan(2e-7);
    expect(boundErrors([0, 0], edges)).toBeLessThan(2e-7);
    expect(boundErrors([0, 12], edges)).toBeLessThan(2e-7);
  });

  test("the bound at t = 0 is the likelihood of the bin under the predicted Gaussian", () => {
    const [schedule, process] = [
      gaussianSchedule(linearBetas()),
      gaussianDiffusion({ learnSigma: true, lossMean: "padded" }),
    ];
    const inputs = { x: video, t: process.time, noise: video, epsilon: video, fraction: video };
    const loss = tracedProgram(inputs, (tensors) =>
      process.loss({ ...tensors, mask: undefined }, () => concat([tensors.epsilon, tensors.fraction], "channels")),
    );
    const values = valuesFor(loss, SIZES, {
      t: [0, 0],
      x: Float64Array.from(inside, (v, i) => (i % 5 === 0 ? 1 : i % 5 === 1 ? -1 : v)),
    });
    values["epsilon"] = Float64Array.from(values["noise"]!, (value, i) => value + 0.2 * Math.sin(i));
    const at = (name: string, i: number): number => values[name]![i]!;
    const bits = Array.from({ length: 24 }, (_, i) => {
      const [root, rest] = [Math.sqrt(schedule.alphasCumprod[0]!), Math.sqrt(1 - schedule.alphasCumprod[0]!)];
      const noisy = root * at("x", i) + rest * at("noise", i);
      const clean = (noisy - rest * at("epsilon", i)) / root;
      const mean = schedule.posteriorMeanOfX0[0]! * clean + schedule.posteriorMeanOfXt[0]! * noisy;
      const share = (at("fraction", i) + 1) / 2;
      const logVariance = share * Math.log(schedule.betas[0]!) + (1 - share) * schedule.posteriorLogVariance[0]!;
      const below = (value: number): number =>
        0.5 * (1 + erf((value - mean) / Math.exp(0.5 * logVariance) / Math.SQRT2));
      const upper = at("x", i) > 0.999 ? 1 : below(at("x", i) + 1 / 255);
      const lower = at("x", i) < -0.999 ? 0 : below(at("x", i) - 1 / 255);
      return -Math.log2(upper - lower);
    });
    const vb = run(loss, values, SIZES)["vb"]!;
    const mean = (from: number): number => bits.slice(from, from + 12).reduce((a, b) => a + b, 0) / 12;
    // The model uses the tanh approximation of the distribution function, this test the real one.
    expect(Math.abs(vb[0]! / mean(0) - 1)).toBeLessThan(2e-3);
    expect(Math.abs(vb[1]! / mean(12) - 1)).toBeLessThan(2e-3);
    expect(mean(0)).toBeGreaterThan(0.5);
  });

  test("the mean of the bound teaches nothing", () => {
    const process = gaussianDiffusion({ learnSigma: true, lossMean: "padded" });
    const inputs = { x: video, t: process.time, noise: video, epsilon: video, fraction: video };
    const gradient = tracedProgram(inputs, (tensors) => {
      const { vb } = process.loss({ ...tensors, mask: undefined }, () =>
        concat([tensors.epsilon, tensors.fraction], "channels"),
      );
      const [found] = gradients(vb!.mean().edge, [tensors.epsilon.edge]);
      return { epsilon: new TensorClass(found!) };
    });
    const computed = run(gradient, valuesFor(gradient, SIZES, { t: [0, 300] }), SIZES)["epsilon"]!;
    expect([...computed].every((value) => value === 0)).toBe(true);
  });

  test("a flow's loss is that of the velocity, whatever the network predicts", () => {
    const lossOf = (predicts: "velocity" | "data", predict: (noisy: Tensor, t: Tensor) => Tensor) => {
      const process = rectifiedFlow({ lossMean: "valid", predicts });
      const inputs = { x: video, t: process.time, noise: video };
      const program = tracedProgram(inputs, (tensors) => process.loss({ ...tensors, mask: undefined }, predict));
      return run(program, valuesFor(program, SIZES, { t: [0.01, 0.8] }), SIZES)["loss"]!;
    };
    const guess = (noisy: Tensor): Tensor => noisy.mul(0.5);
    const velocity = lossOf("velocity", (noisy, t) =>
      formula("(noisy - guess) / max(t, 0.05)", { noisy, guess: guess(noisy), t }),
    );
    const data = lossOf("data", guess);
    data.forEach((value, i) => expect(value).toBeCloseTo(velocity[i]!, 10));
  });

  test("a padded token cannot reach the loss, even as NaN", () => {
    const process = rectifiedFlow({ lossMean: "valid" });
    const inputs = { x: video, t: process.time, noise: video, mask: mask("batch tokens") };
    const loss = tracedProgram(inputs, (tensors) => process.loss(tensors, (noisy) => noisy.mul(0.5)));
    const given = { t: [0.3, 0.6], mask: [1, 1, 0, 1, 0, 0] };
    const values = valuesFor(loss, SIZES, given);
    const expected = run(loss, values, SIZES)["loss"]!;
    const poisoned = Float64Array.from(values["x"]!, (value, i) => (given.mask[Math.floor(i / 4)] === 0 ? NaN : value));
    expect(run(loss, { ...values, x: poisoned }, SIZES)["loss"]).toEqual(expected);
    expect(expected.every((value) => value > 0)).toBe(true);
  });
});

test("segments of a mask are its length and its sum", () => {
  const lengths = tracedProgram({ mask: mask("batch tokens") }, ({ mask: given }) => ({
    lengths: segment(given).lengths,
  }));
  expect([...run(lengths, { mask: [1, 1, 0, 1, 0, 0] }, SIZES)["lengths"]!]).toEqual([2, 1]);
});
