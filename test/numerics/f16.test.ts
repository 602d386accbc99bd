// Training in f16 on generated kernels: gradients against the float64 reference, and the scale of the loss in float32.
import { afterAll, describe, expect, test } from "vitest";
import { staticValue } from "../../compiler/graph/dim.ts";
import { elementsOf } from "../../compiler/graph/shape.ts";
import { adam, f32, linear, model, program } from "../../compiler/language/index.ts";
import { traceModel } from "../../compiler/language/trace-model.ts";
import { transformer } from "../graph/transformer.ts";
import { noise, run, type Values } from "../language/models.ts";
import { cpu, runBoth } from "./on-cpu.ts";

afterAll(async () => (await cpu()).close());

/** L2 error over L2 norm. */
function apart(expected: ArrayLike<number>, got: ArrayLike<number>): number {
  const difference = Array.from(expected, (value, i) => value - got[i]!);
  return Math.hypot(...difference) / Math.hypot(...Array.from(expected));
}

describe("gradients in f16", () => {
  test("of a transformer are those of the reference, as far as eleven bits go", async () => {
    const subject = transformer({ depth: 2, width: 16, heads: 2 });
    const sizes = { batch: 2, tokens: 7 };
    const [arena] = subject.inputs;
    const tensor = 2 * 7 * 16;
    const given = new Map<string, ArrayLike<number>>([
      ["parameters", noise(staticValue(elementsOf(arena!.shape))!, 3).map((value) => 0.3 * value)],
      ["x", noise(tensor, 4)],
      ["condition", noise(2 * 16, 5)],
      ["target", noise(tensor, 6)],
      ["lengths", [7, 4]],
    ]);
    const { expected, got } = await runBoth(subject, given, sizes, "f16");
    const gradients = [...expected].filter(([name]) => name.startsWith("gradient."));
    const largest = Math.max(...gradients.flatMap(([, values]) => Array.from(values, Math.abs)));
    expect(gradients.length).toBeGreaterThan(20);
    for (const [name, values] of gradients) {
      const floor = 1e-2 * largest; // some are zero in exact arithmetic, as verify says
      if (Math.hypot(...Array.from(values)) < floor) continue;
      expect(apart(values, got.get(name)!), name).toBeLessThan(5e-3);
    }
    expect(got.get("loss")![0]! / expected.get("loss")![0]!).toBeCloseTo(1, 3);
  });
});

/** Two products, one after the other: the gradient of the first passes f16. The loss is about 1e-8. */
const faint = traceModel(
  model({
    name: "faint",
    config: {},
    train: { optimizer: adam({ rate: 0.01 }), schedule: "constant", precision: "f16", scaleInterval: 2, clip: 1 },
    programs: () => {
      const [first, second] = [linear("first", 6, 8), linear("second", 8, 4)];
      return {
        loss: program({ x: f32("batch width", { width: 6 }), y: f32("batch width", { width: 4 }) }, ({ x, y }) => ({
          loss: second(first(x)).sub(y).apply("x * x").mean("width").mul(1e-8),
        })),
      };
    },
  }),
);
const elements = faint.layout.elements;
const data = { x: noise(5 * 6, 3), y: noise(5 * 4, 4), parameters: noise(elements, 5) };

describe("gradients that f16 cannot hold", () => {
  test("vanish as they are, and are right when the loss is scaled", async () => {
    const given = new Map<string, ArrayLike<number>>(Object.entries(data));
    const plain = await runBoth(faint.recorded.gradients("loss"), given, { batch: 5 }, "f16");
    given.set("lossScale", [2 ** 24]);
    const scaled = await runBoth(faint.recorded.gradients("loss", true), given, { batch: 5 }, "f16");
    const exact = plain.expected.get("first.weight")!;
    expect(apart(exact, plain.got.get("first.weight")!)).toBe(1);
    expect(apart(exact, scaled.got.get("first.weight")!)).toBeLessThan(2e-3);
    expect(apart(exact, scaled.expected.get("first.weight")!)).toBeLessThan(1e-12);
  });
});

describe("the update", () => {
  const update = faint.programs.get("update")!();
  const zeros = new Float64Array(elements);
  const state: Values = {
    ...{ parameters: data.parameters, average: data.parameters, moment1: zeros, moment2: zeros },
    ...{ step: [5], lossScale: [1024], finiteSteps: [1], skippedSteps: [2], totalSteps: [9] },
  };
  const stepped = async (more: Values): Promise<ReadonlyMap<string, ArrayLike<number>>> =>
    (await runBoth(update, new Map(Object.entries({ ...state, ...more })), {}, "f16")).got;
  const scalars = (results: ReadonlyMap<string, ArrayLike<number>>): number[] =>
    ["step", "lossScale", "finiteSteps", "skippedSteps"].map((name) => results.get(`next.${name}`)![0]!);
  const ARENAS = ["parameters", "average", "moment1", "moment2"];

  test("steps as the reference does", async () => {
    const gradient = noise(elements, 7).map((value) => 2000 * value);
    const got = await stepped({ gradient });
    const expected = run(update, { ...state, gradient });
    for (const name of ARENAS) {
      expect(apart(expected[`next.${name}`]!, got.get(`next.${name}`)!), name).toBeLessThan(1e-5);
    }
    expect(got.get("gradientNorm")![0]! / (Math.hypot(...gradient) / 1024)).toBeCloseTo(1, 5);
    expect(scalars(got)).toEqual([6, 2048, 0, 2]);
  });

  test.each([NaN, Infinity, -Infinity])("leaves everything as it is after a gradient with %s", async (bad) => {
    const gradient = noise(elements, 7).map((value, i) => (i === 17 ? bad : value));
    const got = await stepped({ gradient });
    for (const name of ARENAS) expect(got.get(`next.${name}`)).toEqual(Float32Array.from(state[name]!));
    expect(scalars(got)).toEqual([6, 512, 0, 3]);
    expect(got.get("skipped")![0]).toBe(1);
  });

  test("keeps a scale that would outgrow float32", async () => {
    const got = await stepped({ gradient: zeros, lossScale: [2 ** 127] });
    expect(scalars(got)).toEqual([6, 2 ** 127, 0, 2]);
  });
});
