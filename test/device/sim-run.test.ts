// The simulated GPU as a device: the programs of the CPU's tests, as CUDA.
import { readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { afterAll, describe, expect, test } from "vitest";
import { cudaSources } from "../../compiler/emit/cuda-sources.ts";
import type { PlanKernel } from "../../contract/plan.ts";
import type { Device, DeviceBuffer } from "../../runtime/devices/device.ts";
import { createSimDevice, type SimDeviceOptions } from "../../runtime/devices/sim/device.ts";
import { affineCuda, cudaKernel, cudaPlan, smallCudaPlan } from "./small-cuda-plans.ts";
import { port, program, smallPlan, step } from "./small-plans.ts";
import { cpu, diagnosticOf, temporaryFolder } from "./with-device.ts";

const opened: Device[] = [];
const cacheDir = temporaryFolder();

async function sim(options: Partial<SimDeviceOptions> = {}): Promise<Device> {
  const device = await createSimDevice({ sources: cudaSources().sim, cacheDir, ...options });
  opened.push(device);
  return device;
}

afterAll(async () => {
  for (const device of opened) await device.close();
});

const ramp = (n: number): Float32Array<ArrayBuffer> => Float32Array.from({ length: n }, (_, i) => i);
const stateOf = (...buffers: DeviceBuffer[]): ReadonlyMap<string, DeviceBuffer> =>
  new Map(buffers.map((one) => [one.name, one]));

const simulatedMemories = (): readonly string[] =>
  ["/dev/shm", tmpdir()].flatMap((folder) => {
    try {
      return readdirSync(folder).filter((name) => name.startsWith(`soracc-sim-${process.pid}-`));
    } catch {
      return [];
    }
  });

/** One kernel, one output of `n` floats, one step. */
const alone = (kernel: PlanKernel) =>
  cudaPlan([kernel], {
    go: program({
      outputs: [port("y", "f32", ["n"], 0)],
      buffers: [{ name: "y", kind: "output", bytes: ["*", 4, "n"] }],
      steps: [{ ...step(0, [0]), origin: "models/small.sora.ts:7:3  block.0" }],
    }),
  });

describe("a program on the simulated GPU", () => {
  test("runs steps, phases, once steps and state in place", async () => {
    const loaded = await (await sim()).load(smallCudaPlan());
    expect(loaded.facts).toMatchObject({ kernels: 4, compiled: 4 });
    const running = loaded.createState("running", "f32", 1000);
    running.write(ramp(1000));
    const bound = loaded.bind("step", { n: 1000 }, stateOf(running));
    bound.write("x", ramp(1000));
    await bound.run();
    expect(bound.read("total")).toEqual(new Float32Array([1000 * 1000]));
    expect(bound.read("first")).toEqual(new Float32Array([3 + 1000]));
    expect(running.read(0, 4)).toEqual(new Float32Array([1, 5, 9, 13]));
    await bound.run(2);
    expect(running.read(999)).toEqual(new Float32Array([999 * 10 + 3]));
    expect(bound.profile().map(({ step, nanoseconds }) => [step, nanoseconds])).toEqual([1, 2, 3, 4, 5].map((n) => [n, 0])); // prettier-ignore
  });

  test("gives the same answer for every size and schedule, with temporaries that move", async () => {
    for (const seed of [0, 7]) {
      const loaded = await (await sim({ seed })).load(smallCudaPlan());
      expect(loaded.facts.compiled).toBe(0); // a schedule compiles nothing
      for (const n of [2, 4000, 66, 30_000, 2, 0]) {
        const running = loaded.createState("running", "f32", n);
        const bound = loaded.bind("step", { n }, stateOf(running));
        bound.write("x", ramp(n).fill(1));
        await bound.run(2);
        expect(bound.read("total")).toEqual(new Float32Array([3 * n]));
        expect(running.read()).toEqual(ramp(n).map((i) => 2 * (3 + i)));
        running.free();
      }
    }
  });

  test("shows what no kernel wrote", async () => {
    const plan = alone(cudaKernel("idle_map", "nothing", ["float* y", "int64_t n"], "  if (thread < 0) y[0] = 0;"));
    const bound = (await (await sim()).load(plan)).bind("go", { n: 3 }, new Map());
    await bound.run();
    expect(bound.read("y")).toEqual(new Float32Array([NaN, NaN, NaN]));
  });

  test("finds a write outside of what a launch may touch, with its place in the model", async () => {
    const careless = cudaKernel("careless_map", "y = too far", ["float* y", "int64_t n"], "  y[thread] = 1;");
    const bound = (await (await sim()).load(alone(careless))).bind("go", { n: 5 }, new Map());
    const error = await diagnosticOf(() => bound.run());
    expect(error.parts.kind).toBe("simulation");
    expect(error.message).toContain("careless_map_0");
    expect(error.message).toContain("models/small.sora.ts:7:3  block.0");
    expect(error.message).toContain("y = too far");
  });

  test("can be stopped at once, and run again", async () => {
    const slow = cudaKernel(
      "slow_map",
      "y = i, slowly",
      ["float* y", "int64_t n"],
      "  for (int round = 0; round < 100000000; ++round)\n    if (thread < n) y[thread] = float(thread);",
    );
    const device = await sim();
    const bound = (await device.load(alone(slow))).bind("go", { n: 5 }, new Map());
    const started = performance.now();
    const run = diagnosticOf(() => bound.run());
    setTimeout(() => bound.cancel(), 100);
    expect((await run).parts).toMatchObject({ kind: "cancelled", message: "program go was stopped" });
    expect(performance.now() - started).toBeLessThan(5000);
    const again = diagnosticOf(() => bound.run());
    await new Promise((resolve) => setTimeout(resolve, 100));
    await device.close();
    expect((await again).parts.kind).toBe("cancelled");
  });

  test("gives its memory back", async () => {
    const before = simulatedMemories().length;
    const device = await sim();
    expect(simulatedMemories()).toHaveLength(before + 1);
    await device.close();
    expect(simulatedMemories()).toHaveLength(before);
  });
});

test("a plan for another target is refused, with what to do", async () => {
  const wrong = await diagnosticOf(async () => (await sim()).load(smallPlan()));
  expect(wrong.message).toBe(
    "device: this plan is for cpu, and the device sim runs plans for cuda\n  fix: compile the model with --target cuda",
  );
  const other = await diagnosticOf(async () => (await cpu()).load(cudaPlan([affineCuda], {})));
  expect(other.message).toMatch(/^device: this plan is for cuda, and the device cpu runs plans for cpu\n/);
});
