/** `./dit sample`: options to a request. */
import { Option, type Command } from "commander";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { readPrompts, sample } from "../sample/sample.ts";
import { samplersOf } from "../sample/sampler.ts";
import { examples, type CommandContext } from "./command.ts";
import { anyNumber, positiveNumber, seed, several, wholeNumber } from "./options.ts";
import { acceptPublished, SAMPLE_ALIASES } from "./published-options.ts";

interface Options {
  readonly checkpoint?: string;
  readonly weights?: "ema" | "model";
  readonly prompt: readonly string[];
  readonly prompts?: string;
  readonly steps?: number;
  readonly guidance?: number;
  readonly sampler?: string;
  readonly seed: number;
  readonly width?: number;
  readonly height?: number;
  readonly fps?: number;
  readonly seconds?: number;
  readonly frames?: number;
  readonly batch: number;
  readonly scale: number;
  readonly output?: string;
  readonly force?: true;
  readonly threads?: number;
  readonly json?: true;
}

export function sampleCommand(program: Command, context: CommandContext, end: (exitCode: number) => void): void {
  const { self } = context;
  const command = program
    .command("sample")
    .description("make videos from texts")
    .option("--checkpoint <path>", "a run folder, a checkpoint, or published weights (safetensors)")
    .addOption(
      new Option("--weights <which>", "averaged or plain weights (default: ema where there are some)").choices([
        "ema",
        "model",
      ]),
    )
    .option("--prompt <text>", "what to show; may be given several times", several, [])
    .option("--prompts <file>", "one prompt per line")
    .option("--steps <n>", "sampling steps (default: the model's recipe)", wholeNumber(1))
    .option("--guidance <x>", "how strongly the text steers; 1 is off (default: the model's recipe)", anyNumber)
    .option("--sampler <name>", "one of the model's samplers; see info")
    .option("--seed <n>", "decides the noise", seed, 0)
    .option("--width <pixels>", "default: as most clips of the training data", wholeNumber(0))
    .option("--height <pixels>", "default: as most clips of the training data", wholeNumber(0))
    .option("--fps <n>", "frames per second (default: as the training data)", positiveNumber)
    .option("--seconds <n>", "length of the video (default: as the training data)", anyNumber)
    .option("--frames <n>", "or: its length in frames", wholeNumber(0))
    .option("--batch <n>", "videos sampled at once", wholeNumber(1), 8)
    .option("--scale <n>", "enlarge every pixel to a square of this side", wholeNumber(1), 1)
    .option("-o, --output <path>", "an .mp4 or .gif, or a folder (default: sample.mp4)")
    .option("--force", "replace files that exist")
    .option("--threads <n>", "threads (default: SORACC_THREADS, else all)", wholeNumber(1))
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      examples([
        `${self} sample --checkpoint runs/first --prompt "a red circle moves left" -o circle.mp4`,
        `${self} sample --checkpoint runs/first --prompts prompts.txt -o samples/ --seed 7`,
        `${self} sample --checkpoint weights.safetensors --prompt "waves" --width 256 --height 256 --fps 8 --seconds 2 -o waves.gif`,
      ]),
    );
  acceptPublished(command, SAMPLE_ALIASES);
  command.action(async (options: Options) => {
    await run(options, context);
    end(0);
  });
}

async function run(options: Options, { carried, self, print, say }: CommandContext): Promise<void> {
  const plan = carried.plan();
  const { checkpoint, prompt, prompts: file, fps, threads, json, force = false, ...rest } = options;
  if (checkpoint === undefined) {
    throw new Diagnostic({
      kind: "option",
      message: "--checkpoint is missing: the weights to sample from",
      details: [`samplers  ${samplersOf(plan).join(", ") || "none"}`],
      fix: `for example: ${self} sample --checkpoint runs/${plan.model.name} --prompt "a red circle moves left"`,
    });
  }
  const prompts = [...prompt, ...(file === undefined ? [] : readPrompts(file))];
  if (prompts.length === 0) {
    throw new Diagnostic({
      kind: "option",
      message: "there is no prompt: what should be shown?",
      fix: 'give --prompt "a red circle moves left", or --prompts FILE with one prompt per line',
    });
  }
  const made = await sample(
    { ...rest, checkpoint, prompts, framesPerSecond: fps, force },
    { plan, openDevice: () => carried.openDevice({ threads }), say },
  );
  if (json === true) print(JSON.stringify({ videos: made }));
  else for (const { file: written, prompt: text } of made) print(`${written}  ${text}`);
}
