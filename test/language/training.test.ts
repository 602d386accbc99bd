// The programs of training, on the float64 interpreter: what they draw, how they step, what they skip.
import { describe, expect, test } from "vitest";
import {
  adam,
  adamW,
  drawn,
  f32,
  i32,
  linear,
  model,
  normal,
  program,
  xavier,
  zeros,
  parameter,
  type TrainOptions,
} from "../../compiler/language/index.ts";
import { traceModel, type TracedModel } from "../../compiler/language/trace-model.ts";
import { pathKey } from "../../compiler/ops/source.ts";
import { philoxNormal, philoxUniform } from "../../contract/philox.ts";
import { noise, run, sizeOfParameter, type Values } from "./models.ts";

/** prediction = W text + b, and a scale; the loss compares it with x and a drawn noise. */
function traced(train: TrainOptions): TracedModel {
  return traceModel(
    model({
      name: "tiny",
      config: {},
      train,
      programs: () => {
        const map = linear("map", 3, 2);
        const scale = parameter("scale", { width: 2 }, normal(0.5));
        const x = f32("batch width", { width: 2 });
        const inputs = {
          x,
          t: drawn(i32("batch"), "uniform", "i32(u * 10)"),
          noise: drawn(x, "normal"),
          text: { ...f32("batch width", { width: 3 }), isDropped: true as const },
        };
        return {
          loss: program(inputs, (t) => {
            const error = map(t.text)
              .mul(scale())
              .sub(t.x)
              .add(t.noise.mul(t.t.cast("f32")).mul(0.01));
            return { loss: error.apply("x * x").mean("width") };
          }),
        };
      },
    }),
  );
}

const SIZES = { batch: 4 };
const RECIPE: TrainOptions = { optimizer: adam({ rate: 0.01 }), schedule: "constant", textDropout: 0 };
const data = { x: noise(8, 3), text: noise(12, 4) };
const seed = [12345];

function started(model: TracedModel): Record<string, ArrayLike<number>> {
  const start = run(model.programs.get("initialize")!(), { seed });
  return Object.fromEntries(Object.entries(start).map(([name, value]) => [name.slice("next.".length), value]));
}

/** One optimizer step on one batch, as training runs it: the gradient, then the update. */
function train(model: TracedModel, state: Values, more: Values = {}): Record<string, Float64Array> {
  const given = { ...data, seed, totalSteps: [100], micro: [0], accumulation: [1], gradient: new Float64Array(10) };
  const all = { ...given, ...state, ...more };
  const { "next.gradient": gradient, ...gave } = run(model.programs.get("accumulate")!(), all, SIZES);
  return { ...gave, ...run(model.programs.get("update")!(), { ...all, gradient: gradient! }) };
}

const nextOf = (results: Record<string, Float64Array>): Record<string, Float64Array> =>
  Object.fromEntries(
    Object.entries(results).flatMap(([name, value]) => (name.startsWith("next.") ? [[name.slice(5), value]] : [])),
  );

const uniformAt = (path: string, step: number, index: number): number =>
  philoxUniform(seed[0]!, step, pathKey(path), index);
const normalAt = (path: string, step: number, index: number): number =>
  philoxNormal(seed[0]!, step, pathKey(path), index);

describe("initialize", () => {
  test("starts every parameter as it was declared, and all else at nothing", () => {
    const model = traced(RECIPE);
    const state = started(model);
    const values = (name: string): number[] => {
      const { offset, elements } = sizeOfParameter(model, name);
      return Array.from(state["parameters"]!).slice(offset, offset + elements);
    };
    const bound = Math.sqrt(6 / 5);
    expect(values("map.weight")).toEqual(
      Array.from({ length: 6 }, (_, i) => (2 * uniformAt("initialize.map.weight", 0, i) - 1) * bound),
    );
    expect(values("map.bias")).toEqual([0, 0]);
    expect(values("scale")).toEqual([0, 1].map((i) => normalAt("initialize.scale", 0, i) * 0.5));
    expect(state["average"]).toEqual(state["parameters"]);
    for (const name of ["moment1", "moment2"]) expect(Array.from(state[name]!)).toEqual(new Array(10).fill(0));
    expect(Array.from(state["step"]!)).toEqual([0]);
    expect(xavier(3, 2)).toEqual({ kind: "uniform", bound });
    expect(zeros).toEqual({ kind: "constant", value: 0 });
  });

  test("another seed is another start", () => {
    const program = traced(RECIPE).programs.get("initialize")!();
    const [a, b] = [1, 2].map((each) => run(program, { seed: [each] })["next.parameters"]!);
    expect(a).not.toEqual(b);
  });
});

describe("train", () => {
  /** The loss and its gradient for the draws of one step, from the programs that draw nothing. */
  function byHand(model: TracedModel, parameters: ArrayLike<number>, key: number, dropped: readonly boolean[] = []) {
    const text = Float64Array.from(data.text, (value, i) => (dropped[Math.floor(i / 3)] === true ? 0 : value));
    const given = {
      x: data.x,
      text,
      parameters,
      t: Array.from({ length: 4 }, (_, i) => Math.floor(uniformAt("train.t", key, i) * 10)),
      noise: Array.from({ length: 8 }, (_, i) => normalAt("train.noise", key, i)),
    };
    const { loss } = run(model.programs.get("loss")!(), given, SIZES);
    const gradients = run(model.recorded.gradients("loss"), given, SIZES);
    const gradient = new Float64Array(model.layout.elements);
    for (const { name, offset } of model.layout.parameters) gradient.set(gradients[name]!, offset);
    return { loss: loss!.reduce((a, b) => a + b, 0) / 4, gradient };
  }

  test("draws by seed and step, and steps as Adam does", () => {
    const model = traced(RECIPE);
    let state = started(model);
    let [m, v] = [new Float64Array(10), new Float64Array(10)];
    let p = Float64Array.from(state["parameters"]!);
    for (let step = 0; step < 3; step++) {
      const expected = byHand(model, p, step);
      const results = train(model, state);
      expect(results["loss"]![0]).toBeCloseTo(expected.loss, 12);
      expect(results["gradientNorm"]![0]).toBeCloseTo(Math.hypot(...expected.gradient), 12);
      expect(results["rate"]![0]).toBeCloseTo(0.01, 15);
      expect(results["skipped"]![0]).toBe(0);
      m = m.map((value, i) => 0.9 * value + 0.1 * expected.gradient[i]!);
      v = v.map((value, i) => 0.999 * value + 0.001 * expected.gradient[i]! ** 2);
      const [c1, c2] = [1 - 0.9 ** (step + 1), 1 - 0.999 ** (step + 1)];
      p = p.map((value, i) => value - (0.01 * (m[i]! / c1)) / (Math.sqrt(v[i]! / c2) + 1e-8));
      state = nextOf(results);
      results["next.parameters"]!.forEach((value, i) => expect(value).toBeCloseTo(p[i]!, 10));
      expect(state["step"]).toEqual(Float64Array.of(step + 1));
    }
  });

  test("the average follows with a decay that warms up", () => {
    const model = traced({ ...RECIPE, ema: 0.15 });
    const first = started(model);
    const second = nextOf(train(model, first));
    second["average"]!.forEach((value, i) => {
      expect(value).toBeCloseTo(0.1 * first["average"]![i]! + 0.9 * second["parameters"]![i]!, 12);
    });
    const third = nextOf(train(model, second)); // 2 / 11 would be more than 0.15
    third["average"]!.forEach((value, i) => {
      expect(value).toBeCloseTo(0.15 * second["average"]![i]! + 0.85 * third["parameters"]![i]!, 12);
    });
  });

  test("clips the whole gradient to one norm", () => {
    const model = traced({ ...RECIPE, clip: 0.01 });
    const state = started(model);
    const { gradient } = byHand(model, state["parameters"]!, 0);
    const norm = Math.hypot(...gradient);
    expect(norm).toBeGreaterThan(0.1);
    const { "next.moment1": moment } = train(model, state);
    moment!.forEach((value, i) => expect(value).toBeCloseTo((0.1 * gradient[i]! * 0.01) / (norm + 1e-6), 14));
  });

  test("weight decay shrinks parameters in AdamW, and pulls gradients in Adam", () => {
    const shared = { rate: 0.01, weightDecay: 0.5 };
    const [plain, coupled, decoupled] = [
      traced(RECIPE),
      traced({ ...RECIPE, optimizer: adam(shared) }),
      traced({ ...RECIPE, optimizer: adamW(shared) }),
    ];
    const state = started(plain);
    const [a, b, c] = [plain, coupled, decoupled].map((model) => train(model, state));
    c!["next.parameters"]!.forEach((value, i) => {
      expect(value).toBeCloseTo(a!["next.parameters"]![i]! - 0.01 * 0.5 * state["parameters"]![i]!, 12);
    });
    b!["next.moment1"]!.forEach((value, i) => {
      expect(value).toBeCloseTo(a!["next.moment1"]![i]! + 0.1 * 0.5 * state["parameters"]![i]!, 12);
    });
  });

  test("the rate rises, then falls along half a cosine to nothing", () => {
    const model = traced({ ...RECIPE, schedule: "cosine", warmup: 4 });
    const state = started(model);
    const rateAt = (step: number): number =>
      train(model, { ...state, step: [step] }, { totalSteps: [24] })["rate"]![0]!;
    [0.0025, 0.005, 0.0075, 0.01, 0.01].forEach((rate, step) => expect(rateAt(step)).toBeCloseTo(rate, 12));
    expect(rateAt(14)).toBeCloseTo(0.005, 12);
    expect(rateAt(9)).toBeCloseTo(0.005 * (1 + Math.cos(Math.PI / 4)), 12);
    expect(rateAt(24)).toBeCloseTo(0, 12);
    expect(rateAt(30)).toBeCloseTo(0, 12);
  });

  test("a step that is not finite changes nothing but the counter", () => {
    const model = traced(RECIPE);
    const state = started(model);
    for (const bad of [NaN, Infinity]) {
      const x = Float64Array.from(data.x, (value, i) => (i === 5 ? bad : value));
      const results = train(model, state, { x });
      expect(results["skipped"]![0]).toBe(1);
      const next = nextOf(results);
      expect(next["step"]).toEqual(Float64Array.of(1));
      for (const name of ["parameters", "moment1", "moment2", "average"]) expect(next[name]).toEqual(state[name]);
    }
  });

  test("drops the text of some samples, by chance", () => {
    const model = traced({ ...RECIPE, textDropout: 0.5 });
    const state = started(model);
    const dropped = [0, 1, 2, 3].map((i) => uniformAt("train.dropout.text", 2, i) < 0.5);
    expect(new Set(dropped).size).toBe(2);
    const results = train(model, { ...state, step: [2] });
    expect(results["loss"]![0]).toBeCloseTo(byHand(model, state["parameters"]!, 2, dropped).loss, 12);
  });

  test("accumulated small batches step as their mean gradient does", () => {
    const model = traced({ ...RECIPE, clip: 0.05 });
    const { parameters, ...rest } = started(model);
    const step = [3];
    let gradient: ArrayLike<number> = new Float64Array(10).fill(NaN); // what an earlier step left does not matter
    for (let micro = 0; micro < 2; micro++) {
      const given = { ...data, seed, parameters: parameters!, gradient, step, micro: [micro], accumulation: [2] };
      const results = run(model.programs.get("accumulate")!(), given, SIZES);
      expect(results["loss"]![0]).toBeCloseTo(byHand(model, parameters!, 6 + micro).loss, 12);
      gradient = results["next.gradient"]!;
    }
    const mean = [6, 7].map((key) => byHand(model, parameters!, key).gradient);
    Array.from(gradient).forEach((value, i) => expect(value).toBeCloseTo((mean[0]![i]! + mean[1]![i]!) / 2, 12));
    const given = { ...rest, parameters: parameters!, gradient, step, totalSteps: [100] };
    const { skipped, gradientNorm, ...results } = run(model.programs.get("update")!(), given);
    expect(skipped![0]).toBe(0);
    expect(gradientNorm![0]).toBeCloseTo(Math.hypot(...Array.from(gradient)), 12);
    expect(results["next.step"]).toEqual(Float64Array.of(4));
  });
});
