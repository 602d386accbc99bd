// The noise schedule and the shortened ones against recorded tables.
import { expect, test } from "vitest";
import {
  gaussianSchedule,
  linearBetas,
  respacedSchedule,
  respacedTimesteps,
  samplerTables,
} from "../../contract/diffusion.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { openSafetensors } from "../../contract/safetensors.ts";

const recorded = openSafetensors("test/fixtures/diffusion/linear-1000.safetensors");
const schedule = gaussianSchedule(linearBetas());

test.each([
  ["betas", schedule.betas],
  ["alphas_cumprod", schedule.alphasCumprod],
  ["posterior_variance", schedule.posteriorVariance],
  ["posterior_log_variance_clipped", schedule.posteriorLogVariance],
  ["posterior_mean_coef1", schedule.posteriorMeanOfX0],
  ["posterior_mean_coef2", schedule.posteriorMeanOfXt],
])("%s", (name, computed) => {
  const expected = recorded.readFloat64(name);
  expect(computed.length).toBe(1000);
  computed.forEach((value, i) => {
    expect(Math.abs(value - expected[i]!)).toBeLessThanOrEqual(1e-12 * Math.abs(expected[i]!));
  });
});

test.each(["250", "50", "10,15,20", "ddim25"])("the times that a spacing of %s keeps", (spacing) => {
  expect(respacedTimesteps(spacing)).toEqual([...recorded.readFloat64(`timesteps.${spacing}`)]);
});

test("half-way times round to even", () => {
  expect(respacedTimesteps(3, 6)).toEqual([0, 2, 5]); // 2.5 goes to 2
  expect(respacedTimesteps(3, 8)).toEqual([0, 4, 7]); // 3.5 goes to 4
  expect(respacedTimesteps(1)).toEqual([0]);
});

test("a shortened schedule keeps the products, and one of all steps is the schedule itself", () => {
  const times = respacedTimesteps("10,15,20");
  const shortened = respacedSchedule(schedule, times);
  shortened.alphasCumprod.forEach((value, i) => expect(value).toBeCloseTo(schedule.alphasCumprod[times[i]!]!, 12));
  const whole = respacedSchedule(schedule, respacedTimesteps(1000));
  whole.betas.forEach((value, i) => expect(value).toBeCloseTo(schedule.betas[i]!, 12));
});

test("tables run from noise to data", () => {
  const { timestep, noiseScale } = samplerTables("ddpm", 4);
  expect([...timestep!]).toEqual([999, 666, 333, 0]);
  expect([...noiseScale!]).toEqual([1, 1, 1, 0]);
  expect([...samplerTables("euler", 4)["timestep"]!]).toEqual([1, 0.75, 0.5, 0.25]);
  expect([...samplerTables("euler", 4)["timestepDelta"]!]).toEqual([-0.25, -0.25, -0.25, -0.25]);
});

test("shifted times of a flow keep their ends, lie nearer to noise, and add up to the whole way", () => {
  const { timestep, timestepDelta } = samplerTables("euler", 4, 3);
  expect([...timestep!]).toEqual([1, 0.9, 0.75, 0.5]);
  expect(timestepDelta!.reduce((sum, delta) => sum + delta, 0)).toBeCloseTo(-1, 12);
  timestepDelta!.forEach((delta, i) => expect(timestep![i]! + delta).toBeCloseTo(timestep![i + 1] ?? 0, 12));
});

test.each([
  ["0", "a section of 1000 times cannot be sampled in 0 steps"],
  [1001, "a section of 1000 times cannot be sampled in 1001 steps"],
  ["ddim300", "no whole stride takes 300 of 1000 times"],
  ["many", 'there is no spacing of steps "many"'],
  [2.5, 'there is no spacing of steps "2.5"'],
])("a spacing of %s is refused", (spacing, message) => {
  let found: unknown;
  try {
    respacedTimesteps(spacing);
  } catch (error) {
    found = error;
  }
  expect(found).toBeInstanceOf(Diagnostic);
  expect((found as Diagnostic).parts.message).toBe(message);
});
