import { describe, expect, test } from "vitest";
import { parsePlan, printPlan } from "../../contract/plan-schema.ts";
import type { GpuLaunch, Plan, PlanProgram, PlanStep } from "../../contract/plan.ts";
import { affine, plan, program, smallPlan, step } from "./small-plans.ts";
import { diagnosticOf } from "./with-device.ts";

const small = smallPlan();
const only = small.programs["step"]!;
const changed = (change: Partial<PlanProgram>, rest: Partial<Plan> = {}): string =>
  printPlan({ ...small, programs: { step: { ...only, ...change } }, ...rest });

const withStep = (index: number, one: PlanStep): string => changed({ steps: only.steps.with(index, one) });
const replaced = (from: string, to: string): string => printPlan(small).replace(from, to);

/** A damaged text and what has to be said about it. */
const DAMAGES: Readonly<Record<string, readonly [text: string, detail: RegExp]>> = {
  "a cut text": [printPlan(small).slice(0, 500), /JSON/],
  "no plan at all": ["[1, 2]", /./],
  "a field of the wrong type": [replaced('"precision":"f32"', '"precision":"f64"'), /precision/],
  "a field too many": [replaced('"precision":', '"speed":1,"precision":'), /speed/],
  "a size that is none": [
    changed({ guards: [{ left: ["plus", 1] as never, right: 1, message: "" }] }),
    /guards.0.left/,
  ],
  "a kernel out of range": [withStep(3, step(9, [5])), /there is no kernel 9/],
  "a buffer out of range": [withStep(3, step(3, [50])), /there is no buffer 50/],
  "a phase without tasks": [withStep(2, step(1, [3, 1])), /has 2 phases, 1 task counts/],
  "a use of a dead buffer": [withStep(5, step(3, [3])), /buffer h is dead here: it lives from 1 to 3/],
  "an unknown symbol": [changed({ symbols: [] }), /the size "n" is not among its symbols/],
  "a once step on an input": [withStep(0, step(3, [0], { once: true })), /touches input x/],
  "a missing constant": [changed({}, { constants: [] }), /there is no constant 0/],
  "a life that ends early": [
    changed({ buffers: only.buffers.map((one) => (one.name === "h" ? { ...one, last: 0 } : one)) }),
    /its life, steps 1 to 0, is none/,
  ],
  "an output that dies": [changed({ outputs: [{ ...only.outputs[0]!, buffer: 3 }] }), /a temporary is dead/],
  "two phases of one name": [
    printPlan({ ...small, kernels: [...small.kernels, affine] }),
    /both have a phase called affine_map_0/,
  ],
};

/** A plan for a GPU with one kernel of one phase, and what is wrong with it. */
const launch: GpuLaunch = {
  phases: [{ threads: 128, sharedBytes: 1024 }],
  tensorMaps: [
    {
      ...{ argument: 1, dtype: "bf16", offset: ["*", 8, "n"], box: [64, 128], swizzle: 128 },
      ...{ sizes: [1152, "n"], strides: [2304] },
    },
  ],
};
const gpuPlan = (gpu: GpuLaunch = launch, rest: Partial<Plan> = {}): Plan =>
  plan([{ ...affine, sizes: ["n"], gpu }], {}, { target: "cuda", arch: "sm_90a", ...rest });
const [matrix] = launch.tensorMaps;

const GPU_DAMAGES: Readonly<Record<string, readonly [wrong: Plan, detail: RegExp]>> = {
  "no architecture": [plan([{ ...affine, gpu: launch }], {}, { target: "cuda" }), /target cuda has no such archit/],
  "an architecture for the CPU": [plan([affine], {}, { arch: "sm_80" }), /target cpu has no such architecture/],
  "an architecture nobody knows": [gpuPlan(launch, { arch: "sm_70" as never }), /arch: /],
  "a kernel without its launch": [
    plan([affine], {}, { target: "cuda", arch: "sm_80" }),
    /affine_map: the target is cuda/,
  ],
  "a launch on the CPU": [plan([{ ...affine, gpu: launch }], {}), /kernel affine_map: the target is cpu/],
  "a phase too many": [gpuPlan({ ...launch, phases: [...launch.phases, ...launch.phases] }), /1 phases and 2 launches/],
  "a block of no threads": [gpuPlan({ ...launch, phases: [{ threads: -1, sharedBytes: 0 }] }), /threads/],
  "a box of another rank": [
    gpuPlan({ ...launch, tensorMaps: [{ ...matrix!, box: [64] }] }),
    /tensor map 0 has sizes, strides and a box of different ranks/,
  ],
  "a stride missing": [gpuPlan({ ...launch, tensorMaps: [{ ...matrix!, strides: [] }] }), /tensor map 0 has sizes, st/],
  "a swizzle nobody knows": [gpuPlan({ ...launch, tensorMaps: [{ ...matrix!, swizzle: 16 as never }] }), /swizzle/],
  "a matrix at an argument that a step lacks": [
    gpuPlan(launch, {
      programs: {
        step: program({
          buffers: [{ name: "y", kind: "output", bytes: 4 }],
          steps: [step(0, [0])],
        }),
      },
    }),
    /step 0 \(test\): kernel affine_map copies from argument 1, and 1 are given/,
  ],
  "a size missing": [
    gpuPlan(launch, {
      programs: {
        step: program({
          symbols: [],
          buffers: [{ name: "y", kind: "output", bytes: 4 }],
          steps: [step(0, [0, 0], { sizes: [], tasks: [1] })],
        }),
      },
    }),
    /step 0 \(test\): kernel affine_map has 1 sizes, 0 are given/,
  ],
  "a matrix of unknown size": [
    gpuPlan(
      { ...launch, tensorMaps: [{ ...matrix!, sizes: [1152, "m"] }] },
      {
        programs: {
          step: program({
            buffers: [{ name: "y", kind: "output", bytes: 4 }],
            steps: [step(0, [0, 0])],
          }),
        },
      },
    ),
    /kernel affine_map: the size "m" is not among its own/,
  ],
};

describe("the text of a plan for a GPU", () => {
  test("what is printed parses to the same plan", () => {
    expect(parsePlan(printPlan(gpuPlan()))).toEqual(gpuPlan());
  });

  test.each(Object.entries(GPU_DAMAGES))("damage is found: %s", async (_, [wrong, detail]) => {
    const error = await diagnosticOf(() => parsePlan(printPlan(wrong)));
    expect(error.parts.message).toBe("the plan is damaged");
    expect(error.parts.details?.join("\n")).toMatch(detail);
  });
});

describe("the text of a plan", () => {
  test("what is printed parses to the same plan", () => {
    expect(parsePlan(printPlan(small))).toEqual(small);
    const named = {
      ...small,
      model: { ...small.model, preset: "S/8", config: { hidden: 384, deep: { list: [1, null] } } },
    };
    expect(parsePlan(printPlan(named))).toEqual(named);
  });

  test("scalars that JSON cannot write survive", () => {
    const values = [NaN, Infinity, -Infinity, -0, 0.1, 1e300, 2 ** -149];
    const scalars = values.map((value) => ({ type: "f64" as const, value }));
    const back = parsePlan(changed({ steps: [{ ...only.steps[0]!, scalars }, ...only.steps.slice(1)] }));
    const read = back.programs["step"]!.steps[0]!.scalars.map(({ value }) => value);
    values.forEach((value, index) => expect(Object.is(read[index], value)).toBe(true));
  });

  test("one line per step, so that plans can be compared with diff", () => {
    const lines = printPlan(small).split("\n");
    expect(lines.filter((line) => line.startsWith('{"kernel":'))).toHaveLength(only.steps.length);
  });

  test("another version is named, with what to do", async () => {
    const error = await diagnosticOf(() => parsePlan(printPlan(small).replace('"version":3', '"version":4')));
    expect(error.message).toBe(
      "plan: the plan has version 4, this runtime reads version 3\n" +
        "  fix: compile the model again with the soracc that runs it",
    );
  });

  test.each(Object.entries(DAMAGES))("damage is found: %s", async (_, [text, detail]) => {
    const error = await diagnosticOf(() => parsePlan(text));
    expect(error.parts.kind).toBe("plan");
    expect(error.parts.message).toBe("the plan is damaged");
    expect(error.parts.details?.join("\n")).toMatch(detail);
  });

  test("5,000 steps parse in a fraction of a second", () => {
    const rows = ["*", "n", ["+", "n", 16]] as const;
    const steps = Array.from({ length: 5000 }, (_, index) => ({
      ...step(0, [index], { sizes: ["n", "n", "n", "n"], tasks: [["floorDiv", rows, 64]], scratch: rows }),
      origin: `models/dit.sora.ts:41:18  block.${index}.attend.qkv`.padEnd(300, "."),
    }));
    const buffers = steps.map((_, first) => ({
      name: `b${first}`,
      kind: "temporary" as const,
      bytes: rows,
      first,
      last: first,
    }));
    const text = printPlan(plan([affine], { train: program({ buffers, steps }) }));
    expect(text.length).toBeGreaterThan(2.5e6);
    parsePlan(text);
    const started = performance.now();
    expect(parsePlan(text).programs["train"]!.steps).toHaveLength(5000);
    expect(performance.now() - started).toBeLessThan(1000); // about 100 ms on an idle machine
  });
});
