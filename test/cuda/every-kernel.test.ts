/**
 * The kernels of the models through NVRTC, for every architecture; no GPU is needed. A kernel that runs with every step
 * keeps its values in registers. What changes between presets of one width is the patch, between widths the numbers in
 * a kernel: representatives do for a run of all tests. SORACC_EVERY_KERNEL=1 takes every preset and every conditioning.
 */
import { describe, expect, test } from "vitest";
import type { Program } from "../../compiler/graph/node.ts";
import { traceModel } from "../../compiler/language/trace-model.ts";
import { loadModel } from "../../compiler/load-model.ts";
import { compilePlan } from "../../compiler/pipeline.ts";
import { ARCHS, type Arch, type PlanKernel } from "../../contract/plan.ts";
import type { Precision } from "../../contract/precision.ts";
import type { LogReport } from "../../runtime/devices/cuda/nvrtc-log.ts";
import { build, describeWithNvrtc, temporaryFolder } from "./with-nvrtc.ts";

interface Choice {
  readonly preset: string;
  readonly conditioning: string;
  readonly precision: Precision;
}

const CONDITIONINGS = ["adaln", "cross-attn", "token-concat", "self-cross"];
const MINUTES = 60_000;

const definition = await loadModel("models/dit.sora.ts");
const PRESETS = Object.keys(definition.presets);

const choices = (presets: readonly string[], conditionings: readonly string[], precision: Precision = "bf16") =>
  presets.flatMap((preset) => conditionings.map((conditioning): Choice => ({ preset, conditioning, precision })));

const LARGEST = choices(["XL/2"], CONDITIONINGS);
const OTHER_PRECISIONS = [...choices(["S/2"], ["self-cross"], "f32"), ...choices(["S/2"], ["self-cross"], "f16")];

const REPRESENTATIVES: Readonly<Record<Arch, readonly Choice[]>> = {
  sm_80: [...LARGEST, ...OTHER_PRECISIONS],
  sm_90a: [...LARGEST, ...choices(["S/2"], ["adaln", "self-cross"]), ...choices(["demo"], ["adaln"])],
  sm_100: LARGEST, // the sources of sm_80
};

const chosenFor: (arch: Arch) => readonly Choice[] =
  process.env["SORACC_EVERY_KERNEL"] === "1"
    ? () => [...choices(PRESETS, CONDITIONINGS), ...OTHER_PRECISIONS]
    : (arch) => REPRESENTATIVES[arch];

const describeChoices = (all: readonly Choice[]): string => {
  const names = (of: Precision): string => {
    const own = all.filter(({ precision }) => precision === of);
    return own.length === 0 ? "" : `${[...new Set(own.map(({ preset }) => preset))].join(" ")} in ${of}`;
  };
  return (["bf16", "f32", "f16"] as const)
    .map(names)
    .filter((text) => text !== "")
    .join(", ");
};

const traced = new Map<string, readonly Program[]>();

function programsOf({ preset, conditioning }: Choice): readonly Program[] {
  const key = `${preset} ${conditioning}`;
  const model = (): readonly Program[] =>
    [...traceModel(definition, { preset, set: [`conditioning=${conditioning}`] }).programs.values()].map((trace) => trace()); // prettier-ignore
  const programs = traced.get(key) ?? model();
  traced.set(key, programs);
  return programs;
}

/** Bytes of local memory that a thread may take. In float32 the sums of an attention's gradient fill the registers. */
const SPARE: Readonly<Record<Precision, number>> = { bf16: 0, f16: 0, f32: 64 };

interface Found {
  readonly kernel: PlanKernel;
  /** Where it was met first. */
  readonly from: Choice;
  /** Whether a step launches it that is not for the first run alone. */
  hot: boolean;
}

/** Distinct kernels of all that was chosen. */
function kernelsOf(all: readonly Choice[], arch: Arch): readonly Found[] {
  const found = new Map<string, Found>();
  for (const choice of all) {
    const { preset, precision } = choice;
    const { plan } = compilePlan({
      model: { name: "dit", config: {}, preset, recipe: {} },
      ...{ parameters: [], programs: programsOf(choice), precision, target: { name: "cuda", arch } },
    });
    for (const kernel of plan.kernels) {
      if (!found.has(kernel.symbol)) found.set(kernel.symbol, { kernel, from: choice, hot: false });
    }
    for (const { steps } of Object.values(plan.programs)) {
      for (const { kernel, once } of steps) if (!once) found.get(plan.kernels[kernel]!.symbol)!.hot = true;
    }
  }
  return [...found.values()];
}

function faultsOf({ kernel, from, hot }: Found, { entries, warnings }: LogReport): readonly string[] {
  const missing = kernel.phases.filter((phase) => !entries.some(({ symbol }) => symbol === phase));
  const local = entries.filter(({ stackBytes }) => hot && stackBytes > SPARE[from.precision]);
  const place = `${from.preset} ${from.conditioning} ${from.precision}`;
  return [
    ...missing.map((phase) => `${phase} has no report`),
    ...local.map(
      ({ symbol, registers, stackBytes, spillStoreBytes }) =>
        `${symbol}: ${registers} registers, ${stackBytes} bytes of stack, ${spillStoreBytes} of them spilled (${place})`,
    ),
    ...warnings.filter(({ about }) => about !== "other").map(({ text }) => `${kernel.symbol}: ${text} (${place})`),
  ];
}

describeWithNvrtc("NVRTC compiles the kernels of the model, and what runs with every step stays in registers", () => {
  const cache = { path: temporaryFolder() };
  const cases = ARCHS.map((arch) => ({ arch, what: describeChoices(chosenFor(arch)) }));
  test.each(cases)("$arch: $what", { timeout: 60 * MINUTES }, async ({ arch }) => {
    const found = kernelsOf(chosenFor(arch), arch);
    const { reports } = await build(
      arch,
      found.map(({ kernel }) => kernel),
      { cache },
    );
    expect(found.flatMap((each, i) => faultsOf(each, reports[i]!))).toEqual([]);
    expect(found.length).toBeGreaterThan(200);
  });
});

describe("the choice of kernels", () => {
  test("has every conditioning of the model", () => {
    expect(definition.settings["conditioning"]!.expected).toBe(`one of ${CONDITIONINGS.join(", ")}`);
  });
});
