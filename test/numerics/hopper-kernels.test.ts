/**
 * What only the kernels for Hopper do, in the simulator: blocks that go from one item to the next, sides of any layout
 * copied in boxes, values behind the last valid key.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { generate } from "../../compiler/targets/cuda/target.ts";
import { casesOf, type Setting } from "./attention-cases.ts";
import { acc, assemble, caseOf, read, recipes, type Part } from "./contract-cases.ts";
import { type Case } from "./harness.ts";
import { gpuMistakesOf } from "./gpu-harness.ts";

const ARCH = { arch: "sm_90a", everywhere: true } as const;
const isHopper = ({ kernel }: Case): boolean => generate(kernel, "sm_90a", true).source.includes("warpgroup");
/** Weights are rounded to bf16 before they are multiplied. */
const ROUNDED = { relative: 2e-5, absolute: 8e-3 };

/** More items than blocks, and steps that do not divide the stages, so that both warpgroups go round the ring unevenly. */
test("two warpgroups take turns with the products of many samples", async () => {
  const list: Part[] = [
    { role: "batch", size: 140, fixed: false },
    { role: "m", size: 3, fixed: true },
    { role: "n", size: 24, fixed: true },
    { role: "k", size: 200, fixed: true },
  ];
  const made = assemble("samples", list);
  const [left, right] = [made.tensor("read", "bf16", [0, 1, 3]), made.tensor("read", "bf16", [0, 2, 3])];
  const one = made.finish(read(left), read(right), [{ access: made.tensor("write", "bf16", [0, 1, 2]), value: acc }]);
  expect(isHopper(one)).toBe(true);
  expect(await gpuMistakesOf([one], { relative: 2e-5, absolute: 1e-3 }, { ...ARCH, seeds: [1] })).toEqual([]);
});

test("contractions of any axes, prologues and epilogues", async () => {
  const all = fc.sample(recipes, { numRuns: 60, seed: 99 }).map(caseOf);
  const cases = all.filter(isHopper).slice(0, 12);
  expect(cases.length).toBe(12);
  expect(await gpuMistakesOf(cases, { relative: 2e-5, absolute: 2e-4 }, { ...ARCH, seeds: [1, 2] })).toEqual([]);
});

const both = (setting: Setting): Case[] => {
  const { forward, backward } = casesOf({ dtype: "bf16", ...setting });
  return [forward, backward];
};

test("attention of more heads than blocks", async () => {
  const cases = both({
    ...{ name: "many_heads", batch: 2, heads: 67, queries: 10, keys: 20, head: 16 },
    segments: [
      { extent: 5, lengths: [3, 0] },
      { extent: 15, lengths: [9, 0] },
    ],
  });
  expect(cases.map(isHopper)).toEqual([true, true]);
  expect(await gpuMistakesOf(cases, ROUNDED, { ...ARCH, seeds: [1] })).toEqual([]);
});

test("attention over several blocks of queries and keys, up to the diagonal", async () => {
  const cases = [64, 72, 96].flatMap((head) =>
    both({
      name: `blocks_${head}`,
      batch: 1,
      heads: 1,
      queries: 150,
      keys: 290,
      head,
      causal: head === 64,
      open: true,
    }),
  );
  expect(await gpuMistakesOf(cases, ROUNDED, { ...ARCH, seeds: [1, 2] })).toEqual([]);
});

test("gradients of few keys, from chunks of many queries", async () => {
  const cases = [72, 80].map(
    (head) => casesOf({ name: `chunks_${head}`, dtype: "bf16", batch: 1, heads: 1, queries: 2100, keys: 20, head, open: true }).backward,
  ); // prettier-ignore
  expect(await gpuMistakesOf(cases, ROUNDED, { ...ARCH, seeds: [1] })).toEqual([]);
});

test("keys and values that may not be seen may be anything", async () => {
  const setting: Setting = {
    ...{ name: "not_a_number", batch: 2, heads: 1, queries: 20, keys: 150, head: 72 },
    segments: [
      { extent: 60, lengths: [13, 0] },
      { extent: 90, lengths: [31, 0] },
    ],
  };
  const cases = both(setting);
  for (const { operands } of cases) {
    for (const position of [1, 2]) {
      const rows = operands[position] as Float64Array;
      for (let batch = 0; batch < 2; batch++) {
        for (let key = 0; key < 150; key++) {
          const [start, segment] = key < 60 ? [0, setting.segments![0]!] : [60, setting.segments![1]!];
          const row = batch * 150 + key;
          if (key - start >= segment.lengths[batch]!) rows.fill(NaN, row * 72, (row + 1) * 72);
        }
      }
    }
  }
  expect(await gpuMistakesOf(cases, ROUNDED, { ...ARCH, seeds: [1, 2] })).toEqual([]);
});

test("operands that no box can be copied of take the form for every GPU", () => {
  const shape = { batch: 2, heads: 2, queries: 9, keys: 9 };
  const forms = (setting: Setting): boolean[] => both(setting).map(isHopper);
  expect(forms({ name: "whole", ...shape, head: 24 })).toEqual([true, true]);
  expect(forms({ name: "odd", ...shape, head: 20 })).toEqual([false, false]);
  expect(forms({ name: "strided", ...shape, head: 24, layout: "bhds" })).toEqual([false, false]);
  expect(forms({ name: "float", ...shape, head: 24, dtype: "f32" })).toEqual([false, false]);
  expect(forms({ name: "wide", ...shape, head: 192 })).toEqual([true, false]);
});
