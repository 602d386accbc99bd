// The model file itself: its presets, its conditionings, its samplers, where its tokens stand.
import { beforeAll, describe, expect, test } from "vitest";
import { f32, gridPositions, i32, tablePositions } from "../../compiler/language/index.ts";
import type { ModelDefinition } from "../../compiler/language/model.ts";
import { traceModel, type TracedModel } from "../../compiler/language/trace-model.ts";
import { loadModel } from "../../compiler/load-model.ts";
import { pathKey } from "../../compiler/ops/source.ts";
import { samplerTables } from "../../contract/diffusion.ts";
import { philoxNormal } from "../../contract/philox.ts";
import { arenaFor, differenceError, noise, run, tracedProgram, valuesFor, type Values } from "./models.ts";

const SMALL = { patch: 2, channels: 2, textDim: 6, hidden: 16, depth: 2, heads: 2, maxPositions: 9, mlpRatio: 2 };
const SIZES = { batch: 2, tokens: 5, textTokens: 3 };
const MASKS = { video_mask: [1, 1, 1, 1, 1, 1, 1, 1, 0, 0], text_mask: [1, 1, 1, 1, 0, 0] };

let dit: ModelDefinition;
beforeAll(async () => {
  dit = await loadModel("models/dit.sora.ts");
});

const small = (config: Readonly<Record<string, unknown>> = {}): TracedModel =>
  traceModel(dit, { config: { values: { ...SMALL, ...config }, source: { name: "this test" } } });

/** Values for the inputs that a program has. */
function given(model: TracedModel, name: string, more: Values): Record<string, ArrayLike<number>> {
  const program = model.programs.get(name)!();
  const names = new Set(program.inputs.map(({ node }) => (node.operation.op === "input" ? node.operation.name : "")));
  const all: Values = {
    ...MASKS,
    parameters: arenaFor(model),
    positions: noise(30).map((v) => Math.floor(4 * Math.abs(v))),
    ...more,
  };
  const present = Object.fromEntries(Object.entries(all).filter(([each]) => names.has(each)));
  return valuesFor(program, SIZES, present);
}

test("the published presets have the published sizes", () => {
  const names = ["S", "B", "L", "XL"].flatMap((size) => [2, 4, 8].map((patch) => `${size}/${patch}`));
  expect(Object.keys(dit.presets)).toEqual([...names, "demo"]);
  const millions = (preset: string, ...set: string[]): number =>
    Math.round(traceModel(dit, { preset, set }).layout.elements / 1e5) / 10;
  // Peebles and Xie, table 1, give 33, 130, 458 and 675 million, with a class embedding where this has a text.
  expect(["S/2", "B/2", "L/2", "XL/2"].map((preset) => millions(preset))).toEqual([32.7, 129.9, 457.3, 674.3]);
  expect(traceModel(dit, { preset: "DiT-XL/2" }).config).toEqual(traceModel(dit).config);
});

test("the demo preset brings its recipe along", () => {
  const { config, recipe } = traceModel(dit, { preset: "demo", set: ["train.rate=3e-4", "train.betas=0.8,0.9"] });
  expect(config).toMatchObject({ conditioning: "adaln", hidden: 256, positions: "3d", process: "flow" });
  expect(recipe).toMatchObject({
    process: "flow",
    timeShift: 4,
    train: { optimizer: "adamw", rate: 3e-4, betas: [0.8, 0.9], clip: 1, warmup: 30, batch: 48, ema: 0.99 },
    sample: { sampler: "euler", steps: 20, guidance: 2 },
  });
});

describe.each(["adaln", "cross-attn", "token-concat", "self-cross"])("conditioning %s", (conditioning) => {
  test.each([
    ["ddpm", "table", [0, 700]],
    ["flow", "3d", [0.2, 0.9]],
  ] as const)("gradients of the %s loss with %s positions agree with differences", (process, positions, t) => {
    const model = small({ conditioning, process, positions, learnSigma: false });
    const loss = model.programs.get("loss")!();
    const values = given(model, "loss", { t });
    const gradients = run(model.recorded.gradients("loss"), values, SIZES);
    const looked = model.layout.parameters.filter(({ name }) => /blocks\.1|video|text|final|mlp\.2/.test(name));
    expect(looked.length).toBeGreaterThan(15);
    for (const { name, offset, elements } of looked) {
      const gradient = gradients[name]!;
      const entries = [Math.floor(elements / 3)];
      const error = differenceError(loss, gradient, "parameters", values, SIZES, entries, offset);
      // to_k.bias has no gradient at all, softmax ignores a shift: its noise is not measured.
      if (!name.endsWith("to_k.bias")) expect(error, name).toBeLessThan(1e-5);
    }
  });

  test("padding is invisible", () => {
    const model = small({ conditioning });
    const values = given(model, "denoise", { t: [10, 500] });
    const predicted = (changed: Values): number[] => {
      const result = run(model.programs.get("denoise")!(), { ...values, ...changed }, SIZES)["prediction"]!;
      return Array.from(result).filter((_, i) => MASKS.video_mask[Math.floor(i / 16)] === 1);
    };
    const expected = predicted({});
    const moved = Float64Array.from(values["x"]!, (value, i) =>
      MASKS.video_mask[Math.floor(i / 8)] === 1 ? value : 9,
    );
    expect(predicted({ x: moved })).toEqual(expected);
    if (conditioning === "adaln") return;
    const text = Float64Array.from(values["text"]!, (value, i) =>
      MASKS.text_mask[Math.floor(i / 6)] === 1 ? value : 9,
    );
    expect(predicted({ text })).toEqual(expected);
    expect(predicted({ text: text.map((value) => value + 0.5) })).not.toEqual(expected);
  });

  test("starts by predicting nothing, each block as the identity", () => {
    const model = small({ conditioning });
    const { "next.parameters": parameters } = run(model.programs.get("initialize")!(), { seed: [3] });
    const values = given(model, "denoise", { t: [10, 500], parameters: parameters! });
    const prediction = run(model.programs.get("denoise")!(), values, SIZES)["prediction"]!;
    expect([...prediction].every((value) => value === 0)).toBe(true);
    const names = model.layout.parameters.map(({ name }) => name);
    expect(names.some((name) => name.startsWith("blocks.0.cross.to_q"))).toBe(conditioning === "self-cross");
  });
});

test("cross-attn tokens see the text only, self-cross tokens see each other too", () => {
  const seesOthers = (conditioning: string): boolean => {
    const model = small({ conditioning });
    const values = given(model, "denoise", { t: [10, 500] });
    const moved = Float64Array.from(values["x"]!, (value, i) => (i < 8 ? -value : value));
    const program = model.programs.get("denoise")!();
    const [a, b] = [values, { ...values, x: moved }].map((each) => run(program, each, SIZES)["prediction"]!);
    return a!.slice(16, 80).some((value, i) => value !== b!.slice(16, 80)[i]);
  };
  expect(["adaln", "cross-attn", "token-concat", "self-cross"].map(seesOthers)).toEqual([true, false, true, true]);
});

describe("positions", () => {
  /** Sines, then cosines of a coordinate: half of `width` each. */
  const sinusoids = (coordinate: number, width: number): number[] => {
    const angles = Array.from({ length: width / 2 }, (_, i) => coordinate * 10000 ** (-i / (width / 2)));
    return [...angles.map(Math.sin), ...angles.map(Math.cos)];
  };

  const near = (computed: readonly number[], expected: readonly number[]): void => {
    expect(computed.length).toBe(expected.length);
    computed.forEach((value, i) => expect(value, `channel ${i}`).toBeCloseTo(expected[i]!, 12));
  };

  test("the published table: columns first, then rows, of the smallest square that holds all", () => {
    const table = (tokens: number): number[][] => {
      const program = tracedProgram({ x: f32("tokens") }, ({ x }) => ({
        table: tablePositions(x.size("tokens"), { width: 8, maxPositions: 7 }),
      }));
      const flat = Array.from(run(program, { x: noise(tokens) }, { tokens })["table"]!);
      return Array.from({ length: tokens }, (_, i) => flat.slice(8 * i, 8 * i + 8));
    };
    const expected = (token: number, side: number): number[] => [
      ...sinusoids(token % side, 4),
      ...sinusoids(Math.floor(token / side), 4),
    ];
    table(5).forEach((row, token) => {
      near(row, expected(token, 3));
    });
    const longer = table(17); // does not fit in 4 x 4
    for (const token of [0, 4, 5, 16]) near(longer[token]!, expected(token, 5));
  });

  test("real ones: frame, row and column, each with a third of the channels", () => {
    const where = [0, 0, 0, 7, 2, 5, 1, 30, 0];
    const program = tracedProgram({ where: i32("batch tokens axis", { axis: 3 }) }, (t) => ({
      p: gridPositions(t.where, 16),
    }));
    const flat = Array.from(run(program, { where }, { batch: 1, tokens: 3 })["p"]!);
    const expected = [0, 3, 6].flatMap((at) => [
      ...sinusoids(where[at]!, 4), // 16 is not divisible by 6: frames take what the others leave
      ...sinusoids(where[at + 1]!, 6),
      ...sinusoids(where[at + 2]!, 6),
    ]);
    near(flat, expected);
  });
});

describe("samplers", () => {
  const chain = (model: TracedModel, name: "ddpm" | "ddim" | "euler", steps: number, more: Values): Float64Array => {
    const program = model.programs.get(`sample.${name}`)!();
    const tables = samplerTables(name, steps);
    let state: Record<string, ArrayLike<number>> = { z: noise(80, 9), step: [0] };
    for (let step = 0; step < steps; step++) {
      const values = given(model, `sample.${name}`, { ...tables, seed: [4], ...more, ...state });
      const results = run(program, values, { ...SIZES, steps });
      state = { z: results["next.z"]!, step: results["next.step"]! };
    }
    expect(Array.from(state["step"]!)).toEqual([steps]);
    return Float64Array.from(state["z"]!);
  };

  test("start from noise of the seed", () => {
    const { "next.z": z, "next.step": step } = run(small().programs.get("sample.start")!(), { seed: [4] }, SIZES);
    expect([...z!]).toEqual(Array.from({ length: 80 }, (_, i) => philoxNormal(4, 0, pathKey("sample.start.z"), i)));
    expect([...step!]).toEqual([0]);
  });

  test("Euler steps along the guided direction", () => {
    const model = small({ process: "flow" });
    const values = given(model, "denoise", { t: [1, 1], x: noise(80, 9) });
    const direction = (text: ArrayLike<number>): Float64Array =>
      run(model.programs.get("denoise")!(), { ...values, text }, SIZES)["prediction"]!;
    const [withText, without] = [direction(values["text"]!), direction(new Float64Array(12))];
    const moved = chain(model, "euler", 1, { text: values["text"]!, guidance: [2.5] });
    moved.forEach((value, i) => {
      expect(value).toBeCloseTo(noise(80, 9)[i]! - (without[i]! + 2.5 * (withText[i]! - without[i]!)), 10);
    });
  });

  test("DDPM draws its noise by seed and step, and none at the last", () => {
    const model = small();
    const text = noise(12, 2);
    const [a, b, c] = [4, 4, 5].map((seed) => chain(model, "ddpm", 2, { text, guidance: [1], seed: [seed] }));
    expect(a).toEqual(b);
    expect(a).not.toEqual(c);
    const [d, e] = [4, 5].map((seed) => chain(model, "ddpm", 1, { text, guidance: [1], seed: [seed] }));
    expect(d).toEqual(e);
  });

  test("DDIM is deterministic, and guidance of 1 forgets the empty text", () => {
    const model = small({ conditioning: "token-concat" });
    const text = noise(36, 2);
    const results = [4, 5].map((seed) => chain(model, "ddim", 3, { text, guidance: [1], seed: [seed] }));
    expect(results[0]).toEqual(results[1]);
    expect(chain(model, "ddim", 3, { text, guidance: [3] })).not.toEqual(results[0]);
  });
});
