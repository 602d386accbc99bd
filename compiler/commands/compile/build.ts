/** From a model file and what the user chose to a plan: what `compile` and `inspect` share. */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { setImmediate } from "node:timers/promises";
import type { Command } from "commander";
import { Diagnostic } from "../../../contract/diagnostic.ts";
import { ARCHS, type ParameterRange, type PlanKernel } from "../../../contract/plan.ts";
import { PRECISIONS, type Precision } from "../../../contract/precision.ts";
import type { Program } from "../../graph/node.ts";
import type { ModelText } from "../../read-model.ts";
import { staticValue } from "../../graph/dim.ts";
import type { ParameterLayout } from "../../language/parameters.ts";
import type { TrainRecipe } from "../../language/recipe.ts";
import { parseMesh, printMesh, ranksOf, type Mesh } from "../../notation/mesh.ts";
import type { Recomputation } from "../../passes/recompute.ts";
import type { Compilation } from "../../pipeline.ts";
import { CPU, type Target } from "../../targets/choice.ts";

export interface BuildOptions {
  readonly preset?: string;
  readonly set: readonly string[];
  readonly parallel?: string;
  readonly target: string;
  readonly arch?: string;
  readonly precision?: string;
  /** Every program of the model, or what a training binary drives (the default). */
  readonly programs?: "all" | undefined;
}

export interface Built extends Compilation {
  readonly traced: readonly Program[];
  readonly precision: Precision;
}

const PRECISION_NAMES = `${PRECISIONS.slice(0, -1).join(", ")} or ${PRECISIONS.at(-1)!}`;
const TARGETS: readonly Target["name"][] = ["cpu", "cuda"];
const DEFAULT_ARCH = "sm_90a";

/** Options that choose what is compiled. */
export const addBuildOptions = (command: Command): Command =>
  command
    .argument("<model>", "a .sora.ts file")
    .option("--preset <name>", "one of the model's presets")
    .option(
      "--set <key=value>",
      "change a setting; may be given several times",
      (text: string, before: string[]) => [...before, text],
      [],
    )
    .option("--parallel <mesh>", 'how ranks work together, as in "data=2 sequence=4:fastseq zero=2"')
    .option("--target <name>", `what the kernels are for: ${TARGETS.join(" or ")}`, "cpu")
    .option("--arch <name>", `the GPU, with --target cuda: ${ARCHS.join(", ")} (default: ${DEFAULT_ARCH})`)
    .option("--precision <type>", `what matrix products compute in: ${PRECISION_NAMES} (default: the model's recipe)`);

/** What a training binary drives. Other programs of a model are there for recordings. */
const isDriven = (name: string): boolean =>
  ["initialize", "accumulate", "update"].includes(name) || name.startsWith("sample.");

/** Told while a plan is made. */
export interface BuildWatch {
  /** After every pass: for traces. */
  readonly onPass?: ((pass: string, before: Program, after: Program) => void) | undefined;
  /** After every program: the kernels that are new with it. */
  readonly onKernels?: ((kernels: readonly PlanKernel[]) => void) | undefined;
}

/**
 * @throws Diagnostic for what is wrong in the model or asked for and not there
 */
export async function build(
  source: ModelText,
  options: BuildOptions,
  { onPass, onKernels }: BuildWatch = {},
): Promise<Built> {
  const target = targetOf(options.target, options.arch);
  const asked = precisionOf(options.precision);
  const { runModel } = await import("../../load-model.ts");
  const { traceModel } = await import("../../language/trace-model.ts");
  const { compileByProgram } = await import("../../pipeline.ts");
  const definition = runModel(source);
  checkMesh(options.parallel === undefined ? definition.parallel : parseMesh(options.parallel), definition.parallel);
  const isTrained = definition.train !== undefined;
  const model = traceModel(definition, {
    preset: options.preset,
    set: [...options.set, ...(asked === undefined || !isTrained ? [] : [`train.precision=${asked}`])],
  });
  const precision = asked ?? model.train?.precision ?? "f32";
  const all = [...model.programs];
  const isInspected = options.programs === "all";
  // The loss comes first: a mistake in the network is then told with the shapes the user gave.
  const wanted = all
    .filter(([name]) => isInspected || isDriven(name))
    .sort(([a], [b]) => Number(b === "accumulate") - Number(a === "accumulate"));
  // Nothing to drive is a mistake, but one inside a program is the better one to tell.
  const traced = (wanted.length === 0 ? all : wanted).map(([, trace]) => trace());
  if (wanted.length === 0) {
    throw new Diagnostic({
      kind: "model",
      message: `model "${model.name}" has nothing that a training binary could run`,
      where: definition.where(),
      details: [`programs  ${[...model.programs.keys()].join(", ")}`],
      fix: "give it a recipe (train: { … }) and a program loss, or sampling programs",
    });
  }
  const compiling = compileByProgram({
    model: { name: model.name, config: model.config, preset: model.preset, recipe: model.recipe },
    parameters: rangesOf(model.layout),
    programs: traced,
    precision,
    recompute: recomputationOf(model.train),
    target,
    ...(onPass === undefined ? {} : { onPass }),
  });
  for (;;) {
    const { done, value } = compiling.next();
    if (done === true) return { ...value, traced, precision };
    if (onKernels === undefined) continue;
    onKernels(value);
    await setImmediate(); // to let it begin
  }
}

const recomputationOf = (recipe: TrainRecipe | undefined): Recomputation | undefined =>
  recipe === undefined || recipe.recompute === "none"
    ? undefined
    : { keepsDear: recipe.recompute === "cheap", span: recipe.recomputeSpan };

const rangesOf = ({ parameters }: ParameterLayout): readonly ParameterRange[] =>
  parameters.map(({ name, shape, offset }) => ({
    name,
    shape: shape.map(({ size }) => staticValue(size) ?? 0),
    offset,
  }));

/** From the working directory; the models of the package can be named from anywhere. */
export function modelPath(file: string): string {
  const root = process.env["SORACC_ROOT"];
  if (existsSync(resolve(file)) || root === undefined) return file;
  const own = join(root, file);
  return existsSync(own) ? own : file;
}

/** @throws Diagnostic of kind `target`: no such target, no such architecture, or one where there is no GPU */
export function targetOf(name: string, arch: string | undefined): Target {
  const known = TARGETS.find((each) => each === name);
  if (known === undefined) {
    throw new Diagnostic({
      kind: "target",
      message: `this soracc compiles for ${TARGETS.join(" and ")}, not for ${name}`,
      fix: `leave --target out, or write --target ${TARGETS.join(" or --target ")}`,
    });
  }
  if (known === "cpu") {
    if (arch === undefined) return CPU;
    throw new Diagnostic({
      kind: "target",
      message: `--arch ${arch} chooses a GPU, and the kernels are for the CPU`,
      fix: "add --target cuda, or leave --arch out",
    });
  }
  const wanted = arch ?? DEFAULT_ARCH;
  const found = ARCHS.find((each) => each === wanted);
  if (found !== undefined) return { name: "cuda", arch: found };
  throw new Diagnostic({
    kind: "target",
    message: `there are no kernels for the GPU architecture ${wanted}`,
    details: ["sm_80   Ampere and Ada", "sm_90a  Hopper", "sm_100  Blackwell"],
    fix: `choose --arch ${ARCHS.join(" or --arch ")}`,
  });
}

function precisionOf(text: string | undefined): Precision | undefined {
  const found = PRECISIONS.find((each) => each === text);
  if (text === undefined || found !== undefined) return found;
  throw new Diagnostic({
    kind: "precision",
    message: `there is no precision ${text}`,
    fix: `choose --precision ${PRECISION_NAMES}`,
  });
}

/** A strategy that is not there yet must not look as if it worked. */
function checkMesh(mesh: Mesh, own: Mesh): void {
  if (ranksOf(mesh) === 1 && mesh.zero === 0) return;
  throw new Diagnostic({
    kind: "parallel",
    message: `this soracc compiles for one rank, and "${printMesh(mesh)}" needs ${ranksOf(mesh)}`,
    fix: mesh === own ? 'override the model\'s mesh with --parallel ""' : "leave --parallel out",
  });
}
