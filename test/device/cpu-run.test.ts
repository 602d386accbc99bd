import { describe, expect, test } from "vitest";
import { CompilerBug } from "../../contract/diagnostic.ts";
import { roundToBf16, roundToF16 } from "../../contract/dtype.ts";
import type { DeviceBuffer, LoadedPlan } from "../../runtime/devices/device.ts";
import { affine, kernel, plan, port, program, smallPlan, step, waitingPlan } from "./small-plans.ts";
import { cpu, diagnosticOf, withEnvironment } from "./with-device.ts";

const ramp = (n: number): Float32Array<ArrayBuffer> => Float32Array.from({ length: n }, (_, i) => i);
const stateOf = (...buffers: DeviceBuffer[]): ReadonlyMap<string, DeviceBuffer> =>
  new Map(buffers.map((one) => [one.name, one]));

describe("a bound program", () => {
  test("runs steps, phases, once steps and state in place", async () => {
    const loaded = await (await cpu()).load(smallPlan());
    const running = loaded.createState("running", "f32", 1000);
    running.write(ramp(1000));
    const bound = loaded.bind("step", { n: 1000 }, stateOf(running));
    bound.write("x", ramp(1000));
    await bound.run();
    expect(bound.read("total")).toEqual(new Float32Array([1000 * 1000])); // sum of 2i + 1
    expect(bound.read("first")).toEqual(new Float32Array([3 + 1000])); // the constant's third element + n
    expect(running.read(0, 4)).toEqual(new Float32Array([1, 5, 9, 13])); // i + (2i + 1) + i
    await bound.run(3);
    expect(running.read(998)).toEqual(new Float32Array([4, 4].map((one, i) => (998 + i) * 13 + one)));
    expect(bound.shape("x")).toEqual([1000]);
    expect(bound.memory).toMatchObject({ temporaries: 4096, inputs: 4000, outputs: 8, state: 4000, resident: 4000 });
    expect(bound.profile().map(({ kernel }) => kernel)).toEqual([
      "affine_map",
      "sum_rows",
      "accumulate_map",
      "accumulate_map",
      "affine_map",
    ]);
    expect(bound.profile().map(({ step }) => step)).toEqual([1, 2, 3, 4, 5]);
    expect(bound.profile().every(({ nanoseconds }) => nanoseconds > 0)).toBe(true);
  });

  test("gives the same answer for every size, with temporaries that move", async () => {
    const loaded = await (await cpu()).load(smallPlan());
    for (const n of [2, 64, 4000, 66, 100_000, 2, 0]) {
      const running = loaded.createState("running", "f32", n);
      const bound = loaded.bind("step", { n }, stateOf(running));
      bound.write("x", ramp(n).fill(1));
      await bound.run(2);
      expect(bound.read("total")).toEqual(new Float32Array([3 * n]));
      expect(running.read()).toEqual(ramp(n).map((i) => 2 * (3 + i)));
      running.free();
    }
  });

  test("is the same with poisoned memory, and poison shows what was not written", async () => {
    await withEnvironment({ SORACC_POISON: "1" }, async () => {
      const loaded = await (await cpu()).load(smallPlan());
      const running = loaded.createState("running", "f32", 1000);
      const bound = loaded.bind("step", { n: 1000 }, stateOf(running));
      bound.write("x", ramp(1000));
      await bound.run(2);
      expect(bound.read("total")).toEqual(new Float32Array([1000 * 1000]));

      const lazy = plan([affine], {
        none: program({
          outputs: [port("y", "f32", ["n"], 0)],
          buffers: [{ name: "y", kind: "output", bytes: ["*", 4, "n"] }],
        }),
      });
      const untouched = (await (await cpu()).load(lazy)).bind("none", { n: 3 }, new Map());
      await untouched.run();
      expect(untouched.read("y")).toEqual(new Float32Array([NaN, NaN, NaN]));
    });
  });

  test("finds writes beside a buffer when memory is poisoned", async () => {
    const careless = kernel("careless_map", "writes too far", "((float*)launch->buffers[0])[launch->sizes[0]] = 1; (void)task;"); // prettier-ignore
    const wrong = plan([careless], {
      go: program({
        outputs: [port("y", "f32", ["n"], 0)],
        buffers: [{ name: "y", kind: "output", bytes: ["*", 4, "n"] }],
        steps: [step(0, [0])],
      }),
    });
    await withEnvironment({ SORACC_POISON: "1" }, async () => {
      const bound = (await (await cpu()).load(wrong)).bind("go", { n: 5 }, new Map());
      await expect(bound.run()).rejects.toThrow(CompilerBug);
      await expect(bound.run()).rejects.toThrow(/memory beside buffer y was written, 0 bytes after its end/);
    });
  });

  test("gives the same bits with one, two and five threads", async () => {
    const answers = [];
    for (const threads of [1, 2, 5]) {
      const loaded = await (await cpu({ threads })).load(smallPlan());
      const running = loaded.createState("running", "f32", 50_000);
      const bound = loaded.bind("step", { n: 50_000 }, stateOf(running));
      bound.write("x", ramp(50_000).map((i) => Math.fround(1 / (i + 1)))); // prettier-ignore
      await bound.run(20);
      answers.push([bound.read("total"), running.read()]);
    }
    expect(answers[1]).toEqual(answers[0]);
    expect(answers[2]).toEqual(answers[0]);
  });

  test("runs one after the other when runs are asked for together", async () => {
    const loaded = await (await cpu()).load(waitingPlan(1, 5));
    const count = loaded.createState("count", "f32", 1);
    const bound = loaded.bind("wait", {}, stateOf(count));
    await Promise.all([bound.run(), bound.run(2), bound.run()]);
    expect(count.read()).toEqual(new Float32Array([4]));
  });
});

describe("while a plan runs", () => {
  async function waiting(milliseconds: number, threads: number): Promise<[LoadedPlan, DeviceBuffer]> {
    const loaded = await (await cpu({ threads })).load(waitingPlan(4, milliseconds));
    return [loaded, loaded.createState("count", "f32", 1)];
  }

  test("timers go on", async () => {
    const [loaded, count] = await waiting(100, 2);
    const bound = loaded.bind("wait", {}, stateOf(count));
    let ticks = 0;
    const timer = setInterval(() => ticks++, 10);
    await bound.run();
    clearInterval(timer);
    expect(ticks).toBeGreaterThanOrEqual(8);
  });

  test("its buffers cannot be touched", async () => {
    const [loaded, count] = await waiting(30, 2);
    const bound = loaded.bind("wait", {}, stateOf(count));
    const run = bound.run();
    expect(() => count.read()).toThrow("state count is in use by a run: await the run first");
    expect(() => count.free()).toThrow("in use");
    await run;
    expect(count.read()).toEqual(new Float32Array([1]));
  });

  test("it can be stopped at once", async () => {
    const [loaded, count] = await waiting(20, 2);
    const bound = loaded.bind("wait", {}, stateOf(count));
    const started = performance.now();
    const run = diagnosticOf(() => bound.run(1000));
    setTimeout(() => bound.cancel(), 50);
    expect((await run).parts.kind).toBe("cancelled");
    expect(performance.now() - started).toBeLessThan(2000);
    await bound.run(1); // and can run again
  });

  test("it can be stopped between repetitions, which leaves state whole", async () => {
    const [loaded, count] = await waiting(10, 1);
    const bound = loaded.bind("wait", {}, stateOf(count));
    const run = diagnosticOf(() => bound.run(1000));
    setTimeout(() => bound.cancel("between repetitions"), 50);
    await run;
    const done = count.read()[0]!;
    expect(done).toBeGreaterThanOrEqual(1);
    expect(done).toBeLessThan(1000);
    expect(Number.isInteger(done)).toBe(true);
  });

  test("a run that waits for its turn is stopped as well", async () => {
    const [loaded, count] = await waiting(20, 2);
    const bound = loaded.bind("wait", {}, stateOf(count));
    const runs = [bound.run(1000), bound.run(1000)].map((run) => diagnosticOf(() => run));
    bound.cancel();
    expect((await Promise.all(runs)).map(({ parts }) => parts.kind)).toEqual(["cancelled", "cancelled"]);
  });

  test("closing the device ends it", async () => {
    const device = await cpu();
    const loaded = await device.load(waitingPlan(4, 20));
    const bound = loaded.bind("wait", {}, stateOf(loaded.createState("count", "f32", 1)));
    const run = diagnosticOf(() => bound.run(1000));
    await device.close();
    expect((await run).parts.kind).toBe("cancelled");
  });
});

describe("state", () => {
  test("16-bit floats are rounded to nearest even, like everywhere", async () => {
    const loaded = await (await cpu()).load(smallPlan());
    const bits = new Uint32Array(20_000).map((_, i) => Math.imul(i + 1, 2654435761));
    const values = new Float32Array(bits.buffer);
    values.set([NaN, Infinity, -Infinity, 0, -0, 65504, 65520, 65519.99, 2 ** -24, 2 ** -25, 1.5 * 2 ** -25, 3e38, 3.4e38, 6.1e-5]); // prettier-ignore
    for (const [dtype, round] of [
      ["bf16", roundToBf16],
      ["f16", roundToF16],
    ] as const) {
      // prettier-ignore
      const state = loaded.createState(dtype, dtype, values.length);
      state.write(values);
      const read = state.read();
      values.forEach((value, i) => {
        if (!Object.is(read[i], round(value))) expect([value, read[i]]).toEqual([value, round(value)]);
      });
      state.free();
    }
  });

  test("parts can be written and read, as values and as bytes", async () => {
    const loaded = await (await cpu()).load(smallPlan());
    const state = loaded.createState("counts", "i32", 10);
    state.write(new Int32Array([1, -2, 3]), 4);
    expect(state.read()).toEqual(new Int32Array([0, 0, 0, 0, 1, -2, 3, 0, 0, 0]));
    expect(state.read(5, 2)).toEqual(new Int32Array([-2, 3]));
    state.writeBytes(Buffer.from(state.readBytes(4, 3)), 0);
    expect(state.read(0, 3)).toEqual(new Int32Array([1, -2, 3]));
    expect(() => state.write(new Int32Array(3), 8)).toThrow("asked for 8 to 11");
    expect(() => state.write(new Float32Array(3))).toThrow("state counts is i32: expected a Int32Array");
    expect(() => state.read(-1)).toThrow(RangeError);
    state.free();
    expect(() => state.read()).toThrow("state counts was freed");
  });
});

describe("binding", () => {
  test("is cached by sizes and state, and drops the oldest to make room", async () => {
    const loaded = await (await cpu({ boundBytes: 20_000 })).load(smallPlan());
    const state = stateOf(loaded.createState("running", "f32", 1000));
    const first = loaded.bind("step", { n: 1000 }, state);
    expect(loaded.bind("step", { n: 1000 }, state)).toBe(first);
    expect(loaded.bind("step", { n: 1000 }, stateOf(loaded.createState("running", "f32", 1000)))).not.toBe(first);
    for (const n of [998, 996, 994]) loaded.bind("step", { n }, state);
    await expect(first.run()).rejects.toThrow("was dropped to make room: bind it again");
    expect(loaded.bind("step", { n: 1000 }, state)).not.toBe(first);
  });

  test("says what does not fit", async () => {
    const loaded = await (await cpu()).load(smallPlan());
    const small = loaded.createState("running", "f32", 10);
    const of = (work: () => unknown): Promise<string> => diagnosticOf(work).then((error) => error.message);
    expect(await of(() => loaded.bind("step", { n: 7 }, stateOf(small)))).toMatch(/^shape: n has to be even\n {2}mod\(n, 2\) = 1/); // prettier-ignore
    expect(await of(() => loaded.bind("step", { n: 10 }, new Map()))).toMatch(/^state: program step needs state running, which was not given/); // prettier-ignore
    expect(await of(() => loaded.bind("step", { n: 12 }, stateOf(small)))).toMatch(/does not fit program step\n {2}needed {2}f32, 48 bytes/); // prettier-ignore
    expect(await of(() => loaded.bind("stop", { n: 12 }, stateOf(small)))).toMatch(/no program called stop/);
    expect(await of(() => loaded.bind("step", { n: 10 ** 13 }, stateOf(small)))).toMatch(/^(memory|state): /);
    const bound = loaded.bind("step", { n: 10 }, stateOf(small));
    expect(await of(() => bound.read("totl"))).toMatch(/no output called totl\n.*\n {2}fix: write total/);
    expect(() => bound.write("x", ramp(9))).toThrow("input x [10] has 10 elements, got 9");
    expect(() => bound.write("x", new Int32Array(10))).toThrow("input x [10] is f32: expected a Float32Array");
  });

  test("refuses what memory cannot hold, and names what is largest", async () => {
    const loaded = await (await cpu()).load(plan([affine], {
      go: program({
        inputs: [port("video", "f32", ["n"], 0)],
        buffers: [{ name: "video", kind: "input", bytes: ["*", 4, "n"] }],
      }),
    })); // prettier-ignore
    const error = await diagnosticOf(() => loaded.bind("go", { n: 10 ** 13 }, new Map()));
    expect(error.message).toMatch(/^memory: program go needs 37252.9 GiB more, and .* are available\n.* video/);
  });
});
