/** `./dit train`: options to a request, and what is printed at the end. */
import type { Command } from "commander";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { freeRunName } from "../observe/run-folder.ts";
import { INTERRUPTED } from "../train/interrupt.ts";
import { describeOutcome, train, type TrainOutcome } from "../train/train.ts";
import { examples, type CommandContext } from "./command.ts";
import { seed, several, wholeNumber } from "./options.ts";
import { acceptPublished, TRAIN_ALIASES } from "./published-options.ts";

interface Options {
  readonly data?: string;
  readonly captions?: string;
  readonly steps?: number;
  readonly epochs?: number;
  readonly batch?: number;
  readonly accumulate?: number;
  readonly seed?: number;
  readonly name?: string;
  readonly runs: string;
  readonly resume?: true;
  readonly checkpoint?: string;
  readonly weights?: string;
  readonly saveEvery: number;
  readonly keep: number;
  readonly logEvery: number;
  readonly sampleEvery?: number;
  readonly samplePrompt: readonly string[];
  readonly maxFrames?: number;
  readonly maxTokens?: number;
  readonly threads?: number;
  readonly json?: true;
}

export function trainCommand(program: Command, context: CommandContext, end: (exitCode: number) => void): void {
  const { self } = context;
  const command = program
    .command("train")
    .description("train on a folder of captioned videos; runs/NAME/ gets the log, samples and checkpoints")
    .option("--data <folder>", "videos; captions in captions.jsonl, captions.json or a .txt beside each video")
    .option("--captions <file>", "captions from this .jsonl or .json file instead")
    .option("--steps <n>", "steps in all", wholeNumber(1))
    .option("--epochs <n>", "or: how often every caption is seen", wholeNumber(1))
    .option("--batch <n>", "clips per step (default: the model's recipe)", wholeNumber(1))
    .option("--accumulate <n>", "small batches per step, whose gradients add up (default: 1)", wholeNumber(1))
    .option("--seed <n>", "decides initial weights, noise and the order of the data (default: 0)", seed)
    .option("--name <run>", "name of the run (default: the model's name, numbered)")
    .option("--runs <folder>", "where runs live", "runs")
    .option("--resume", "continue the run from its latest checkpoint, bit for bit")
    .option("--checkpoint <file>", "with --resume: from this checkpoint")
    .option("--weights <file>", "start from these weights (safetensors) instead of random ones")
    .option("--save-every <n>", "steps between checkpoints", wholeNumber(1), 500)
    .option("--keep <n>", "how many checkpoints stay", wholeNumber(1), 3)
    .option("--log-every <n>", "steps between lines of the log", wholeNumber(1), 1)
    .option("--sample-every <n>", "steps between samples of --sample-prompt", wholeNumber(1))
    .option("--sample-prompt <text>", "what to sample while training; may be given several times", several, [])
    .option("--max-frames <n>", "leave out longer clips (they are listed)", wholeNumber(1))
    .option("--max-tokens <n>", "leave out clips of more patches (they are listed)", wholeNumber(1))
    .option("--threads <n>", "threads (default: SORACC_THREADS, else all)", wholeNumber(1))
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      examples([
        `${self} train --data clips --steps 2000 --batch 24 --name first`,
        `${self} train --data clips --name first --resume            # after Ctrl-C, or when the machine went down`,
        `${self} train --data clips --steps 6000 --name first --resume   # longer than planned`,
        `${self} train --data clips --epochs 10 --sample-every 500 --sample-prompt "a red circle moves left"`,
      ]),
    );
  acceptPublished(command, TRAIN_ALIASES);
  command.action(async (options: Options) => end(await run(options, context)));
}

async function run(options: Options, { carried, self, print, say }: CommandContext): Promise<number> {
  const plan = carried.plan();
  const { data, resume = false, runs, threads, samplePrompt, sampleEvery, json, ...rest } = options;
  if (data === undefined)
    throw missing("--data", "the folder with the videos", `${self} train --data clips --steps 1000`);
  checkSampling(sampleEvery, samplePrompt);
  if (options.checkpoint !== undefined && !resume) {
    throw new Diagnostic({
      kind: "option",
      message: "--checkpoint continues a run, and --resume is not given",
      fix: "add --resume, or start a new run from these weights with --weights",
    });
  }
  const name = options.name ?? (resume ? latestRun(runs) : freeRunName(plan.model.name, runs));
  const outcome = await train(
    { ...rest, data, resume, runs, name, sampleEvery, samplePrompts: samplePrompt },
    { plan, soracc: carried.soracc, openDevice: () => carried.openDevice({ threads }), say },
  );
  if (json === true) print(JSON.stringify(asJson(outcome)));
  else
    for (const line of describeOutcome(outcome, { self, data })) (outcome.kind === "interrupted" ? say : print)(line);
  return outcome.kind === "interrupted" ? INTERRUPTED : 0;
}

const asJson = ({ run, kind, step, loss, seconds, tokens, checkpoint }: TrainOutcome): object => ({
  ...{ run: run.path, ended: kind, step, loss: Number.isFinite(loss) ? loss : null, seconds, tokens },
  checkpoint: checkpoint ?? null,
});

function checkSampling(every: number | undefined, prompts: readonly string[]): void {
  if (every !== undefined && prompts.length === 0) {
    throw missing("--sample-prompt", "what to sample", '--sample-every 500 --sample-prompt "a red circle moves left"');
  }
  if (every === undefined && prompts.length > 0)
    throw missing("--sample-every", "how often to sample", "--sample-every 500");
}

const missing = (option: string, what: string, example: string): Diagnostic =>
  new Diagnostic({ kind: "option", message: `${option} is missing: ${what}`, fix: `for example: ${example}` });

/** The run that was worked on last. */
function latestRun(runs: string): string {
  const names = existsSync(runs) ? readdirSync(runs).filter((name) => existsSync(join(runs, name, "checkpoints"))) : [];
  const changed = (name: string): number => statSync(join(runs, name, "checkpoints")).mtimeMs;
  const [latest] = names.sort((a, b) => changed(b) - changed(a));
  if (latest !== undefined) return latest;
  throw new Diagnostic({
    kind: "run",
    message: `there is no run in ${runs} to resume`,
    fix: "start one without --resume, or say where runs live with --runs",
  });
}
