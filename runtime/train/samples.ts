/** Videos of a run while it trains: the same prompts, the same noise, the averaged weights of the step. */
import { join } from "node:path";
import { recipeOf } from "../program/facts.ts";
import { chooseSampler, type VideoSampler } from "../sample/sampler.ts";
import { writeVideo } from "../sample/video-file.ts";
import type { Clip } from "../data/clips.ts";
import type { LoopContext } from "./loop.ts";

/** Videos have the size of `like`. Returns the paths written. */
export async function sampleWhileTraining(
  context: LoopContext,
  sampler: VideoSampler,
  step: number,
  like: Clip,
): Promise<readonly string[]> {
  const { plan, run, form, request, course } = context;
  const { steps, guidance } = recipeOf(plan);
  const { patch } = form;
  const videos = await sampler.sample(request.samplePrompts, {
    size: { frames: like.frames, height: like.rows * patch, width: like.columns * patch },
    ...{ seed: course.seed, sampler: chooseSampler(plan, undefined), steps, guidance },
  });
  const paths = videos.map((_, index) => join(run.samples, nameOf(step, index, request.samplePrompts[index] ?? "")));
  for (const [index, video] of videos.entries()) {
    await writeVideo(paths[index]!, video, { framesPerSecond: like.framesPerSecond });
  }
  return paths;
}

const nameOf = (step: number, index: number, prompt: string): string =>
  `step-${String(step).padStart(6, "0")}-${String(index + 1).padStart(2, "0")}-${slugOf(prompt)}.mp4`;

/** A caption as a part of a file name: letters, digits and dashes, no more than 40. */
export const slugOf = (prompt: string): string =>
  prompt
    .normalize("NFKC")
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, "-")
    .slice(0, 40)
    .replace(/^-+|-+$/g, "") || "video";
