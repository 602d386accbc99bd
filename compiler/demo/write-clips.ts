/** Recipes to a data folder as any other: .mp4 files and captions.jsonl. */
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { ensureFolder, writeFileAtomically } from "../../contract/atomic-file.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { mapInParallel } from "../../runtime/data/clips.ts";
import { decode, encodeMp4, type Frames, probe } from "../../runtime/data/ffmpeg.ts";
import type { VideoTools } from "../../runtime/data/ffmpeg-find.ts";
import { type ClipRecipe, FRAMES_PER_SECOND } from "./choose.ts";
import { drawClip } from "./draw.ts";
import { type Judged, measure, passed } from "./measure.ts";
import { sentenceOf } from "./subject.ts";

export const nameOfClip = (index: number): string => `clip-${String(index + 1).padStart(3, "0")}.mp4`;

/** @throws Diagnostic when a file cannot be written */
export async function writeClips(
  folder: string,
  clips: readonly ClipRecipe[],
  tools: VideoTools,
  onProgress: (done: number) => void = () => undefined,
): Promise<void> {
  ensureFolder(folder, "output");
  let done = 0;
  await mapInParallel([...clips.entries()], availableParallelism(), async ([index, clip]) => {
    await encodeMp4(join(folder, nameOfClip(index)), drawClip(clip), FRAMES_PER_SECOND, tools);
    onProgress(++done);
  });
  const lines = clips.map(({ captions }, index) => `${JSON.stringify({ file: nameOfClip(index), captions })}\n`);
  const text = new TextEncoder().encode(lines.join(""));
  writeFileAtomically(join(folder, "captions.jsonl"), [text], { kind: "output", bytesNeeded: text.byteLength });
}

/** Every frame of a video that this demo or its model made. */
export async function readVideo(file: string, tools: VideoTools): Promise<Frames> {
  return decode(file, await probe(file, tools), tools);
}

/**
 * Reads some clips back and measures them as samples will be measured: what compression does to tiny clips must not
 * count against the model, and a video program that changes colours is found before training, not after.
 * @throws Diagnostic when a clip does not show what was drawn
 */
export async function checkClips(
  folder: string,
  clips: readonly ClipRecipe[],
  tools: VideoTools,
): Promise<readonly Judged[]> {
  return mapInParallel([...clips.entries()], availableParallelism(), async ([index, { subject }]) => {
    const file = join(folder, nameOfClip(index));
    const judged = { subject, ...measure(await readVideo(file, tools), subject) };
    if (passed(judged)) return judged;
    throw new Diagnostic({
      kind: "video",
      message: `${file} does not show ${sentenceOf(subject)} any more`,
      details: [
        `colour ${judged.colour.seen}, direction ${judged.direction.seen}, largest piece ${judged.oneObject.largestPiece.toFixed(2)}`,
        `written and read with ${tools.ffmpeg.path}`,
      ],
      fix: "use another ffmpeg: name it with SORACC_FFMPEG and SORACC_FFPROBE",
    });
  });
}
