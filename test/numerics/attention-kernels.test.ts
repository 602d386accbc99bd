/** Attention and its gradient on the CPU, against the float64 interpreter and against finite differences. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { interpret } from "../../compiler/kernels/interpret.ts";
import { casesOf, noise, ROUNDING, SETTINGS } from "./attention-cases.ts";
import { compileCases, firstMistake, runCase, type Library } from "./harness.ts";

describe("against the interpreter", () => {
  const pairs = SETTINGS.map(casesOf);
  const cases = pairs.flatMap(({ forward, backward }) => [forward, backward]);
  let library: Library;
  beforeAll(async () => {
    library = await compileCases(cases);
  });
  afterAll(async () => library.close());

  test.each(SETTINGS.map(({ name, dtype }, i) => ({ name, i, dtype })))("$name", ({ i, dtype = "f32" }) => {
    for (const which of [2 * i, 2 * i + 1]) {
      const one = cases[which]!;
      const tolerance = { relative: 2e-5, absolute: dtype === "bf16" ? ROUNDING.bf16 : 2e-5 };
      expect(firstMistake(one, runCase(library, which, one), tolerance)).toBeUndefined();
    }
  });

  test("the gradient is the slope of attention", () => {
    for (const name of ["odd", "causal_segments", "two_segments"]) {
      const i = SETTINGS.findIndex((setting) => setting.name === name);
      const { forward, backward } = pairs[i]!;
      const got = library.run(2 * i + 1, backward);
      const doutput = backward.operands[5] as Float64Array;
      const step = 1e-3; // the interpreter rounds o to float32
      for (const [operand, gradient] of [got[6]!, got[7]!, got[8]!].entries()) {
        const direction = noise(gradient.length, "f64");
        const moved = [step, -step].map((along) => {
          const operands = forward.operands.map((values, at) => {
            if (typeof values === "number") return new Float64Array(values);
            return Float64Array.from(values, (value, e) => (at === operand ? value + along * direction[e]! : value));
          });
          interpret(forward.kernel, { sizes: new Map(Object.entries(forward.sizes)), operands, scalars: [] });
          return operands[3]!.reduce((sum, o, e) => sum + o * doutput[e]!, 0);
        });
        const slope = (moved[0]! - moved[1]!) / (2 * step);
        const predicted = gradient.reduce((sum, value, e) => sum + value * direction[e]!, 0);
        expect(Math.abs(slope - predicted)).toBeLessThan(1e-3 * Math.max(1, Math.abs(slope)));
      }
    }
  });
});
