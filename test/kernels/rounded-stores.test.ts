// A value that is rounded to the type it is stored as is rounded once; another type keeps both roundings.
import { expect, test } from "vitest";
import type { DType } from "../../contract/dtype.ts";
import { generate as generateCpu } from "../../compiler/targets/cpu/target.ts";
import { generate as generateCuda } from "../../compiler/targets/cuda/target.ts";
import { spell } from "../numerics/kernel-builder.ts";

const stored = (dtype: DType, formula: string): readonly string[] => {
  const kernel = spell({
    ...{ anchor: "map", name: "rounded", axes: { n: "n" } },
    reads: { x: ["f32", "n"] },
    writes: { y: [dtype, "n", formula] },
  });
  return [generateCpu(kernel).source, generateCuda(kernel, "sm_80").source];
};

test.each(["bf16", "f16"] as const)("%s", (dtype) => {
  const round = `round_to_${dtype}(`;
  for (const source of stored(dtype, `${dtype}(a0 * 3)`)) expect(source).not.toContain(round);
  for (const source of stored("f32", `${dtype}(a0 * 3)`)) expect(source).toContain(round);
  for (const source of stored(dtype, `${dtype}(a0 * 3) + 1`)) expect(source).toContain(round);
  const other = dtype === "bf16" ? "f16" : "bf16";
  for (const source of stored(other, `${dtype}(a0 * 3)`)) expect(source).toContain(round);
});
