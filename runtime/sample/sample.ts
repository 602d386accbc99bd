/** Prompts to video files, a batch at a time. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, extname, join } from "node:path";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { isSystemError } from "../../contract/atomic-file.ts";
import type { Plan } from "../../contract/plan.ts";
import { evaluateSize } from "../../contract/size.ts";
import type { LoadedCheckpoint } from "../checkpoint/checkpoint.ts";
import { findVideoTools, type VideoTools } from "../data/ffmpeg-find.ts";
import { builtInTextEncoder } from "../data/text.ts";
import type { Device } from "../devices/device.ts";
import { startProgress } from "../observe/progress.ts";
import { recipeOf, requireRawPixels, textDimOf } from "../program/facts.ts";
import { programNamed } from "../program/fill.ts";
import { loadPrograms } from "../program/load.ts";
import { slugOf } from "../train/samples.ts";
import { loadSection } from "../train/training-state.ts";
import { checkSize, chooseSampler, samplingForm, samplingPrograms, openSampler, type SampleSize } from "./sampler.ts";
import { videoFormatOf, writeVideo } from "./video-file.ts";
import { openWeights } from "./weights.ts";

export interface SampleRequest {
  readonly checkpoint: string;
  readonly weights?: "ema" | "model" | undefined;
  readonly prompts: readonly string[];
  readonly steps?: number | undefined;
  readonly guidance?: number | undefined;
  readonly sampler?: string | undefined;
  readonly seed: number;
  readonly width?: number | undefined;
  readonly height?: number | undefined;
  readonly framesPerSecond?: number | undefined;
  readonly seconds?: number | undefined;
  readonly frames?: number | undefined;
  /** Videos per batch. */
  readonly batch: number;
  /** Each pixel becomes a square of this side. */
  readonly scale: number;
  readonly output?: string | undefined;
  readonly force: boolean;
}

export interface SampleContext {
  readonly plan: Plan;
  readonly openDevice: () => Promise<Device>;
  readonly say: (line: string) => void;
}

export interface SampledVideo {
  readonly prompt: string;
  readonly file: string;
}

/** @throws Diagnostic before anything is computed, as far as a mistake can be seen then */
export async function sample(request: SampleRequest, context: SampleContext): Promise<readonly SampledVideo[]> {
  const { plan, say } = context;
  const sampler = chooseSampler(plan, request.sampler);
  const form = samplingForm(plan, sampler);
  requireRawPixels(form);
  const recipe = recipeOf(plan);
  const settings = {
    ...{ sampler, seed: request.seed },
    steps: request.steps ?? recipe.steps,
    guidance: request.guidance ?? recipe.guidance,
  };
  const files = outputFiles(request);
  const tools = files.some((file) => videoFormatOf(file) === "mp4") ? findVideoTools() : undefined;
  const { checkpoint, section, description, extra } = openWeights(request.checkpoint, plan, request.weights);
  let device: Device | undefined;
  try {
    const { size, framesPerSecond } = sizeFor(request, checkpoint);
    checkSize(size, form.patch);
    say(`weights: ${description}`);
    if (extra.length > 0)
      say(`  the file has ${extra.length} tensors more than the model: ${extra.slice(0, 5).join(", ")}`);
    const textDim = textDimOf(plan, `sample.${sampler}`);
    const encoder = builtInTextEncoder(Math.max(textDim, 1));
    say(textDim === 0 ? "text: this model reads none" : `text: ${encoder.name}, ${textDim} wide`);
    say(
      `sampling ${request.prompts.length} ${request.prompts.length === 1 ? "video" : "videos"} of ${size.frames} frames, ${size.width}x${size.height}: ` +
        `${sampler}, ${settings.steps} steps, guidance ${settings.guidance}, seed ${settings.seed}`,
    );
    device = await context.openDevice();
    const loaded = await loadPrograms(device, plan, samplingPrograms(sampler));
    const parameters = loaded.createState("parameters", "f32", arenaElements(plan, `sample.${sampler}`));
    loadSection(checkpoint, plan, section, parameters);
    const videoSampler = openSampler({ loaded, parameters, encoder });
    const batches = Math.ceil(request.prompts.length / request.batch);
    const progress = await startProgress({ label: "sampling", total: batches * settings.steps });
    try {
      for (let first = 0, number = 0; first < request.prompts.length; first += request.batch, number++) {
        const prompts = request.prompts.slice(first, first + request.batch);
        const seed = seedOfBatch(settings.seed, number);
        const videos = await videoSampler.sample(prompts, { ...settings, size, seed }, (done) =>
          progress.update(number * settings.steps + done),
        );
        for (const [index, video] of videos.entries()) {
          await writeOne(files[first + index]!, video, framesPerSecond, request.scale, tools);
        }
      }
    } finally {
      progress.stop();
    }
    return request.prompts.map((prompt, index) => ({ prompt, file: files[index]! }));
  } finally {
    checkpoint.close();
    await device?.close();
  }
}

const writeOne = (
  file: string,
  video: Parameters<typeof writeVideo>[1],
  framesPerSecond: number,
  scale: number,
  tools: VideoTools | undefined,
): Promise<void> => writeVideo(file, video, { framesPerSecond, scale, ...(tools === undefined ? {} : { tools }) });

/** Noise is counted from the start of each batch; another seed keeps batches from sampling the same noise. */
const seedOfBatch = (seed: number, batch: number): number => (seed + Math.imul(batch, 0x9e3779b1)) >>> 0;

function arenaElements(plan: Plan, program: string): number {
  const port = programNamed(plan.programs, program).state.find(({ name }) => name === "parameters");
  return port?.axes.reduce((count, { size }) => count * evaluateSize(size, new Map()), 1) ?? 1;
}

/** What is asked for; where nothing is, the shape of most clips the weights were trained on. */
function sizeFor(
  { width, height, frames, seconds, framesPerSecond }: SampleRequest,
  { state, path }: LoadedCheckpoint,
): { readonly size: SampleSize; readonly framesPerSecond: number } {
  const trained = (name: string): number | undefined => state?.counters[`sample.${name}`];
  const fps = framesPerSecond ?? trained("fps") ?? 8;
  const size = {
    width: width ?? trained("width"),
    height: height ?? trained("height"),
    frames: frames ?? (seconds === undefined ? trained("frames") : Math.round(seconds * fps)),
  };
  const missing = Object.entries(size).flatMap(([name, value]) => (value === undefined ? [name] : []));
  if (size.width === undefined || size.height === undefined || size.frames === undefined) {
    throw new Diagnostic({
      kind: "size",
      message: `the size of the video is not said (${missing.join(", ")}), and these weights do not tell it`,
      where: { file: path },
      fix: "give --width, --height, --fps and --seconds",
    });
  }
  return { size: { width: size.width, height: size.height, frames: size.frames }, framesPerSecond: fps };
}

/** One prompt per line; empty lines do not count. @throws Diagnostic */
export function readPrompts(path: string): readonly string[] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new Diagnostic({
      kind: "prompts",
      message: error.code === "ENOENT" ? "there is no such file" : `it cannot be read (${error.code})`,
      where: { file: path },
      fix: "correct --prompts",
    });
  }
  const prompts = text.split("\n").map((line) => line.trim()).filter((line) => line !== ""); // prettier-ignore
  if (prompts.length > 0) return prompts;
  throw new Diagnostic({
    kind: "prompts",
    message: "there is no prompt in this file",
    where: { file: path },
    fix: "write one prompt per line",
  });
}

/** `out.mp4`; for several prompts `out-01.mp4` … or, in a folder, names made of the prompts. */
function outputFiles({ output, prompts, force }: SampleRequest): readonly string[] {
  const isFolder =
    output !== undefined && (extname(output) === "" || (existsSync(output) && statSync(output).isDirectory()));
  const digits = Math.max(2, String(prompts.length).length);
  const number = (index: number): string => String(index + 1).padStart(digits, "0");
  const base = output ?? freeName(prompts.length);
  const files = prompts.map((prompt, index) => {
    if (isFolder) return join(base, `${number(index)}-${slugOf(prompt)}.mp4`);
    if (prompts.length === 1) return base;
    return join(dirname(base), `${basename(base, extname(base))}-${number(index)}${extname(base)}`);
  });
  for (const file of files) videoFormatOf(file);
  const taken = files.filter((file) => existsSync(file));
  if (taken.length === 0 || force) return files;
  throw new Diagnostic({
    kind: "output",
    message: `${taken[0]} exists${taken.length > 1 ? `, and ${taken.length - 1} more` : ""}`,
    fix: "choose another name with -o, or replace with --force",
  });
}

/** `sample.mp4`, `sample-2.mp4` …: the first that nothing has. */
function freeName(count: number): string {
  for (let number = 1; ; number++) {
    const base = number === 1 ? "sample" : `sample-${number}`;
    if (!existsSync(`${base}.mp4`) && (count === 1 || !existsSync(`${base}-01.mp4`))) return `${base}.mp4`;
  }
}
