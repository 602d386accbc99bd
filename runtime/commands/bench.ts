/** `./dit bench` */
import type { Command } from "commander";
import { formatBytes } from "../../contract/atomic-file.ts";
import { recipeOf, videoFormOf } from "../program/facts.ts";
import { programNamed } from "../program/fill.ts";
import { bench, type BenchResult } from "../train/bench.ts";
import { examples, type CommandContext } from "./command.ts";
import { wholeNumber } from "./options.ts";

interface Options {
  readonly batch?: number;
  readonly frames: number;
  readonly width?: number;
  readonly height?: number;
  readonly textTokens: number;
  readonly steps: number;
  readonly warmup: number;
  readonly threads?: number;
  readonly profile?: true;
  readonly json?: true;
}

export function benchCommand(program: Command, context: CommandContext, end: (exitCode: number) => void): void {
  const { self } = context;
  program
    .command("bench")
    .description("time the training step on synthetic clips")
    .option("--batch <n>", "clips per step (default: the model's recipe)", wholeNumber(1))
    .option("--frames <n>", "frames per clip", wholeNumber(1), 8)
    .option("--width <pixels>", "default: 6 patches", wholeNumber(1))
    .option("--height <pixels>", "default: 6 patches", wholeNumber(1))
    .option("--text-tokens <n>", "words per caption", wholeNumber(1), 12)
    .option("--steps <n>", "steps that are timed", wholeNumber(1), 10)
    .option("--warmup <n>", "steps before them", wholeNumber(0), 2)
    .option("--threads <n>", "threads (default: SORACC_THREADS, else all)", wholeNumber(1))
    .option("--profile", "time, GFLOP/s, GB/s and share of what bounds it, per kernel")
    .option("--json", "print the result as JSON")
    .addHelpText(
      "after",
      examples([`${self} bench`, `${self} bench --batch 4 --frames 16 --width 64 --height 64 --profile`]),
    )
    .action(async (options: Options) => {
      await run(options, context);
      end(0);
    });
}

async function run(options: Options, { carried, print }: CommandContext): Promise<void> {
  const plan = carried.plan();
  const { patch } = videoFormOf(
    "accumulate",
    programNamed(plan.programs, "accumulate").inputs.find(({ name }) => name === "x"),
  );
  const {
    frames,
    width = 6 * patch,
    height = 6 * patch,
    steps,
    warmup,
    textTokens,
    threads,
    profile = false,
  } = options;
  const batch = options.batch ?? recipeOf(plan).batch;
  const size = { frames, height, width };
  const request = { size, batch, textTokens, steps, warmup, profile };
  const result = await bench(plan, () => carried.openDevice({ threads }), request);
  if (options.json === true) {
    const { kernels, peaks, ...rest } = result;
    print(JSON.stringify({ ...rest, batch, steps, ...(profile ? { kernels, peaks: peaks ?? null } : {}) }));
    return;
  }
  for (const line of describe(result, batch, steps, profile)) print(line);
}

function describe(result: BenchResult, batch: number, steps: number, profile: boolean): readonly string[] {
  const { median, least, most } = result.milliseconds;
  return [
    `${batch} clips of ${result.tokensPerClip} tokens, ${result.launches} launches, on ${result.device}`,
    `${median.toFixed(1)} ms per step (${least.toFixed(1)} to ${most.toFixed(1)} over ${steps}), ` +
      `${Math.round(result.tokensPerSecond)} tokens/s, memory ${formatBytes(result.peakBytes)}`,
    ...(profile ? describeKernels(result) : []),
  ];
}

const SHOWN = 20;

function describeKernels({ kernels, peaks }: BenchResult): readonly string[] {
  const percent = (share: number | null): string => (share === null ? "" : `${(share * 100).toFixed(1)} %`);
  const rows = kernels
    .slice(0, SHOWN)
    .map(({ kernel, launches, milliseconds, share, gflops, gigabytes, ofPeak }) => [
      kernel,
      `${launches} x`,
      milliseconds.toFixed(2),
      percent(share),
      gflops === null ? "" : gflops.toFixed(0),
      gigabytes.toFixed(1),
      percent(ofPeak),
    ]);
  const rest = kernels.slice(SHOWN);
  const restTime = rest.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  const titles = ["kernel", "launches", "ms", "of all", "GFLOP/s", "GB/s", "of peak"];
  const widths = titles.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)));
  const line = (row: readonly string[]): string =>
    row
      .map((text, i) => (i === 0 ? text.padEnd(widths[i]!) : text.padStart(widths[i]!)))
      .join("  ")
      .trimEnd();
  return [
    "",
    ...[titles, ...rows].map(line),
    ...(rest.length === 0 ? [] : [`and ${rest.length} more, ${restTime.toFixed(2)} ms`]),
    ...(peaks === undefined
      ? []
      : [
          `peaks of this machine: ${peaks.gflops.f32.toFixed(0)} GFLOP/s in f32, ${peaks.gflops.bf16.toFixed(0)} in bf16, ` +
            `${peaks.gigabytes.toFixed(1)} GB/s; a kernel is bounded by its products or by its memory`,
        ]),
  ];
}
