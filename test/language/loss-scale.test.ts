// Dynamic loss scaling on the float64 interpreter, with what products read rounded to f16 as the pass does it.
import { describe, expect, test } from "vitest";
import type { Program } from "../../compiler/graph/node.ts";
import { adam, f32, linear, model, program, type TrainOptions } from "../../compiler/language/index.ts";
import { traceModel, type TracedModel } from "../../compiler/language/trace-model.ts";
import { precision } from "../../compiler/passes/precision.ts";
import { noise, run, type Values } from "./models.ts";

/** y = W2 (W1 x): gradients reach W1 through a product, so that they pass f16 on their way. `size` scales the loss. */
function traced(train: TrainOptions, size = 1): TracedModel {
  return traceModel(
    model({
      name: "two",
      config: {},
      train: { optimizer: adam({ rate: 0.01 }), schedule: "constant", precision: "f16", ...train },
      programs: () => {
        const [first, second] = [linear("first", 3, 4), linear("second", 4, 2)];
        return {
          loss: program({ x: f32("batch width", { width: 3 }), y: f32("batch width", { width: 2 }) }, ({ x, y }) => ({
            loss: second(first(x)).sub(y).apply("x * x").mean("width").mul(size),
          })),
        };
      },
    }),
  );
}

const SIZES = { batch: 4 };
const data = { x: noise(12, 3), y: noise(8, 4) };
const ARENAS = ["parameters", "moment1", "moment2", "average"] as const;

const inF16 = (of: Program): Program => precision(of, "f16");

function started(of: TracedModel): Values {
  const start = run(of.programs.get("initialize")!(), { seed: [7] });
  return Object.fromEntries(Object.entries(start).map(([name, value]) => [name.slice("next.".length), value]));
}

/** One step on as many small batches as `micros` has records of inputs. */
function step(of: TracedModel, state: Values, micros: readonly Values[] = [{}]) {
  let gradient: ArrayLike<number> = new Float64Array(of.layout.elements).fill(NaN);
  micros.forEach((more, micro) => {
    const given = { ...data, seed: [7], ...state, ...more, gradient, micro: [micro], accumulation: [micros.length] };
    gradient = run(inF16(of.programs.get("accumulate")!()), given, SIZES)["next.gradient"]!;
  });
  const results = run(inF16(of.programs.get("update")!()), { ...state, gradient, totalSteps: [100] });
  const next = Object.entries(results).filter(([name]) => name.startsWith("next."));
  return {
    gradient,
    norm: results["gradientNorm"]![0]!,
    skipped: results["skipped"]![0],
    state: Object.fromEntries(next.map(([name, value]) => [name.slice("next.".length), value])) as Values,
  };
}

const scalars = (state: Values): number[] =>
  ["step", "lossScale", "finiteSteps", "skippedSteps"].map((name) => state[name]![0]!);

/** States of as many steps, the start included. */
function steps(of: TracedModel, count: number, from = started(of)): readonly Values[] {
  const states = [from];
  for (let i = 0; i < count; i++) states.push(step(of, states.at(-1)!).state);
  return states;
}

describe("the gradient", () => {
  test("is that of the scaled loss until the update, which measures it unscaled", () => {
    const of = traced({ lossScale: 1024 });
    const { gradient, norm } = step(of, started(of));
    const wanted = run(inF16(of.recorded.gradients("loss")), { ...data, ...started(of) }, SIZES);
    for (const { name, offset } of of.layout.parameters) {
      wanted[name]!.forEach((value, i) => expect(gradient[offset + i]! / 1024).toBeCloseTo(value, 3));
    }
    expect(norm).toBeCloseTo(Math.hypot(...Array.from(gradient)) / 1024, 12);
  });

  test("that is too small for f16 is there when the loss is scaled, and gone when it is not", () => {
    const of = traced({}, 1e-8);
    const given = { ...data, ...started(of) };
    const exact = run(of.recorded.gradients("loss"), given, SIZES)["first.weight"]!;
    const plain = run(inF16(of.recorded.gradients("loss")), given, SIZES)["first.weight"]!;
    const scaled = run(inF16(of.recorded.gradients("loss", true)), { ...given, lossScale: [2 ** 24] }, SIZES);
    const largest = Math.max(...exact.map(Math.abs));
    expect(largest).toBeGreaterThan(1e-9);
    expect(plain.every((value) => value === 0)).toBe(true);
    scaled["first.weight"]!.forEach((value, i) => expect(Math.abs(value - exact[i]!)).toBeLessThan(2e-3 * largest));
  });

  test("steps as the unscaled one does: clipping and Adam see no scale", () => {
    const [small, large] = [traced({ lossScale: 2 ** 4, clip: 0.01 }), traced({ lossScale: 2 ** 12, clip: 0.01 })];
    const [a, b] = [small, large].map((of) => steps(of, 3).at(-1)!);
    for (const name of ARENAS) {
      Array.from(a![name]!).forEach((value, i) => expect(value).toBeCloseTo(b![name]![i]!, 6));
    }
  });
});

describe("the scale", () => {
  test("starts at 2^16, with nothing counted", () => {
    expect(scalars(started(traced({})))).toEqual([0, 65536, 0, 0]);
  });

  test("grows after so many finite steps in a row, and counts anew", () => {
    const of = traced({ lossScale: 4, scaleInterval: 3, scaleGrowth: 8 });
    expect(steps(of, 6).map((state) => scalars(state).slice(1))).toEqual([
      ...[
        [4, 0, 0],
        [4, 1, 0],
        [4, 2, 0],
        [32, 0, 0],
        [32, 1, 0],
        [32, 2, 0],
        [256, 0, 0],
      ],
    ]);
  });

  test("that is too large skips steps and backs off until the gradient is finite", () => {
    const of = traced({ lossScale: 2 ** 22, scaleInterval: 2, scaleBackoff: 0.25 });
    const start = started(of);
    const states = steps(of, 4, start);
    expect(states.map(scalars)).toEqual([
      ...[
        [0, 2 ** 22, 0, 0],
        [1, 2 ** 20, 0, 1],
        [2, 2 ** 18, 0, 2],
        [3, 2 ** 18, 1, 2],
        [4, 2 ** 19, 0, 2],
      ],
    ]);
    for (const name of ARENAS) expect(states[2]![name]).toEqual(start[name]);
    for (const name of ARENAS) expect(states[3]![name]).not.toEqual(start[name]);
    const { skipped, norm } = step(of, start);
    expect([skipped, Number.isFinite(norm)]).toEqual([1, false]);
  });

  test("forgets the finite steps before one that is skipped", () => {
    const of = traced({ lossScale: 2, scaleInterval: 4 });
    const after = steps(of, 3).at(-1)!;
    expect(scalars(after)).toEqual([3, 2, 3, 0]);
    expect(scalars(step(of, after, [{ x: data.x.map(() => 1e6) }]).state)).toEqual([4, 1, 0, 1]);
  });
});

test("a skipped step is none to the optimizer: the next one moves as if it had not been", () => {
  const of = traced({ lossScale: 64, ema: 0.5 });
  const start = steps(of, 2).at(-1)!; // with moments, and an average that follows
  const skipped = step(of, start, [{ y: data.y.map(() => Infinity) }]);
  expect(skipped.skipped).toBe(1);
  expect(scalars(skipped.state)).toEqual([3, 32, 0, 1]);
  const [after, straight] = [step(of, skipped.state).state, step(of, { ...start, lossScale: [32] }).state];
  for (const name of ARENAS) expect(after[name]).toEqual(straight[name]);
});

test("accumulated small batches share one scale and one decision", () => {
  const of = traced({ lossScale: 64 });
  const start = started(of);
  const overflow = { x: data.x.map(() => 1e6) };
  for (const micros of [
    [overflow, {}, {}],
    [{}, overflow, {}],
    [{}, {}, overflow],
  ]) {
    const { state, skipped } = step(of, start, micros);
    expect(skipped).toBe(1);
    expect(scalars(state)).toEqual([1, 32, 0, 1]);
    for (const name of ARENAS) expect(state[name]).toEqual(start[name]);
  }
  expect(scalars(step(of, start, [{}, {}, {}]).state)).toEqual([1, 64, 1, 0]);
});
