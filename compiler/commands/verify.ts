/** `soracc verify FILE`: does the model compute what was recorded from another implementation? */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { InvalidArgumentError, Option, type Command } from "commander";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { ARCHS } from "../../contract/plan.ts";
import { PRECISIONS, type Precision } from "../../contract/precision.ts";
import { compare, type Kind, type Verdict } from "./verify/agreement.ts";
import {
  DEFAULT_DEVICE,
  DEVICES,
  SIMULATED_ARCH,
  type Choice,
  type DeviceName,
  type VerifyDevice,
} from "./verify/devices.ts";
import { readRecording } from "./verify/recording.ts";
import { replay } from "./verify/replay.ts";

interface VerifyOptions extends Choice {
  readonly device: DeviceName;
  readonly precision: Precision;
  readonly model?: string;
  readonly json?: true;
}

export function configure(command: Command, finish: (exitCode: number) => void): void {
  command
    .argument("<file>", "a safetensors file with parameters, inputs and expected outputs")
    .addOption(new Option("--device <name>", "where to run").choices(Object.keys(DEVICES)).default(DEFAULT_DEVICE))
    .addOption(new Option("--precision <type>", "what matrix products compute in").choices(PRECISIONS).default("f32"))
    .addOption(
      new Option(
        "--arch <name>",
        `with sim or cuda: the GPU that kernels are written for (sim: ${SIMULATED_ARCH})`,
      ).choices(ARCHS),
    )
    .option("--schedule-seed <n>", "with sim: the order in which warps run (default: 0)", scheduleSeed)
    .option("--model <file>", "the model file, instead of the one that the recording names")
    .option("--json", "one JSON object on standard output")
    .addHelpText("after", EXAMPLES)
    .action(async (file: string, options: VerifyOptions) => {
      const report = await verify(file, options);
      process.stdout.write(options.json === true ? `${JSON.stringify(report)}\n` : printReport(report, options));
      finish(report.ok ? 0 : 1);
    });
}

const EXAMPLES = `
Examples:
  soracc verify recorded.safetensors
  soracc verify recorded.safetensors --device reference --json
  soracc verify recorded.safetensors --device sim --arch sm_80 --schedule-seed 7
  soracc verify recorded.safetensors --model my-model.sora.ts`;

function scheduleSeed(text: string): number {
  const seed = Number(text);
  if (/^\d+$/.test(text.trim()) && seed < 2 ** 32) return seed;
  throw new InvalidArgumentError("A whole number below 2^32 is expected.");
}

export interface VerifyReport {
  readonly file: string;
  readonly model: string;
  readonly device: DeviceName;
  readonly precision: Precision;
  /** How many kernels ran. */
  readonly launched: number;
  readonly ok: boolean;
  /** An error that is not a number is null in JSON. */
  readonly tensors: readonly Verdict[];
}

/** Errors: a file that is no recording, a model that cannot be loaded, parameters or inputs that do not fit it. */
export async function verify(file: string, options: VerifyOptions): Promise<VerifyReport> {
  const recording = readRecording(file);
  const choice: VerifyDevice = DEVICES[options.device];
  if (!choice.precisions.includes(options.precision)) throw wrongPrecision(options);
  refuseIdleOptions(options, choice);
  const path = findModel(options.model ?? recording.model, recording.path, options.model !== undefined);
  const { loadModel } = await import("../load-model.ts");
  const { traceModel } = await import("../language/trace-model.ts");
  const source = { name: "the metadata `config`", where: { file } };
  const model = traceModel(await loadModel(path), { config: { values: recording.config, source } });
  const device = await choice.open(options.precision, options);
  try {
    const comparisons = await replay({ recording, model, device, precision: options.precision });
    const tensors = compare(comparisons, options.precision);
    if (tensors.length === 0) throw nothingCompared(file, options);
    const { device: name, precision } = options;
    const ok = tensors.every((each) => each.ok);
    return { file, model: path, device: name, precision, launched: device.launched(), ok, tensors };
  } finally {
    await device.close();
  }
}

/** A recorded model name is looked up from the working directory, then in this package. */
function findModel(name: string, file: string, isChosen: boolean): string {
  const root = process.env["SORACC_ROOT"];
  const places = [resolve(name), ...(root === undefined || isChosen ? [] : [join(root, name)])];
  const found = places.find((place) => existsSync(place));
  if (found !== undefined) return found === places[0] ? name : found;
  throw new Diagnostic({
    kind: "recording",
    message: `model file "${name}" is nowhere to be found`,
    ...(isChosen ? {} : { where: { file } }),
    details: places.map((place) => `looked for ${place}`),
    fix: "give the model file with --model",
  });
}

function wrongPrecision({ device, precision, ...choice }: VerifyOptions): Diagnostic {
  const { words, precisions }: VerifyDevice = DEVICES[device];
  return new Diagnostic({
    kind: "device",
    message: `device "${device}" (${words(choice)}) has no ${precision}`,
    fix: `choose --precision ${precisions.join(" or ")}, or another --device`,
  });
}

const FLAGS: Readonly<Record<keyof Choice, string>> = { arch: "--arch", scheduleSeed: "--schedule-seed" };

/** An option that the device does not know would say nothing, in silence. */
function refuseIdleOptions(options: VerifyOptions, { takes }: VerifyDevice): void {
  for (const [name, flag] of Object.entries(FLAGS) as [keyof Choice, string][]) {
    if (options[name] === undefined || takes.includes(name)) continue;
    const others = Object.entries<VerifyDevice>(DEVICES).filter(([, other]) => other.takes.includes(name));
    throw new Diagnostic({
      kind: "option",
      message: `${flag} means nothing to device "${options.device}"`,
      fix: `leave it out, or choose --device ${others.map(([other]) => other).join(" or ")}`,
    });
  }
}

function nothingCompared(file: string, { precision }: VerifyOptions): Diagnostic {
  return new Diagnostic({
    kind: "recording",
    message: `the file has no tensors that are compared in ${precision}`,
    where: { file },
    fix: "record outputs or gradients, or verify in f32",
  });
}

const TITLES: Readonly<Record<Kind, string>> = {
  output: "outputs",
  gradient: "gradients",
  trained: "trained parameters",
  sampled: "sampled videos",
};

function printReport(report: VerifyReport, choice: Choice): string {
  const { file, model, device, precision, launched, ok, tensors } = report;
  const { words }: VerifyDevice = DEVICES[device];
  const lines = [
    file,
    `  model   ${model}`,
    `  device  ${device} (${words(choice)}), ${precision}, ${launched} kernels launched`,
  ];
  for (const [kind, title] of Object.entries(TITLES)) {
    const own = tensors.filter((each) => each.kind === kind);
    const worst = own.reduce<Verdict | undefined>(
      (a, b) => (a !== undefined && ratio(a) >= ratio(b) ? a : b),
      undefined,
    );
    if (worst === undefined) continue;
    const agreeing = own.filter((each) => each.ok).length;
    const share = `${(100 * ratio(worst)).toFixed(1)} %`;
    lines.push(`  ${title}: ${agreeing} of ${own.length} agree; nearest to its tolerance ${worst.name}, at ${share}`);
  }
  for (const { name, error, tolerance } of tensors.filter((each) => !each.ok)) {
    lines.push(`  differs: ${name}, error ${error.toExponential(2)}, tolerance ${tolerance.toExponential(2)}`);
  }
  const agreeing = tensors.filter((each) => each.ok).length;
  lines.push(
    ok ? `agrees: all ${tensors.length} tensors` : `differs: ${tensors.length - agreeing} of ${tensors.length} tensors`,
  );
  return `${lines.join("\n")}\n`;
}

/** Error over tolerance; what is not a number is worse than anything. */
function ratio({ error, tolerance }: Verdict): number {
  if (Number.isNaN(error) || Number.isNaN(tolerance)) return Infinity;
  return error === 0 ? 0 : error / tolerance;
}
