/** `soracc compile M.sora.ts`: a model becomes a training binary. */
import { join, resolve } from "node:path";
import type { Command } from "commander";
import { formatBytes } from "../../contract/atomic-file.ts";
import { CompilerBug } from "../../contract/diagnostic.ts";
import type { Plan, PlanKernel } from "../../contract/plan.ts";
import { addBuildOptions, build, modelPath, type BuildOptions } from "./compile/build.ts";
import { estimate, type Estimate } from "./compile/estimate.ts";
import { describeGpu, type Begun, type GpuReport } from "./compile/gpu-report.ts";
import { keptPlan, type Draft } from "./compile/plan-cache.ts";

interface CompileOptions extends BuildOptions {
  readonly output?: string;
  readonly trace?: string;
  readonly force?: true;
  readonly json?: true;
}

const EXAMPLES = `
Examples:
  soracc compile models/dit.sora.ts --preset XL/2 -o dit
  soracc compile models/dit.sora.ts --set hidden=96 --set train.rate=3e-4 --trace trace
  ./dit train --data clips --steps 2000`;

export function configure(command: Command, finish: (exitCode: number) => void): void {
  addBuildOptions(command)
    .option("-o, --output <file>", "the training binary (default: ./<model name>)")
    .option("--trace <folder>", "write the program after every pass, the steps and the kernels' sources")
    .option("--force", "replace a file that soracc did not write")
    .option("--json", "one JSON object on standard output")
    .addHelpText("after", EXAMPLES)
    .action(async (file: string, options: CompileOptions) => {
      const report = await compile(file, options);
      process.stdout.write(options.json === true ? `${JSON.stringify(report)}\n` : `${describe(report).join("\n")}\n`);
      finish(0);
    });
}

export interface CompileReport {
  readonly output: string;
  readonly bytes: number;
  readonly model: string;
  readonly preset: string | null;
  readonly precision: string;
  readonly parameters: number;
  readonly kernels: number;
  /** Per program, how many kernels one run launches. */
  readonly launches: Readonly<Record<string, number>>;
  /** Of a training step; null for a model that is not trained on videos. */
  readonly estimate: Estimate | null;
  /** From the model's text to the plan. */
  readonly seconds: number;
  /** The plan of an earlier compilation was at hand. */
  readonly kept: boolean;
  readonly trace: { readonly folder: string; readonly files: number } | null;
  /** For CUDA: what NVRTC made of the kernels. */
  readonly gpu: GpuReport | null;
}

/** @throws Diagnostic: mistakes in the model, what is not supported, a file that must not be replaced */
export async function compile(file: string, options: CompileOptions): Promise<CompileReport> {
  const root = process.env["SORACC_ROOT"];
  if (root === undefined) throw new CompilerBug("compile", "SORACC_ROOT is not set");
  const { checkPlace } = await import("../emit/write-binary.ts");
  const force = options.force === true;
  if (options.output !== undefined) checkPlace(resolve(options.output), force);
  const trace =
    options.trace === undefined
      ? undefined
      : (await import("./compile/trace-folder.ts")).openTraceFolder(options.trace);
  const started = performance.now();
  const { readModel } = await import("../read-model.ts");
  // What comes later is read while the model is: its reading is mostly waiting for a process.
  const [text, { emitBinary }, { keptParts }, gpuReport] = await Promise.all([
    readModel(modelPath(file)),
    import("../emit/emit.ts"),
    import("./compile/parts-cache.ts"),
    options.target === "cuda" ? import("./compile/gpu-report.ts") : undefined,
  ]);
  let begun: Begun | undefined;
  const make = async (): Promise<Draft> => {
    begun = await gpuReport?.beginBuilds(options.arch, root);
    const onKernels = begun === undefined ? undefined : beginAll(begun);
    try {
      const { plan, kernels } = await build(text, options, { onPass: trace?.onPass, onKernels });
      return { plan, estimate: estimate(plan, kernels, batchOf(plan)) ?? null };
    } catch (error) {
      begun?.builds.close();
      throw error;
    }
  };
  const [draft, parts] = await Promise.all([keptPlan(text, options, make, trace === undefined), keptParts(root)]);
  const { plan, packed, estimate: estimated, kept } = draft;
  const seconds = (performance.now() - started) / 1000;
  const files = trace?.finish(plan);
  const output = options.output ?? `./${plan.model.name}`;
  checkPlace(resolve(output), force);
  const gpu = (await gpuReport?.compileForGpu(plan, root, begun)) ?? null;
  const facts = {
    ...{ output, model: plan.model.name, preset: plan.model.preset ?? null, precision: plan.precision },
    parameters: plan.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
    kernels: plan.kernels.length,
    launches: Object.fromEntries(Object.entries(plan.programs).map(([name, { steps }]) => [name, steps.length])),
    ...{ estimate: estimated, seconds, kept },
    trace: options.trace === undefined ? null : { folder: options.trace, files: files ?? 0 },
    gpu,
  };
  const bytes = emitBinary({
    plan,
    packed,
    parts,
    output: resolve(output),
    root,
    about: aboutBinary(facts, plan),
    force,
  });
  return { ...facts, bytes };
}

/** Kernels are built while the rest of the plan is made; what fails is told when all of them are asked for. */
const beginAll =
  ({ builds }: Begun) =>
  (kernels: readonly PlanKernel[]): void =>
    kernels.forEach((kernel) => void builds.build(kernel).catch(() => undefined));

function batchOf({ model: { recipe } }: Plan): number {
  const train = recipe["train"];
  const batch: unknown = typeof train === "object" && train !== null && "batch" in train ? train.batch : undefined;
  return typeof batch === "number" ? batch : 2;
}

/** What somebody reads who opens the file. */
const aboutBinary = (facts: Omit<CompileReport, "bytes">, plan: Plan): readonly string[] => [
  `model       ${modelText(facts)}`,
  `settings    ${Object.entries(plan.model.config).map(([key, value]) => `${key}=${String(value)}`).join(" ")}`, // prettier-ignore
  `parameters  ${facts.parameters.toLocaleString("en")}`,
  `kernels     ${facts.kernels} distinct`,
  "Run it with --help.",
];

const modelText = ({ model, preset, precision }: Omit<CompileReport, "bytes">): string =>
  `${model}${preset === null ? "" : ` ${preset}`}, ${precision}`;

function describe(report: CompileReport): readonly string[] {
  const { launches, estimate: estimated, trace, gpu } = report;
  const total = Object.values(launches).reduce((a, b) => a + b, 0);
  const perProgram = Object.entries(launches).map(([name, count]) => `${name} ${count}`);
  return [
    `model       ${modelText(report)}`,
    `parameters  ${report.parameters.toLocaleString("en")}`,
    `kernels     ${report.kernels} distinct, ${total} launches (${perProgram.join(", ")})`,
    ...(estimated === null
      ? []
      : [
          `memory      ${formatBytes(estimated.peakBytes)} for a training step on ${estimated.example}`,
          `arithmetic  ${formatFlops(estimated.flopsPerToken)} per token and training step, in that shape`,
        ]),
    `time        ${report.seconds.toFixed(2)} s from model to plan${report.kept ? ", which was in the cache" : ""}`,
    ...(gpu === null ? [] : describeGpu(gpu)),
    ...(trace === null ? [] : [`trace       ${trace.files} files in ${trace.folder}`]),
    `written     ${report.output}, ${formatBytes(report.bytes)}`,
    `next        ${runName(report.output)} train --data FOLDER --steps 1000`,
  ];
}

const runName = (output: string): string => (output.includes("/") ? output : join(".", output).replace(/^/, "./"));

function formatFlops(flops: number): string {
  const power = Math.min(Math.max(Math.floor(Math.log10(Math.max(flops, 1)) / 3), 0), 4);
  return `${(flops / 1000 ** power).toPrecision(3)} ${["", "k", "M", "G", "T"][power] ?? ""}FLOP`;
}
