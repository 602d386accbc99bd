/** Contractions on the CPU against the float64 interpreter: any axes in any order, any prologue, any epilogue. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { constant, toDim, type Dim, type DimLike } from "../../compiler/graph/dim.ts";
import { literal, variable } from "../../compiler/notation/expression.ts";
import { call } from "../../compiler/notation/functions.ts";
import { generate } from "../../compiler/targets/cpu/target.ts";
import { acc, add, assemble, caseOf, noise, read, recipes, type Part } from "./contract-cases.ts";
import { mistakesOf } from "./harness.ts";

const TOLERANCE = { relative: 1e-5, absolute: 2e-5 };

test("random contractions", async () => {
  const cases = fc.sample(recipes, { numRuns: 40, seed: 7 }).map(caseOf);
  expect(await mistakesOf(cases, TOLERANCE)).toEqual([]);
});

/** Strides written out, for shapes chosen by hand. */
const strides = (...list: DimLike[]): Dim[] => list.map(toDim);

test("long sums over a small output are cut into chunks and combined in order", async () => {
  const shapes: [m: number, n: number, k: number, fixed: boolean][] = [
    [6, 40, 1501, false],
    [40, 6, 1501, true],
    [17, 33, 900, false],
    [1, 1, 3000, false],
    [9, 16, 20, false],
  ];
  const cases = shapes.flatMap(([m, n, k, fixed], i) =>
    (["k", "own"] as const).map((along) => {
      const sizes = { m, n, k };
      const list = (["m", "n", "k"] as const).map((role) => ({
        role,
        size: sizes[role],
        fixed: role !== "k" || fixed,
      }));
      const made = assemble(`weight_gradient_${i}_${along}`, list);
      const left = made.tensor("read", i % 2 === 0 ? "f32" : "bf16", along === "k" ? [0, 2] : [2, 0]);
      const right = made.tensor("read", "f32", along === "k" ? [1, 2] : [2, 1]);
      const y = made.tensor("write", "f32", [0, 1]);
      return made.finish(read(left), read(right), [{ access: y, value: acc }]);
    }),
  );
  expect(await mistakesOf(cases, { relative: 1e-5, absolute: 2e-4 })).toEqual([]);
  expect(generate(cases[0]!.kernel).phases.length).toBeGreaterThan(1);
});

test("blocks larger than one in every direction", async () => {
  const cases = [true, false].map((fixed) => {
    const list: Part[] = [
      { role: "m", size: 203, fixed },
      { role: "n", size: 403, fixed: true },
      { role: "k", size: 9, fixed: true },
    ];
    const made = assemble(`blocks_${fixed ? "fixed" : "open"}`, list);
    const left = read(made.tensor("read", "f32", [0, 2]));
    const right = read(made.tensor("read", "f32", [1, 2]));
    return made.finish(left, right, [{ access: made.tensor("write", "f32", [0, 1]), value: acc }]);
  });
  expect(await mistakesOf(cases, TOLERANCE)).toEqual([]);
});

test("gathered rows, guarded steps and several accesses on one side", async () => {
  // y[m, n] = sum over k of (k < 11 ? table[id[m], k] : 0) * w[n, k] + shift[m]
  const made = assemble("gathered", [
    { role: "m", size: 21, fixed: false },
    { role: "n", size: 19, fixed: true },
    { role: "k", size: 13, fixed: true },
  ]);
  const ids = made.tensor("read", "i32", [0]);
  made.values[ids] = Float64Array.from({ length: 21 }, (_, i) => (i * 7) % 5);
  made.operands.push({ name: "table", dtype: "f32", role: "read" });
  made.values.push(noise(5 * 11));
  made.accesses.push({
    operand: 1,
    strides: strides(0, 0, 1),
    lookups: [{ stride: constant(11), index: read(ids, "i32") }],
    guard: call("lt", [variable("i2", "i32"), literal(11, "i32")]),
  });
  const right = read(made.tensor("read", "f32", [1, 2]));
  const shift = read(made.tensor("read", "f32", [0]));
  const y = made.tensor("write", "f32", [0, 1]);
  const whole = made.finish(add(read(1), shift), right, [{ access: y, value: acc }]);
  expect(await mistakesOf([whole], TOLERANCE)).toEqual([]);
});

test("stores that count elements and batches of their own", async () => {
  // y = acc + linear, with axes in an order that has to be sorted first
  const made = assemble("counting", [
    { role: "n", size: 5, fixed: true },
    { role: "m", size: 3, fixed: false },
    { role: "batch", size: 2, fixed: true },
    { role: "k", size: 7, fixed: true },
    { role: "n", size: 6, fixed: true },
  ]);
  const left = read(made.tensor("read", "f32", [2, 1, 3]));
  const right = read(made.tensor("read", "f32", [3, 2, 0, 4]));
  const y = made.tensor("write", "f32", [2, 1, 0, 4]);
  const counted = call("f32", [variable("linear", "i32")]);
  expect(await mistakesOf([made.finish(left, right, [{ access: y, value: add(acc, counted) }])], TOLERANCE)).toEqual(
    [],
  );
});

test("float64 and int32 products keep their type", async () => {
  const cases = (["f64", "i32"] as const).map((type) => {
    const made = assemble(`products_${type}`, [
      { role: "m", size: 11, fixed: true },
      { role: "n", size: 21, fixed: false },
      { role: "k", size: 50, fixed: true },
    ]);
    const [left, right] = [made.tensor("read", type, [0, 2]), made.tensor("read", type, [1, 2])];
    if (type === "i32")
      made.values.forEach((list, i) => (made.values[i] = (list as Float64Array).map((x) => Math.trunc(x * 1000))));
    const y = made.tensor("write", type, [0, 1]);
    return made.finish(variable(`a${left}`, type), variable(`a${right}`, type), [
      { access: y, value: variable("acc", type) },
    ]);
  });
  expect(await mistakesOf(cases, { relative: 1e-12, absolute: 1e-12 })).toEqual([]);
});
