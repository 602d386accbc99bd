/** `soracc inspect M.sora.ts`: programs after any pass, steps, memory and kernels, on the terminal. */
import type { Command } from "commander";
import { Diagnostic, didYouMean } from "../../contract/diagnostic.ts";
import type { Plan } from "../../contract/plan.ts";
import type { Program } from "../graph/node.ts";
import { addBuildOptions, build, modelPath, type BuildOptions } from "./compile/build.ts";

interface InspectOptions extends BuildOptions {
  readonly program?: string;
  readonly pass?: string;
  readonly steps?: true;
  readonly memory?: true;
  readonly kernels?: true;
  readonly kernel?: string;
}

const EXAMPLES = `
Examples:
  soracc inspect models/dit.sora.ts --preset S/8
  soracc inspect models/dit.sora.ts --program train --pass traced
  soracc inspect models/dit.sora.ts --program train --steps
  soracc inspect models/dit.sora.ts --kernel layer_norm`;

export function configure(command: Command, finish: (exitCode: number) => void): void {
  addBuildOptions(command)
    .option("--program <name>", "one program instead of an overview")
    .option("--pass <name>", "its graph after this pass (`traced`: as the model wrote it)")
    .option("--steps", "the kernels it launches, in order")
    .option("--memory", "its buffers, their sizes and lives")
    .option("--kernels", "all kernels with their formulas")
    .option("--kernel <name>", "the sources of the kernels whose name begins so")
    .addHelpText("after", EXAMPLES)
    .action(async (file: string, options: InspectOptions) => {
      for (const line of await inspect(file, options)) process.stdout.write(`${line}\n`);
      finish(0);
    });
}

async function inspect(file: string, options: InspectOptions): Promise<readonly string[]> {
  const graphs = new Map<string, Map<string, Program>>();
  const { readModel } = await import("../read-model.ts");
  const text = await readModel(modelPath(file));
  const onPass = (pass: string, _: Program, after: Program): void => {
    graphs.set(after.name, (graphs.get(after.name) ?? new Map<string, Program>()).set(pass, after));
  };
  const { plan, traced } = await build(text, { ...options, programs: "all" }, { onPass });
  if (options.kernel !== undefined) return sources(plan, options.kernel);
  if (options.kernels === true) return plan.kernels.map(({ symbol, formula }) => `${symbol}\n  ${formula}`);
  if (options.program === undefined) return overview(plan, traced, graphs);
  const name = known("program", options.program, Object.keys(plan.programs));
  const program = plan.programs[name]!;
  const { describeMemory, describeSteps } = await import("./compile/steps-text.ts");
  if (options.steps === true) return describeSteps(plan, program);
  if (options.memory === true) return describeMemory(program);
  const passes = new Map<string, Program>([
    ["traced", traced.find((each) => each.name === name)!],
    ...(graphs.get(name) ?? new Map<string, Program>()),
  ]);
  const pass = known("pass", options.pass ?? [...passes.keys()].at(-1)!, [...passes.keys()]);
  const { printTrace } = await import("../graph/print.ts");
  return [printTrace(passes.get(pass)!).trimEnd()];
}

function overview(
  plan: Plan,
  traced: readonly Program[],
  graphs: ReadonlyMap<string, ReadonlyMap<string, Program>>,
): readonly string[] {
  const passes = [...new Set([...graphs.values()].flatMap((each) => [...each.keys()]))];
  return [
    `${plan.model.name}, ${plan.precision}: ${plan.parameters.length} parameters, ${plan.kernels.length} kernels`,
    `passes: traced${passes.map((name) => `, ${name}`).join("")}`,
    ...traced.map(({ name }) => {
      const { steps, buffers, inputs } = plan.programs[name]!;
      return `program ${name}: ${steps.length} launches, ${buffers.length} buffers, inputs ${inputs.map((port) => port.name).join(" ") || "none"}`;
    }),
  ];
}

function sources(plan: Plan, name: string): readonly string[] {
  const found = plan.kernels.filter(({ symbol }) => symbol.startsWith(name));
  if (found.length > 0) return found.map(({ source }) => source);
  throw missing("kernel", name, plan.kernels.map(({ symbol }) => symbol)); // prettier-ignore
}

function known(what: string, name: string, there: readonly string[]): string {
  if (there.includes(name)) return name;
  throw missing(what, name, there);
}

function missing(what: string, name: string, there: readonly string[]): Diagnostic {
  const near = didYouMean(name, there);
  return new Diagnostic({
    kind: "inspect",
    message: `there is no ${what} ${name}`,
    details: [`choices  ${there.slice(0, 40).join(", ")}`],
    fix: near === undefined ? "choose one of these" : `did you mean ${near}?`,
  });
}
