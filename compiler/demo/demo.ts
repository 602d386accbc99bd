/**
 * From nothing to video: clips are drawn, a model is compiled, trained and asked for sixteen things it never saw.
 *
 * Every stage after the first is a command that a user could type, in a process of its own.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { CompilerBug } from "../../contract/diagnostic.ts";
import { mapInParallel } from "../../runtime/data/clips.ts";
import type { Frames } from "../../runtime/data/ffmpeg.ts";
import { describeProgram, findVideoTools, type VideoTools } from "../../runtime/data/ffmpeg-find.ts";
import { formatDuration, silentProgress, startProgress } from "../../runtime/observe/progress.ts";
import { writeContactSheet } from "../../runtime/sample/contact-sheet.ts";
import { runCommand, shellText } from "./child-command.ts";
import { choose, FRAMES, SIDE, type Choice } from "./choose.ts";
import { measure } from "./measure.ts";
import { claimOutputFolder, type OutputFolder } from "./output-folder.ts";
import { type JudgedSample, sampleRecord, totalsOf, type Totals } from "./report.ts";
import { sentenceOf, type Subject } from "./subject.ts";
import { checkClips, readVideo, writeClips } from "./write-clips.ts";

export interface DemoRequest {
  /** Decides clips, held-out combinations, initial weights, order of the data and noise. */
  readonly seed: number;
  readonly steps: number;
  /** How many clips are made. */
  readonly clips: number;
  readonly out: string;
  /** The package root. */
  readonly root: string;
  /** Lines on the way, in order. */
  readonly say: (line: string) => void;
}

export interface DemoResult {
  readonly seed: number;
  readonly steps: number;
  readonly folder: OutputFolder;
  readonly stages: readonly { readonly name: string; readonly seconds: number }[];
  readonly samples: readonly JudgedSample[];
  readonly totals: Totals;
}

/** Enough for colours, directions and one shape: see docs/measurements.md. */
export const RECIPE_STEPS = 2200;

export const RECIPE_CLIPS = 512;
/** So many clips are read back and measured before training. */
const CHECKED = 16;
/** Samples are tiny: their files are enlarged so that players show something. */
const ENLARGED = 8;

/** @throws Diagnostic of any stage; `Interrupted` after Ctrl-C */
export async function demo(request: DemoRequest): Promise<DemoResult> {
  const { seed, steps, root, say } = request;
  const tools = findVideoTools();
  const folder = claimOutputFolder(request.out);
  const chosen = choose(seed, request.clips);
  const launcher = join(root, "bin", "soracc.js");
  const binary = folder.binary;
  const stages: { readonly name: string; readonly seconds: number }[] = [];
  const stage = async <Result>(name: string, work: () => Promise<readonly [Result, string]>): Promise<Result> => {
    const started = performance.now();
    const [result, outcome] = await work();
    const seconds = (performance.now() - started) / 1000;
    stages.push({ name, seconds });
    say(`${stages.length}/${STAGES} ${name.padEnd(8)} ${outcome} (${formatDuration(seconds)})`);
    return result;
  };
  const command = (doing: string, script: string, words: readonly string[]): Promise<string> => {
    say(`    $ ${shellText({ script, words })}`);
    return runCommand({ doing, script, words });
  };

  say(
    `seed ${seed}, ${steps} training steps, ${describeProgram(tools.ffmpeg)}; training is most of the time, and says how long`,
  );
  await stage("clips", async () => [undefined, await makeClips(folder, chosen, tools)]);
  await stage("compile", async () => {
    const model = join(root, "models", "dit.sora.ts");
    await command("compiling", launcher, ["compile", model, "--preset", "demo", "-o", binary]);
    return [undefined, `${binary} from models/dit.sora.ts, preset demo`];
  });
  const run = await stage("train", async () => {
    const words = ["train", "--data", folder.clips, "--steps", String(steps), "--seed", String(seed)];
    const answer = await command("training", binary, [...words, "--runs", folder.runs, "--name", "demo", "--json"]);
    const outcome = answerOf("train", TRAINED, answer);
    return [outcome.run, `${outcome.step} steps, last loss ${outcome.loss?.toFixed(4) ?? "not finite"}`];
  });
  const files = await stage("sample", async () => {
    writeFileSync(folder.prompts, chosen.heldOut.map((subject) => `${sentenceOf(subject)}\n`).join(""));
    const words = ["sample", "--checkpoint", run, "--weights", "ema", "--prompts", folder.prompts];
    const shape = [
      "--batch",
      "16",
      "--scale",
      String(ENLARGED),
      "--seed",
      String(seed),
      "-o",
      folder.samples,
      "--json",
    ];
    const { videos } = answerOf("sample", SAMPLED, await command("sampling", binary, [...words, ...shape]));
    return [videos.map(({ file }) => file), `${videos.length} videos in ${folder.samples}`];
  });
  const samples = await stage("measure", async () => {
    const judged = await judge(files, chosen.heldOut, folder, tools);
    return [judged, `rows of ${folder.sheet} are the prompts, columns the frames`];
  });
  const result = { seed, steps, folder, stages, samples, totals: totalsOf(samples) };
  writeFileSync(folder.result, `${JSON.stringify(resultRecord(result), null, 2)}\n`);
  return result;
}

const STAGES = 5;

async function makeClips(folder: OutputFolder, { clips, heldOut }: Choice, tools: VideoTools): Promise<string> {
  const progress = process.stderr.isTTY
    ? await startProgress({ label: "clips", total: clips.length, unit: "clip" })
    : silentProgress;
  try {
    await writeClips(folder.clips, clips, tools, progress.update);
  } finally {
    progress.stop();
  }
  const checked = await checkClips(folder.clips, clips.slice(0, CHECKED), tools);
  const combinations = new Set(clips.map(({ subject }) => sentenceOf(subject))).size;
  return (
    `${clips.length} videos of ${FRAMES} frames, ${SIDE}x${SIDE}, with captions, in ${folder.clips}: ` +
    `${combinations} combinations of colour, shape and direction, ${heldOut.length} held out; ` +
    `${checked.length} read back, all measure right`
  );
}

/** Samples as files, back to the size they were made in, each held against its prompt; and all in one picture. */
async function judge(
  files: readonly string[],
  subjects: readonly Subject[],
  folder: OutputFolder,
  tools: VideoTools,
): Promise<readonly JudgedSample[]> {
  const videos = await mapInParallel(files, 2, async (file) => {
    const video = await readVideo(file, tools);
    return shrink(video, Math.round(video.height / SIDE));
  });
  await writeContactSheet(folder.sheet, videos);
  return videos.map((video, index) => {
    const subject = subjects[index];
    const file = files[index];
    if (subject === undefined || file === undefined) throw new CompilerBug("demo", "more samples than prompts");
    return { file, subject, ...measure(video, subject) };
  });
}

/** Each square of `factor` by `factor` pixels becomes one, their mean. */
export function shrink({ data, frames, height, width }: Frames, factor: number): Frames {
  const [rows, columns] = [Math.floor(height / factor), Math.floor(width / factor)];
  const sums = new Float64Array(frames * rows * columns * 3);
  for (let t = 0; t < frames; t++) {
    for (let y = 0; y < rows * factor; y++) {
      for (let x = 0; x < columns * factor; x++) {
        const from = ((t * height + y) * width + x) * 3;
        const to = ((t * rows + Math.floor(y / factor)) * columns + Math.floor(x / factor)) * 3;
        for (let c = 0; c < 3; c++) sums[to + c]! += data[from + c]!;
      }
    }
  }
  return { data: Uint8Array.from(sums, (sum) => Math.round(sum / factor ** 2)), frames, height: rows, width: columns };
}

const TRAINED = z.object({ run: z.string(), step: z.number(), loss: z.number().nullable() });
const SAMPLED = z.object({ videos: z.array(z.object({ prompt: z.string(), file: z.string() })) });

/** The last line of a command's output, which --json makes an object. */
function answerOf<Schema extends z.ZodType>(name: string, schema: Schema, output: string): z.infer<Schema> {
  try {
    return schema.parse(JSON.parse(output.trim().split("\n").at(-1) ?? ""));
  } catch (error) {
    throw new CompilerBug("demo", `${name} --json answered ${JSON.stringify(output.slice(0, 200))}: ${String(error)}`);
  }
}

export const resultRecord = ({ seed, steps, folder, stages, samples, totals }: DemoResult): object => ({
  ...{ seed, steps, folder: folder.path, binary: folder.binary, sheet: folder.sheet },
  stages: stages.map(({ name, seconds }) => ({ name, seconds: Number(seconds.toFixed(2)) })),
  samples: samples.map(sampleRecord),
  totals,
});
