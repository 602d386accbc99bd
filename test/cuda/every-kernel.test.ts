/**
 * Kernels through NVRTC: every width with patches of 2 and every conditioning for sm_90a, the smallest and the largest
 * width and every conditioning for the others. No GPU is needed; without NVRTC all of it is skipped (`soracc toolchain install`).
 */
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { ARCHS, type Arch, type PlanKernel } from "../../contract/plan.ts";
import type { Precision } from "../../contract/precision.ts";
import { cudaSources } from "../../compiler/emit/cuda-sources.ts";
import { traceModel } from "../../compiler/language/trace-model.ts";
import { loadModel } from "../../compiler/load-model.ts";
import { compilePlan } from "../../compiler/pipeline.ts";
import { buildCubins } from "../../runtime/devices/cuda/cubins.ts";
import { openNvrtc } from "../../runtime/devices/cuda/nvrtc.ts";

const nvrtc = await openNvrtc().catch((error: unknown) => (error instanceof Error ? error.message : String(error)));
const lacking = typeof nvrtc === "string" ? (nvrtc.split("\n")[0] ?? "") : undefined;

const folder = mkdtempSync(join(tmpdir(), "soracc-cubins-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const definition = await loadModel("models/dit.sora.ts");
const PRESETS = ["S/2", "B/2", "L/2", "XL/2", "demo"];
const CONDITIONINGS = ["adaln", "cross-attn", "token-concat", "self-cross"];

/** What differs between presets of one width is the patch: an embedding and a final layer. */
const MODELS: readonly (readonly [preset: string, conditioning: string, precision: Precision])[] = [
  ...PRESETS.map((preset) => [preset, "adaln", "bf16"] as const),
  ...CONDITIONINGS.slice(1).map((conditioning) => ["S/2", conditioning, "bf16"] as const),
  ["S/2", "cross-attn", "f32"],
  ["S/2", "cross-attn", "f16"],
];

const REPRESENTATIVE = new Set(["S/2", "XL/2", "demo"]);

const modelsFor = (arch: Arch): typeof MODELS =>
  arch === "sm_90a" ? MODELS : MODELS.filter(([preset]) => REPRESENTATIVE.has(preset));

/** The distinct kernels of all models, and which of them run with every step. */
function kernelsFor(arch: Arch): { readonly kernels: readonly PlanKernel[]; readonly hot: ReadonlySet<string> } {
  const found = new Map<string, PlanKernel>();
  const hot = new Set<string>();
  for (const [preset, conditioning, precision] of modelsFor(arch)) {
    const model = traceModel(definition, { preset, set: [`conditioning=${conditioning}`] });
    const { plan } = compilePlan({
      model: { name: model.name, config: model.config, preset, recipe: {} },
      ...{ parameters: [], precision, target: { name: "cuda", arch } },
      programs: [...model.programs.values()].map((trace) => trace()),
    });
    for (const kernel of plan.kernels) found.set(kernel.symbol, kernel);
    for (const { steps } of Object.values(plan.programs)) {
      for (const step of steps) if (!step.once) hot.add(plan.kernels[step.kernel]!.symbol);
    }
  }
  return { kernels: [...found.values()], hot };
}

describe.skipIf(lacking !== undefined)(`NVRTC${lacking === undefined ? "" : ` (skipped: ${lacking})`}`, () => {
  test.each(ARCHS)("compiles the kernels for %s, and no hot one spills", { timeout: 1_200_000 }, async (arch) => {
    if (typeof nvrtc === "string") return;
    const { kernels, hot } = kernelsFor(arch);
    const { reports } = await buildCubins({
      ...{ cache: { path: folder }, nvrtc, arch, kernels, headers: cudaSources().prelude },
      jobs: Math.min(2, availableParallelism()),
    });
    const faults = kernels.flatMap(({ symbol, phases }, i) => {
      const { entries, warnings } = reports[i]!;
      const missing = phases.filter((phase) => !entries.some((entry) => entry.symbol === phase));
      const local = hot.has(symbol)
        ? entries.filter((one) => one.stackBytes + one.spillStoreBytes + one.spillLoadBytes > 0)
        : [];
      const slowed = warnings.filter(({ about }) => about !== "other");
      return [
        ...missing.map((phase) => `${phase} is not there`),
        ...local.map((one) => `${one.symbol} uses ${one.stackBytes} bytes of local memory`),
        ...slowed.map(({ text }) => `${symbol}: ${text}`),
      ];
    });
    expect(faults).toEqual([]);
    expect(kernels.length).toBeGreaterThan(300);
  });
});
