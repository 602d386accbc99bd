// Clips as files: what the video program makes of tiny pictures still measures right, and captions can be read back.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { choose } from "../../compiler/demo/choose.ts";
import { shrink } from "../../compiler/demo/demo.ts";
import { drawClip } from "../../compiler/demo/draw.ts";
import { COLOUR_NAMES } from "../../compiler/demo/subject.ts";
import { checkClips, nameOfClip, readVideo, writeClips } from "../../compiler/demo/write-clips.ts";
import { readCaptions } from "../../runtime/data/captions.ts";
import { encodeMp4 } from "../../runtime/data/ffmpeg.ts";
import { findVideoTools } from "../../runtime/data/ffmpeg-find.ts";
import { enlarge } from "../../runtime/sample/video-file.ts";

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "soracc-clips-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("clips of all colours survive compression, and their captions are found", async () => {
  const tools = findVideoTools();
  const { clips } = choose(4, 40);
  expect(new Set(clips.map(({ subject }) => subject.colour)).size).toBe(COLOUR_NAMES.length);
  await writeClips(folder, clips, tools);
  const judged = await checkClips(folder, clips, tools);
  expect(judged).toHaveLength(40);
  for (const { colour, oneObject } of judged) {
    expect(colour.share).toBeGreaterThan(0.75);
    expect(oneObject.largestArea).toBeLessThan(0.3);
  }
  const { samples, withoutCaption } = readCaptions(folder);
  expect([samples.length, withoutCaption.length]).toEqual([80, 0]);
  expect(samples[0]).toMatchObject({ file: nameOfClip(0), caption: clips[0]?.captions[0] });
});

test("a clip that shows something else is found before training", async () => {
  const tools = findVideoTools();
  const [first, second] = choose(4, 40).clips.filter(({ subject }) => subject.colour === "blue");
  if (first === undefined || second === undefined) throw new Error("forty clips show each colour twice");
  await encodeMp4(join(folder, "swapped", nameOfClip(0)), drawClip(second), 8, tools);
  const wrong = { ...first, subject: { ...first.subject, colour: "yellow" } } as const;
  await expect(checkClips(join(folder, "swapped"), [wrong], tools)).rejects.toThrow(
    /does not show a yellow \w+ moving \w+ any more\n {2}colour blue, [^]*fix: use another ffmpeg/,
  );
});

test("an enlarged video comes back as it was", async () => {
  const tools = findVideoTools();
  const clip = drawClip(choose(4, 1).clips[0]!);
  expect(shrink(enlarge(clip, 8), 8)).toEqual(clip);
  await encodeMp4(join(folder, "large.mp4"), enlarge(clip, 8), 8, tools);
  const back = shrink(await readVideo(join(folder, "large.mp4"), tools), 8);
  const errors = back.data.map((value, i) => Math.abs(value - clip.data[i]!));
  expect(errors.reduce((sum, error) => sum + error, 0) / errors.length).toBeLessThan(2);
});
