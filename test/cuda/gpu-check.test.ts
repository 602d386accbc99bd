// `npm run gpu:check` as far as a machine without a GPU goes: it says that there is none, and what it would time runs.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { stepsOnGpu } from "../../bench/cases.ts";
import { timeOperators } from "../../bench/operators.ts";
import { build } from "../../compiler/commands/compile/build.ts";
import { readModel } from "../../compiler/read-model.ts";
import { CPU } from "../../compiler/pipeline.ts";
import { cpu } from "../device/with-device.ts";
import { nativeSources } from "../../compiler/emit/native-sources.ts";
import { repository, start } from "../training/tiny.ts";

test("without a GPU everything is skipped, and that is no failure", async () => {
  const script = join(repository, "scripts", "run.js");
  const nothing = { SORACC_CUDA_DRIVER: "/nonexistent/libcuda.so.1" };
  const { stdout, stderr, exitCode } = await start(
    process.execPath,
    [script, "bench/gpu-check.ts"],
    repository,
    nothing,
  );
  expect(stdout).toMatch(/^no GPU: SORACC_CUDA_DRIVER names .*\nSKIPPED: the tests of instructions and kernels\nSKIPPED: \d+ recordings in bf16 and f32, and the comparison with PyTorch$/); // prettier-ignore
  expect({ stderr, exitCode }).toEqual({ stderr: "", exitCode: 0 });
});

test("parts are chosen by name, and what they start is there", async () => {
  const script = join(repository, "scripts", "run.js");
  const wrong = await start(process.execPath, [script, "bench/gpu-check.ts", "--only", "steps,stepz"], repository);
  expect([wrong.exitCode, wrong.stderr]).toEqual([
    1,
    "gpu:check: there is no part stepz\n  parts  kernels, recordings, operators, steps",
  ]);
  const named = readFileSync(join(repository, "bench", "gpu-check.ts"), "utf8").match(/"bench\/peer\/[^"]+"/g) ?? [];
  expect(named.map((each) => JSON.parse(each) as string)).toEqual(["bench/peer/gpu.py"]);
  for (const path of ["gpu.py", "worker.py"]) expect(existsSync(join(repository, "bench", "peer", path))).toBe(true);
});

test("the training steps that it times are programs of the model, with recomputation", async () => {
  const text = await readModel(join(repository, "models", "dit.sora.ts"));
  for (const { preset, conditioning, precision, set, device, name } of stepsOnGpu(1)) {
    const options = {
      preset,
      set: [`conditioning=${conditioning}`, ...set],
      target: device,
      arch: "sm_90a",
      precision,
    };
    const { plan } = await build(text, options);
    expect([name, plan.model.recipe["train"]]).toEqual([name, expect.objectContaining({ precision: "bf16" })]);
    expect(plan.model.recipe["train"]).not.toMatchObject({ recompute: "none" });
    expect(Object.keys(plan.programs)).toEqual(expect.arrayContaining(["accumulate", "update"]));
  }
});

test("our operators and PyTorch's go by the same names", async () => {
  const sizes = { tokens: 40, width: 32, heads: 2 };
  const device = await cpu(nativeSources());
  const timings = await timeOperators({ device, target: CPU, precision: "f32", sizes, runs: 3 });
  const peer = readFileSync(join(repository, "bench", "peer", "operators.py"), "utf8");
  for (const { name, milliseconds, teraflops } of timings) {
    expect(peer).toContain(`"${name.replace(/, d[xw]$/, "")}"`);
    expect(milliseconds).toBeGreaterThan(0);
    expect(teraflops).toBeGreaterThan(0);
  }
  expect(timings).toHaveLength(11);
});
