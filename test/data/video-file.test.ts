/** What sampling writes: .mp4 and .gif by name, and one picture of many videos. */
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PNG } from "pngjs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { decode, probe } from "../../runtime/data/ffmpeg.ts";
import { findVideoTools } from "../../runtime/data/ffmpeg-find.ts";
import { contactSheet, writeContactSheet } from "../../runtime/sample/contact-sheet.ts";
import { enlarge, videoFormatOf, writeVideo } from "../../runtime/sample/video-file.ts";
import { largestDifference, movingSquare } from "./clips.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "soracc-sample-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("a .gif holds the very same pixels, its frames and its rate", async () => {
  const tools = findVideoTools();
  const path = join(folder, "new", "a.GIF");
  const video = movingSquare({ width: 31, height: 17 });
  await writeVideo(path, video, { framesPerSecond: 8 });
  expect(readFileSync(path).subarray(0, 6).toString("latin1")).toBe("GIF89a");
  const facts = await probe(path, tools);
  expect([facts.width, facts.height, facts.frames]).toEqual([31, 17, 8]);
  expect(facts.durationSeconds).toBeCloseTo(1, 1);
  const decoded = await decode(path, facts, tools);
  // The palette keeps 5 or 6 bits per channel.
  expect(largestDifference(decoded.data, video.data)).toBeLessThanOrEqual(8);
});

test("an .mp4 may be enlarged, pixels stay squares", async () => {
  const tools = findVideoTools();
  const path = join(folder, "a.mp4");
  await writeVideo(path, movingSquare(), { framesPerSecond: 8, scale: 3, tools });
  const facts = await probe(path, tools);
  expect([facts.width, facts.height, facts.frames]).toEqual([72, 72, 8]);
  const large = enlarge({ data: Uint8Array.of(1, 2, 3, 4, 5, 6), frames: 1, height: 1, width: 2 }, 2);
  expect([...large.data]).toEqual([1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6, 1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6]);
});

test.each(["a.avi", "a", "mp4", "a.mp4.txt"])("%s names no kind of video, and nothing is written", async (name) => {
  expect(() => videoFormatOf(name)).toThrow(/names no kind of video[^]*fix: end the name in .mp4 or .gif/);
  await expect(writeVideo(join(folder, name), movingSquare(), { framesPerSecond: 8 })).rejects.toThrow(
    /no kind of video/,
  );
  expect(existsSync(join(folder, name))).toBe(false);
});

test("a contact sheet has a row per video and a column per frame", async () => {
  const path = join(folder, "sheets", "sheet.png");
  const red = movingSquare({ frames: 2, height: 10, width: 12, colour: [250, 0, 0] });
  const small = movingSquare({ frames: 1, height: 10, width: 8, colour: [0, 250, 0] });
  const sheet = await writeContactSheet(path, [red, small], { scale: 2, gap: 3 });
  expect([sheet.width, sheet.height]).toEqual([2 * (24 + 3) + 3, 2 * (20 + 3) + 3]);
  const png = PNG.sync.read(readFileSync(path));
  expect([png.width, png.height]).toEqual([sheet.width, sheet.height]);
  const at = (x: number, y: number): number[] => [
    ...png.data.subarray((y * png.width + x) * 4, (y * png.width + x) * 4 + 3),
  ];
  const [background, red250, green250, grey] = [
    [30, 30, 30],
    [250, 0, 0],
    [0, 250, 0],
    [112, 112, 112],
  ];
  expect(at(0, 3)).toEqual(grey);
  expect(at(3, 3)).toEqual(background); // first frame, its upper left
  expect(at(27, 3)).toEqual(grey); // the gap
  expect(at(30, 3)).toEqual(background); // second frame
  expect(at(3, 3 + 2 * 8)).toEqual(red250); // the square starts at x = 0 in frame 0
  expect(at(30, 3 + 2 * 8)).toEqual(background); // and at x = 1 in frame 1
  expect(at(32, 3 + 2 * 8)).toEqual(red250);
  expect(at(3, 26 + 2 * 8)).toEqual(green250); // second video
  expect(at(30, 26)).toEqual(grey); // which has one frame only
  expect(readdirSync(join(folder, "sheets"))).toEqual(["sheet.png"]);
});

test("videos may stand side by side, and no video at all is an empty sheet", () => {
  const video = movingSquare({ frames: 2 });
  const sheet = contactSheet([video, video, video], { scale: 1, gap: 2, videosPerRow: 2 });
  expect([sheet.width, sheet.height]).toEqual([2 * (2 * 26 + 2), 2 * 26 + 2]);
  expect(contactSheet([]).data.length).toBeGreaterThan(0);
});
