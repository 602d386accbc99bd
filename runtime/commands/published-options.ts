/**
 * The option names of the published training and sampling scripts, accepted as hidden aliases. Some mean an option of
 * ours; some were settled when the model was compiled and say so; none is dropped in silence.
 */
import { type Command, InvalidArgumentError, Option } from "commander";
import { Diagnostic } from "../../contract/diagnostic.ts";

interface Alias {
  /** Without dashes, as published. */
  readonly name: string;
  readonly isFlag?: true;
  /** The option of ours that takes the value, as commander names it. */
  readonly to?: string;
  /** Or: what to do instead. */
  readonly instead?: (value: string) => string;
}

const compiled =
  (setting: string) =>
  (value: string): string =>
    `it is settled when the model is compiled: soracc compile … ${setting.replace("VALUE", value)}`;

const BOTH: readonly Alias[] = [
  { name: "model", instead: compiled("MODEL.sora.ts --preset VALUE") },
  { name: "model_arch", instead: compiled("--preset VALUE") },
  { name: "compressor", instead: compiled("--compressor VALUE") },
];

export const TRAIN_ALIASES: readonly Alias[] = [
  ...BOTH,
  { name: "video_dir", to: "data" },
  { name: "dataset", to: "captions" },
  { name: "batch_size", to: "batch" },
  { name: "accumulation_steps", to: "accumulate" },
  { name: "save_interval", to: "saveEvery" },
  { name: "checkpoint_dir", to: "runs" },
  { name: "load_model", to: "weights" },
  { name: "load_optimizer", instead: () => "the optimizer comes back with --name RUN --resume" },
  { name: "grad_checkpoint", isFlag: true, instead: compiled("--set train.recompute=block") },
  { name: "sp_size", instead: compiled('--parallel "sequence=VALUE"') },
  { name: "sp_mode", instead: compiled('--parallel "sequence=N:VALUE"') },
  { name: "sp_overlap", isFlag: true, instead: compiled('--parallel "sequence=N:fastseq"') },
  { name: "lr", instead: compiled("--set train.rate=VALUE") },
  {
    name: "tensorboard_dir",
    instead: () => "the record of a run is log.jsonl in its folder; choose that folder with --runs",
  },
];

export const SAMPLE_ALIASES: readonly Alias[] = [
  ...BOTH,
  { name: "text", to: "prompt" },
  { name: "cfg-scale", to: "guidance" },
  { name: "num-sampling-steps", to: "steps" },
  { name: "ckpt", to: "checkpoint" },
  { name: "sec", to: "seconds" },
  { name: "disable-cfg", isFlag: true, to: "guidance" },
  { name: "text_model", instead: () => "the text encoder is part of the binary; leave it out" },
];

/** Guidance of 1 is what a model predicts with its text alone. */
const FLAG_VALUES: Readonly<Record<string, number>> = { "disable-cfg": 1 };

/** Adds the hidden options; call it after all options of the command itself. */
export function acceptPublished(command: Command, aliases: readonly Alias[]): void {
  for (const alias of aliases) {
    const flags = `--${alias.name}${alias.isFlag === true ? "" : " <value>"}`;
    command.addOption(new Option(flags).hideHelp());
    command.on(`option:${alias.name}`, (text: string | null) => {
      if (alias.to === undefined) throw notHere(alias, text ?? "");
      command.setOptionValueWithSource(alias.to, valueFor(command, alias, text), "cli");
    });
  }
}

/** Read as the option of ours would read it. */
function valueFor(command: Command, { name, to }: Alias, text: string | null): unknown {
  const flagValue = FLAG_VALUES[name];
  if (flagValue !== undefined) return flagValue;
  const option = command.options.find((one) => one.attributeName() === to);
  if (option?.parseArg === undefined) return text;
  try {
    return option.parseArg(text ?? "", command.getOptionValue(to ?? "")) as unknown;
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    throw new Diagnostic({
      kind: "option",
      message: `--${name} is "${text ?? ""}"`,
      fix: `${error.message.charAt(0).toLowerCase()}${error.message.slice(1, -1)}; our name for it is ${option.long ?? ""}`,
    });
  }
}

const notHere = ({ name, instead }: Alias, value: string): Diagnostic =>
  new Diagnostic({ kind: "option", message: `--${name} has no effect here`, fix: instead?.(value) ?? "leave it out" });
