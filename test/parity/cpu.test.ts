/** The recordings of the published model, replayed by generated kernels: the way a training binary computes. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { verify } from "../../compiler/commands/verify.ts";

const fixtures = join(process.env["SORACC_ROOT"] ?? process.cwd(), "test/fixtures");

// One width for each conditioning; `soracc verify` runs the others.
test.each([
  ["dit/h32d16-adaln", "f32"],
  ["dit/h32d16-cross-attn", "f32"],
  ["dit/h32d16-token-concat", "f32"],
  ["dit/h72d72-token-concat", "bf16"],
  ["dit/h72d72-adaln", "f16"],
  ["dit/h32d16-cross-attn", "f16"],
  ["sampling/h32d16-adaln", "f32"],
  ["sampling/h32d16-adaln", "f16"],
] as const)(
  "%s in %s",
  async (name, precision) => {
    const report = await verify(join(fixtures, `${name}.safetensors`), { device: "cpu", precision });
    expect(report.tensors.filter((tensor) => !tensor.ok)).toEqual([]);
    expect(report.tensors.length).toBeGreaterThan(4);
    expect(report.launched).toBeGreaterThan(20);
  },
  600_000,
);
