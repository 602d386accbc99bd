// The CUDA device on a driver of ours that has no GPU: order and size of what it asks for, and what it says on failure.
import { describe, expect, test } from "vitest";
import type { Plan, PlanKernel } from "../../contract/plan.ts";
import type { DeviceBuffer } from "../../runtime/devices/device.ts";
import { affineCuda, cudaKernel, cudaPlan, smallCudaPlan } from "./small-cuda-plans.ts";
import { port, program, smallPlan, step } from "./small-plans.ts";
import { diagnosticOf } from "./with-device.ts";
import { cuda, onFakeMachine } from "./with-fake-cuda.ts";

const ramp = (n: number): Float32Array<ArrayBuffer> => Float32Array.from({ length: n }, (_, i) => i);
const stateOf = (...buffers: DeviceBuffer[]): ReadonlyMap<string, DeviceBuffer> =>
  new Map(buffers.map((one) => [one.name, one]));

/** One kernel, one output of `n` floats, one step. */
const alone = (kernel: PlanKernel, rest: Partial<Plan> = {}): Plan =>
  cudaPlan(
    [kernel],
    {
      go: program({
        outputs: [port("y", "f32", ["n"], 0)],
        buffers: [{ name: "y", kind: "output", bytes: ["*", 4, "n"] }],
        steps: [{ ...step(0, [0]), origin: "models/small.sora.ts:7:3  block.0" }],
      }),
    },
    rest,
  );

const named = (symbol: string): PlanKernel =>
  cudaKernel(symbol, "y = something", ["float* y", "int64_t n"], "  if (thread < n) y[thread] = 1;");

const EVERY_STEP = ["affine_map_0", "sum_rows_0", "sum_rows_1", "accumulate_map_0", "accumulate_map_0", "affine_map_0"];

describe("a program on a GPU", () => {
  test("is one graph, launched for every run; once steps run by themselves", () =>
    onFakeMachine({}, async (fake) => {
      const device = await cuda();
      const loaded = await device.load(smallCudaPlan());
      const running = loaded.createState("running", "f32", 1000);
      running.write(ramp(1000));
      const bound = loaded.bind("step", { n: 1000 }, stateOf(running));
      bound.write("x", ramp(1000));
      await bound.run();
      expect(fake.launched()).toEqual(["ramp_map_0", ...EVERY_STEP]);
      expect(bound.read("total")).toEqual(new Float32Array([1000 * 1000]));
      expect(bound.read("first")).toEqual(new Float32Array([3 + 1000]));
      expect(running.read(0, 4)).toEqual(new Float32Array([1, 5, 9, 13]));
      await bound.run(2);
      await bound.run(0);
      expect(running.read(999)).toEqual(new Float32Array([999 * 10 + 3]));
      expect(fake.launched()).toEqual(["ramp_map_0", ...EVERY_STEP, ...EVERY_STEP, ...EVERY_STEP]);
      expect(["cuStreamBeginCapture", "cuGraphInstantiate", "cuGraphLaunch"].map(fake.count)).toEqual([1, 1, 3]);
      expect(bound.profile().map(({ nanoseconds }) => nanoseconds)).toEqual([0, 0, 0, 0, 0]);
      await device.close();
      expect(fake.mistakes()).toBe("");
      // The caller's state alone is left; with it nothing is.
      expect(fake.alive()).toBe(1);
    }));

  test("gives the same answer for every size, and its graph follows the temporaries", () =>
    onFakeMachine({}, async (fake) => {
      const loaded = await (await cuda()).load(smallCudaPlan());
      for (const n of [2, 4000, 66, 100_000, 2, 0]) {
        const running = loaded.createState("running", "f32", n);
        const bound = loaded.bind("step", { n }, stateOf(running));
        bound.write("x", ramp(n).fill(1));
        await bound.run(2);
        expect(bound.read("total")).toEqual(new Float32Array([3 * n]));
        expect(running.read()).toEqual(ramp(n).map((i) => 2 * (3 + i)));
        running.free();
      }
      const running = loaded.createState("running", "f32", 2);
      const small = loaded.bind("step", { n: 2 }, stateOf(running));
      await small.run();
      const captures = fake.count("cuStreamBeginCapture");
      const large = loaded.bind("step", { n: 200_000 }, stateOf(loaded.createState("running", "f32", 200_000)));
      await large.run(); // moves the temporaries
      await small.run();
      expect(fake.count("cuStreamBeginCapture")).toBe(captures + 2);
      expect(fake.mistakes()).toBe("");
    }));

  test("tells the time of every step when asked to, without its graph", () =>
    onFakeMachine({}, async (fake) => {
      const loaded = await (await cuda()).load(smallCudaPlan());
      const running = loaded.createState("running", "f32", 100);
      const bound = loaded.bind("step", { n: 100 }, stateOf(running));
      await bound.run(3, { profile: true });
      expect(fake.count("cuGraphLaunch")).toBe(0);
      // A quarter of a millisecond per launch, three runs; the sum has two phases.
      expect(bound.profile().map(({ kernel, nanoseconds }) => [kernel, nanoseconds / 3e6])).toEqual([
        ["affine_map", 0.25],
        ["sum_rows", 0.5],
        ["accumulate_map", 0.25],
        ["accumulate_map", 0.25],
        ["affine_map", 0.25],
      ]);
      await bound.run();
      expect(fake.count("cuGraphLaunch")).toBe(1);
      expect(bound.profile()[0]?.nanoseconds).toBe(0.75e6);
      expect(fake.mistakes()).toBe("");
    }));

  test("is stopped before the next launch of its graph, and the event loop goes on meanwhile", () =>
    onFakeMachine({ PATIENCE: "10" }, async (fake) => {
      const loaded = await (await cuda()).load(smallCudaPlan());
      const running = loaded.createState("running", "f32", 2);
      const bound = loaded.bind("step", { n: 2 }, stateOf(running));
      for (const how of ["now", "between repetitions"] as const) {
        const run = diagnosticOf(() => bound.run(1_000_000));
        let ticks = 0;
        const timer = setInterval(() => ticks++, 5);
        setTimeout(() => bound.cancel(how), 60);
        expect((await run).parts).toMatchObject({ kind: "cancelled", message: "program step was stopped" });
        clearInterval(timer);
        expect(ticks).toBeGreaterThan(3);
        // Every launch that began came to its end: state is whole.
        const repetitions = fake.ran("sum_rows_0");
        expect(running.read()).toEqual(Float32Array.of(repetitions, 2 * repetitions));
      }
      await bound.run();
      const last = bound.run(); // resolves: there is nothing left to stop
      await new Promise((resolve) => setImmediate(resolve));
      bound.cancel();
      await last;
      expect(fake.mistakes()).toBe("");
    }));

  test("is the same with poisoned memory, and poison shows what was not written", () =>
    onFakeMachine({ SORACC_POISON: "1" }, async (fake) => {
      const device = await cuda();
      const loaded = await device.load(smallCudaPlan());
      const bound = loaded.bind("step", { n: 1000 }, stateOf(loaded.createState("running", "f32", 1000)));
      bound.write("x", ramp(1000));
      await bound.run(2);
      expect(bound.read("total")).toEqual(new Float32Array([1000 * 1000]));
      const idle = (await device.load(alone(named("idle_map")))).bind("go", { n: 3 }, new Map());
      await idle.run();
      expect(idle.read("y")).toEqual(new Float32Array([NaN, NaN, NaN]));
      const careless = (await device.load(alone(named("careless_map")))).bind("go", { n: 3 }, new Map());
      await expect(careless.run()).rejects.toThrow("memory beside buffer y was written, 0 bytes after its end");
      expect(fake.mistakes()).toBe("");
    }));

  test("hands over tensor maps of the driver, with every size settled", () =>
    onFakeMachine({ CAPABILITY: "90" }, async (fake) => {
      const probe = named("probe_map");
      const matrix = { argument: 0, dtype: "bf16", offset: 0, sizes: [64, ["+", "n", 1]], strides: [128], box: [32, 8], swizzle: 64 } as const; // prettier-ignore
      const plan = alone({ ...probe, sizes: ["n"], gpu: { ...probe.gpu!, tensorMaps: [matrix] } }, { arch: "sm_90a" });
      const bound = (await (await cuda()).load(plan)).bind("go", { n: 14 }, new Map());
      await bound.run();
      // The address is the buffer's; then type, rank, sizes, stride, box, element strides, swizzle, promotion.
      expect([...bound.read("y")]).toEqual([1, 9, 2, 64, 15, 128, 32, 8, 1, 1, 2, 2, 0, 0]);
      expect(fake.mistakes()).toBe("");
    }));

  test("asks for more shared memory once per function", () =>
    onFakeMachine({}, async (fake) => {
      const kernel = named("idle_map");
      const gpu = { ...kernel.gpu!, phases: [{ threads: 32, sharedBytes: 100 * 1024 }] };
      const loaded = await (await cuda()).load(alone({ ...kernel, gpu }));
      await loaded.bind("go", { n: 3 }, new Map()).run(3);
      await loaded.bind("go", { n: 4 }, new Map()).run();
      expect(fake.count("cuFuncSetAttribute")).toBe(1);
      expect(fake.mistakes()).toBe("");
      const greedy = { ...kernel, gpu: { ...gpu, phases: [{ threads: 32, sharedBytes: 200 * 1024 }] } };
      const error = await diagnosticOf(async () => (await cuda()).load(alone(greedy)));
      expect(error.parts.message).toBe(
        "kernel idle_map needs 200.0 KiB of shared memory, a block on NVIDIA Fake has 163.0 KiB",
      );
    }));
});

describe("memory of a GPU", () => {
  test("takes and gives values of every width, in pieces where there are many", () =>
    onFakeMachine({}, async (fake) => {
      const loaded = await (await cuda()).load(smallCudaPlan());
      const many = loaded.createState("many", "i32", 7_000_003); // more than three pieces
      expect(many.read(7_000_000)).toEqual(new Int32Array(3)); // zeroed
      const values = new Int32Array(7_000_003).map((_, i) => i);
      many.write(values);
      expect(many.read().every((value, i) => value === i)).toBe(true);
      many.writeBytes(new Uint8Array(12).fill(1), 4_000_000);
      expect(many.read(3_999_999, 5)).toEqual(Int32Array.of(3_999_999, 0x01010101, 0x01010101, 0x01010101, 4_000_003));
      const halves = loaded.createState("halves", "bf16", 3);
      halves.write(Float32Array.of(1, -2, 1 / 3));
      expect(halves.readBytes()).toEqual(Uint8Array.of(0x80, 0x3f, 0x00, 0xc0, 0xab, 0x3e));
      expect(fake.mistakes()).toBe("");
    }));

  test("that is too small for a program is refused, and what is largest is named", () =>
    onFakeMachine({ MEMORY: String(2 ** 20) }, async () => {
      const loaded = await (await cuda()).load(smallCudaPlan());
      const states = stateOf(loaded.createState("running", "f32", 100_000));
      const error = await diagnosticOf(() => loaded.bind("step", { n: 100_000 }, states));
      expect(error.message).toMatch(/^memory: program step needs 1\.\d MiB more, and 633\.\d KiB are available\n {2}390\.6 KiB {2}(x|h|ramp)\n/); // prettier-ignore
      expect(error.parts.fix).toContain("smaller batch");
      // Nothing of it stays behind.
      loaded.bind("step", { n: 100 }, states);
    }));

  test("that is too small for state is told with what holds it", () =>
    onFakeMachine({ MEMORY: String(2 ** 20) }, async () => {
      const loaded = await (await cuda()).load(smallCudaPlan());
      loaded.createState("parameters", "f32", 200_000);
      const error = await diagnosticOf(() => loaded.createState("moment1", "f32", 200_000));
      expect(error.message).toBe(
        [
          "memory: the GPU has no room for 781.3 KiB of moment1",
          "  242.7 KiB  free of 1.0 MiB",
          "  781.3 KiB  parameters",
          "    0.1 KiB  constant 0",
          "  fix: use a smaller batch, fewer or smaller frames, or --set train.recompute=block when compiling; nvidia-smi shows who else uses the GPU",
        ].join("\n"),
      );
    }));
});

describe("what does not serve is said", () => {
  const failureOf = (settings: Readonly<Record<string, string>>, plan?: Plan): Promise<string> =>
    onFakeMachine(settings, async () => {
      const error = await diagnosticOf(async () => {
        const device = await cuda();
        if (plan !== undefined) await device.load(plan);
      });
      return error.message;
    });

  test("no driver", async () => {
    const message = await failureOf({ SORACC_CUDA_DRIVER: "/nonexistent/libcuda.so.1" });
    expect(message).toMatch(/^gpu: SORACC_CUDA_DRIVER names "\/nonexistent\/libcuda.so.1", which cannot be used\n/);
  });

  test("no NVRTC", async () => {
    const message = await failureOf({ SORACC_NVRTC: "/nonexistent/libnvrtc.so" });
    expect(message).toMatch(/^gpu: SORACC_NVRTC names /);
  });

  test.each<[string, Readonly<Record<string, string>>, RegExp]>([
    ["no GPU", { GPUS: "0" }, /^gpu: the NVIDIA driver finds no GPU\n[^]*\n {2}fix: check nvidia-smi/],
    ["an old driver", { VERSION: "11080" }, /^gpu: the NVIDIA driver is too old: it knows CUDA 11\.8, kernels need 12\.0\n[^]*fix: update/], // prettier-ignore
    [
      "a new NVRTC",
      { FAKE_NVRTC_VERSION: "13" },
      /^gpu: the NVIDIA driver knows CUDA 12\.8, and NVRTC 13\.99 is newer\n/,
    ],
    [
      "an old GPU",
      { CAPABILITY: "75" },
      /^gpu: NVIDIA Fake has compute capability 7\.5, and kernels are compiled for 8\.x, 9\.0 and 10\.x\n/,
    ],
    [
      "a GPU after Hopper of its major version",
      { CAPABILITY: "91" },
      /^gpu: NVIDIA Fake has compute capability 9\.1, /,
    ],
  ])("%s", async (_, settings, expected) => {
    expect(await failureOf(settings)).toMatch(expected);
  });

  test("a plan for another GPU; one for sm_80 runs on all of them", async () => {
    const hopper = { ...smallCudaPlan(), arch: "sm_90a" } as const;
    expect(await failureOf({ CAPABILITY: "86" }, hopper)).toBe(
      "gpu: this plan is for sm_90a, and NVIDIA Fake has compute capability 8.6\n" +
        "  fix: compile the model with --arch sm_80",
    );
    expect(await failureOf({ CAPABILITY: "100" }, hopper)).toMatch(/fix: compile the model with --arch sm_100, or with --arch sm_80 for all GPUs$/); // prettier-ignore
    for (const capability of ["80", "86", "89", "90", "100", "103"]) {
      await onFakeMachine({ CAPABILITY: capability }, async () => {
        await (await cuda()).load(smallCudaPlan());
      });
    }
    expect(await failureOf({}, smallPlan())).toMatch(
      /^device: this plan is for cpu, and the device cuda runs plans for/,
    );
  });

  test("a kernel that NVRTC rejects, with its place in the model", async () => {
    const broken = cudaKernel("broken_map", "y = x / 0", ["float* y", "int64_t n"], "  y[0] = undeclared_name;");
    const message = await failureOf({}, alone({ ...broken, from: "block.0, models/small.sora.ts:7:3" }));
    expect(message).toMatch(/^compiler: NVRTC 12\.99 rejects kernel broken_map for sm_80\n/);
    expect(message).toContain("it comes from: block.0, models/small.sora.ts:7:3");
  });

  test("a kernel that is missing from its source", async () => {
    const kernel = { ...affineCuda, phases: ["affine_map_9"] };
    await onFakeMachine({}, async () => {
      await expect((await cuda()).load(cudaPlan([kernel], {}))).rejects.toThrow(/no __global__ function affine_map_9/);
    });
  });

  test("a kernel that fails, with its name where steps are waited for", async () => {
    const plan = smallCudaPlan();
    const failing = async (settings: Readonly<Record<string, string>>): Promise<string> =>
      onFakeMachine({ FAULT: "sum_rows_1", ...settings }, async (fake) => {
        const device = await cuda();
        const loaded = await device.load(plan);
        const bound = loaded.bind("step", { n: 100 }, stateOf(loaded.createState("running", "f32", 100)));
        const error = await diagnosticOf(() => bound.run());
        expect((await diagnosticOf(() => bound.run())).parts.kind).toBe("gpu"); // for ever
        await device.close(); // gives back what it can, and does not throw
        expect(fake.mistakes()).toBe("");
        return error.message;
      });
    const brief = await failing({});
    expect(brief).toMatch(
      /^gpu: a kernel touched memory that is not there\n {2}CUDA_ERROR_ILLEGAL_ADDRESS when kernels run\n/,
    );
    expect(brief).toContain("SORACC_STEPWISE=1 names the kernel");
    expect(brief).not.toContain("sum_rows");
    const named = await failing({ SORACC_STEPWISE: "1" });
    // What we have no words for is called what the driver calls it, or by its number.
    expect(await failing({ RESULT: "721" })).toMatch(
      /^gpu: the CUDA driver fails when kernels run\n {2}CUDA_ERROR_CLUSTER_OUT_OF_RESOURCES when kernels run\n/,
    );
    expect(await failing({ RESULT: "5000" })).toContain("\n  CUDA error 5000 when kernels run\n");
    expect(named).toContain("\n  kernel  sum_rows\n  it computes: y = sum over i of x[i]\n  it comes from: test\n");
  });
});
