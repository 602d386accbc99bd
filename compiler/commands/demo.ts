/** `soracc demo`: from nothing to video in minutes. */
import { InvalidArgumentError, type Command } from "commander";
import { resolve } from "node:path";

interface Options {
  readonly seed: number;
  readonly steps?: number;
  readonly clips?: number;
  readonly out: string;
  readonly json?: true;
}

const EXAMPLES = `
Examples:
  npm run demo
  npm run demo -- --seed 7 --out /tmp/demo-7
  soracc demo --steps 1000 --json`;

export function configure(command: Command, finish: (exitCode: number) => void): void {
  command
    .option("--seed <n>", "decides clips, held-out combinations, initial weights and noise", wholeNumber(0), 1)
    .option("--steps <n>", "training steps (default: the recipe's)", wholeNumber(1))
    .option("--clips <n>", "clips to draw (default: the recipe's)", wholeNumber(1))
    .option("--out <folder>", "where everything goes; a folder of the demo's own", "demo-out")
    .option("--json", "one JSON object on standard output, all else on standard error")
    .addHelpText("after", EXAMPLES)
    .action(async (options: Options) => finish(await run(options)));
}

async function run({ seed, steps, clips, out, json }: Options): Promise<number> {
  const { demo, RECIPE_CLIPS, RECIPE_STEPS, resultRecord } = await import("../demo/demo.ts");
  const { sampleTable, totalsText } = await import("../demo/report.ts");
  const { Interrupted, INTERRUPTED } = await import("../demo/child-command.ts");
  const { formatDuration } = await import("../../runtime/observe/progress.ts");
  const stream = json === true ? process.stderr : process.stdout;
  const say = (line: string): void => void stream.write(`${line}\n`);
  const root = process.env["SORACC_ROOT"] ?? process.cwd();
  const started = performance.now();
  try {
    const result = await demo({ seed, steps: steps ?? RECIPE_STEPS, clips: clips ?? RECIPE_CLIPS, out, root, say });
    if (json === true) process.stdout.write(`${JSON.stringify(resultRecord(result))}\n`);
    for (const line of sampleTable(result.samples)) say(line);
    say(`videos         ${resolve(result.folder.samples)}`);
    say(`contact sheet  ${resolve(result.folder.sheet)}`);
    say(`${totalsText(result.totals)}  (${formatDuration((performance.now() - started) / 1000)} in all)`);
    return 0;
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    say("interrupted; npm run demo starts again from the beginning");
    return INTERRUPTED;
  }
}

const wholeNumber =
  (least: number) =>
  (text: string): number => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value < 2 ** 32) return value;
    throw new InvalidArgumentError(`A whole number from ${least} to ${2 ** 32 - 1} is expected.`);
  };
