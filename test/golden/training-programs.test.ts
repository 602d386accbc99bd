/**
 * The programs of training as graphs: what a recipe in f16 adds, and that the others know nothing of it.
 * `npx vitest run -u test/golden` accepts a change.
 */
import { expect, test } from "vitest";
import type { Program } from "../../compiler/graph/node.ts";
import { printProgram } from "../../compiler/graph/print.ts";
import { adamW, f32, linear, model, program } from "../../compiler/language/index.ts";
import { traceModel } from "../../compiler/language/trace-model.ts";

const definition = model({
  name: "line",
  config: {},
  train: { optimizer: adamW({ rate: 0.01 }), clip: 1 },
  programs: () => {
    const map = linear("map", 3, 2);
    return {
      loss: program({ x: f32("batch width", { width: 3 }), y: f32("batch width", { width: 2 }) }, ({ x, y }) => ({
        loss: map(x).sub(y).apply("x * x").mean("width"),
      })),
    };
  },
});

const PROGRAMS = ["initialize", "accumulate", "update"] as const;

type Recipe = Readonly<Record<string, string | number>>;

function programs(train: Recipe): readonly Program[] {
  const traced = traceModel(definition, { set: Object.entries(train).map(([key, value]) => `train.${key}=${value}`) });
  return PROGRAMS.map((name) => traced.programs.get(name)!());
}

// Made in one go and kept: how nodes are numbered depends on those that exist already.
const f32Programs = programs({ precision: "f32" });
const f16Programs = programs({ precision: "f16" });

test.each([["f32", f32Programs] as const, ["f16", f16Programs] as const])("in %s", async (precision, made) => {
  await expect(made.map(printProgram).join("\n")).toMatchFileSnapshot(`training/${precision}.graph`);
});

// Graphs are interned: programs are equal when their edges are the same objects.
test.each<Recipe>([
  { precision: "bf16" },
  { precision: "f32", lossScale: 8, scaleGrowth: 4, scaleBackoff: 0.25, scaleInterval: 3 },
  { precision: "bf16", lossScale: 8, scaleGrowth: 4, scaleBackoff: 0.25, scaleInterval: 3 },
])("%j is what f32 is: nothing is scaled", (recipe) => {
  programs(recipe).forEach((made, i) => {
    const { inputs, outputs, next } = f32Programs[i]!;
    expect(made.inputs.map((edge, at) => edge === inputs[at])).toEqual(inputs.map(() => true));
    for (const [now, before] of [[made.outputs, outputs] as const, [made.next, next] as const]) {
      expect([...now.keys()]).toEqual([...before.keys()]);
      for (const [name, edge] of now) expect(edge === before.get(name), name).toBe(true);
    }
  });
});

test("a binary carries the settings of the scale only where they mean something", () => {
  const recipeOf = (precision: string): object =>
    traceModel(definition, { set: [`train.precision=${precision}`] }).recipe["train"] as object;
  const scaling = { lossScale: 65536, scaleGrowth: 2, scaleBackoff: 0.5, scaleInterval: 2000 };
  expect(recipeOf("f16")).toEqual({ ...recipeOf("f32"), precision: "f16", ...scaling });
  expect(Object.keys(recipeOf("bf16"))).toEqual(Object.keys(recipeOf("f32")));
  for (const key of Object.keys(scaling)) expect(recipeOf("f32")).not.toHaveProperty(key);
});
