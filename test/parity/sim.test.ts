/** The recordings of the published model on generated CUDA, simulated: every access checked, memory poisoned. */
import { join } from "node:path";
import { expect, test } from "vitest";
import { verify } from "../../compiler/commands/verify.ts";

const fixtures = join(process.env["SORACC_ROOT"] ?? process.cwd(), "test/fixtures");

// A few of each kind; `soracc verify --device sim` runs the others.
test.each([
  ["dit/h32d16-adaln", "f32", "sm_80", 0],
  ["dit/h32d16-token-concat", "f32", "sm_90a", 7],
  ["dit/h72d72-cross-attn", "bf16", "sm_90a", 3],
  ["dit/h72d72-adaln", "f16", "sm_80", 1],
  ["sampling/h32d16-cross-attn", "f32", "sm_100", 0],
] as const)(
  "%s in %s for %s, schedule %d",
  async (name, precision, arch, scheduleSeed) => {
    const file = join(fixtures, `${name}.safetensors`);
    const report = await verify(file, { device: "sim", precision, arch, scheduleSeed });
    expect(report.tensors.filter((tensor) => !tensor.ok)).toEqual([]);
    expect(report.tensors.length).toBeGreaterThan(4);
    expect(report.launched).toBeGreaterThan(20);
  },
  600_000,
);
