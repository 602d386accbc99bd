/** The recordings of the published model on a GPU. Skipped, visibly, where there is none. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { verify } from "../../compiler/commands/verify.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { openDriver } from "../../runtime/devices/cuda/driver.ts";
import { openNvrtc } from "../../runtime/devices/cuda/nvrtc.ts";

const fixtures = join(process.env["SORACC_ROOT"] ?? process.cwd(), "test/fixtures");

const lacking = await (async (): Promise<string | undefined> => {
  try {
    (await openDriver()).close();
    await openNvrtc();
    return undefined;
  } catch (error) {
    if (error instanceof Diagnostic) return error.parts.message;
    throw error;
  }
})();

describe.skipIf(lacking !== undefined)(`on a GPU${lacking === undefined ? "" : ` (skipped: ${lacking})`}`, () => {
  test.each([
    ["dit/h32d16-adaln", "f32"],
    ["dit/h32d16-cross-attn", "f32"],
    ["dit/h32d16-token-concat", "f32"],
    ["dit/h72d72-token-concat", "bf16"],
    ["dit/h72d72-adaln", "f16"],
    ["sampling/h32d16-adaln", "f32"],
  ] as const)("%s in %s", async (name, precision) => {
    const report = await verify(join(fixtures, `${name}.safetensors`), { device: "cuda", precision });
    expect(report.tensors.filter((tensor) => !tensor.ok)).toEqual([]);
    expect(report.launched).toBeGreaterThan(20);
  });
});
