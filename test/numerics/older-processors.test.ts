/** The same kernels with narrower vectors: what a processor without AVX-512, or without AVX at all, is given. */
import { arch } from "node:os";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { casesOf, SETTINGS } from "./attention-cases.ts";
import { caseOf, recipes } from "./contract-cases.ts";
import { compileCases, firstMistake, runCase } from "./harness.ts";

const chosen = ["odd", "query_blocks", "head_72", "bf16", "causal_segments", "long_keys"];

describe.skipIf(arch() !== "x64")("vectors of other processors", () => {
  test.each(["avx2", "portable"] as const)("%s", async (isa) => {
    const settings = SETTINGS.filter(({ name }) => chosen.includes(name)).map(casesOf);
    const cases = [
      ...fc.sample(recipes, { numRuns: 10, seed: 11 }).map(caseOf),
      ...settings.flatMap(({ forward, backward }) => [forward, backward]),
    ];
    const library = await compileCases(cases, { isa });
    const tolerance = { relative: 2e-5, absolute: 2e-5 };
    const mistakes = cases.flatMap((one, i) => firstMistake(one, runCase(library, i, one), tolerance) ?? []);
    await library.close();
    expect(mistakes).toEqual([]);
  });
});
