/** `./dit info`: what is inside, and what this machine offers. */
import type { Command } from "commander";
import type { Plan, PlanProgram, Port } from "../../contract/plan.ts";
import { printSize } from "../../contract/size.ts";
import { BUILT_IN_ENCODER } from "../data/text.ts";
import { describeChecks, examineMachine, type Check } from "../doctor/machine.ts";
import { samplersOf } from "../sample/sampler.ts";
import { parameterCount } from "../train/training-state.ts";
import { examples, type CommandContext } from "./command.ts";

interface Options {
  readonly json?: true;
  readonly kernels?: true;
  readonly kernel?: string;
}

export function infoCommand(program: Command, context: CommandContext, end: (exitCode: number) => void): void {
  const { self } = context;
  program
    .command("info")
    .description("what is inside: model, configuration, programs, kernels; and what this machine offers")
    .option("--kernels", "list the kernels with their formulas")
    .option("--kernel <name>", "print the source of a kernel")
    .option("--json", "print all of it as JSON")
    .addHelpText("after", examples([`${self} info`, `${self} info --kernels`, `${self} info --json | jq .parameters`]))
    .action(async (options: Options) => end(await run(options, context)));
}

async function run({ json, kernels, kernel }: Options, { carried, print }: CommandContext): Promise<number> {
  const plan = carried.plan();
  if (kernel !== undefined) return printKernel(plan, kernel, print);
  if (kernels === true && json !== true) {
    for (const { symbol, formula } of plan.kernels) print(`${symbol}\n  ${formula.split("\n").join("\n  ")}`);
    return 0;
  }
  const machine = await examineMachine({ target: plan.target, loadKoffi: carried.loadKoffi });
  if (json === true) print(JSON.stringify(asJson(plan, carried.soracc, machine)));
  else for (const line of asText(plan, carried.soracc, machine)) print(line);
  return 0;
}

function printKernel(plan: Plan, name: string, print: (line: string) => void): number {
  const found = plan.kernels.filter(({ symbol }) => symbol === name || symbol.startsWith(name));
  for (const { source } of found) print(source);
  if (found.length > 0) return 0;
  print(`there is no kernel ${name}; info --kernels lists them`);
  return 1;
}

function asJson(plan: Plan, soracc: string, machine: readonly Check[]): object {
  const { model, precision, target, arch } = plan;
  return {
    ...{ soracc, model: model.name, preset: model.preset ?? null, config: model.config, recipe: model.recipe },
    ...{
      precision,
      target,
      arch: arch ?? null,
      parameters: parameterCount(plan),
      kernels: plan.kernels.length,
      text: BUILT_IN_ENCODER,
    },
    samplers: samplersOf(plan),
    programs: Object.fromEntries(
      Object.entries(plan.programs).map(([name, program]) => [
        name,
        { launches: program.steps.length, inputs: portTexts(program.inputs), outputs: portTexts(program.outputs) },
      ]),
    ),
    machine,
  };
}

function asText(plan: Plan, soracc: string, machine: readonly Check[]): readonly string[] {
  const { model, precision, kernels } = plan;
  const programs = Object.entries(plan.programs);
  const width = Math.max(...programs.map(([name]) => name.length));
  return [
    `${model.name}${model.preset === undefined ? "" : `, preset ${model.preset}`}; compiled by soracc ${soracc} for ${targetText(plan)}, ${precision}`,
    `configuration  ${settings(model.config)}`,
    ...Object.entries(model.recipe).map(
      ([name, value]) =>
        `${name.padEnd(13)}  ${typeof value === "object" && value !== null ? settings(value) : String(value)}`,
    ),
    `parameters     ${parameterCount(plan).toLocaleString("en")} in ${plan.parameters.length} tensors`,
    `text           ${BUILT_IN_ENCODER}`,
    `kernels        ${kernels.length} distinct`,
    "programs",
    ...programs.flatMap(([name, program]) => describeProgram(name.padEnd(width), program)),
    "this machine",
    ...describeChecks(machine).map((line) => `  ${line}`),
  ];
}

const targetText = ({ target, arch }: Plan): string => (arch === undefined ? target : `${target} ${arch}`);

function describeProgram(name: string, { inputs, outputs, steps }: PlanProgram): readonly string[] {
  const wants = inputs.length === 0 ? "" : `  wants ${portTexts(inputs).join("; ")}`;
  const gives = outputs.length === 0 ? "" : `  gives ${outputs.map((port) => port.name).join(", ")}`;
  return [`  ${name}  ${String(steps.length).padStart(5)} launches${wants}${gives}`];
}

const portTexts = (ports: readonly Port[]): readonly string[] =>
  ports.map(({ name, dtype, axes }) => {
    const shape = axes.map((axis) => (axis.name === axis.size ? axis.name : `${axis.name} ${printSize(axis.size)}`));
    return `${name} ${dtype}${shape.length === 0 ? "" : ` [${shape.join(", ")}]`}`;
  });

const settings = (values: object): string =>
  Object.entries(values)
    .map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
