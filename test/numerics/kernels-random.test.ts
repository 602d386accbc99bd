/** Random kernels on the CPU against the float64 interpreter. `SORACC_SEED` and `SORACC_RUNS` look for more. */
import { describe, expect, it } from "vitest";
import { mistakesOf } from "./harness.ts";
import { randomCases, type Anchor } from "./random-kernels.ts";

const seed = Number(process.env["SORACC_SEED"] ?? 20240318);
const runs = Number(process.env["SORACC_RUNS"] ?? 60);

describe.each<Anchor>(["map", "rows", "columns"])("random %s kernels", (anchor) => {
  it("compute what the interpreter computes, and touch nothing else", async () => {
    const cases = randomCases(anchor, runs, seed);
    expect(await mistakesOf(cases, { relative: 2e-5, absolute: 2e-5 })).toEqual([]);
  });
});
