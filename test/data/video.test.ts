/** Real video files through real programs: what was written comes back, what is damaged is told apart and told. */
import { execFileSync } from "node:child_process";
import {
  accessSync,
  chmodSync,
  constants,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { createClipStore } from "../../runtime/data/clip-store.ts";
import { describeQuarantined, scanClips, shapeTable } from "../../runtime/data/clips.ts";
import { openDataset } from "../../runtime/data/dataset.ts";
import { type VideoFacts, decode, encodeMp4, probe } from "../../runtime/data/ffmpeg.ts";
import { PACKAGED_NOTE, describeProgram, findProgram, findVideoTools } from "../../runtime/data/ffmpeg-find.ts";
import { largestDifference, movingSquare } from "./clips.ts";

const tools = findVideoTools();
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "soracc-video-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const ffmpeg = (...flags: string[]): void => {
  execFileSync(tools.ffmpeg.path, ["-v", "error", "-nostdin", ...flags], { stdio: ["ignore", "ignore", "inherit"] });
};

async function diagnosticOf(work: Promise<unknown>): Promise<Diagnostic> {
  try {
    await work;
  } catch (error) {
    if (error instanceof Diagnostic) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

/** A video of which the header is whole and the pictures are cut off in the middle. */
async function truncatedVideo(path: string): Promise<void> {
  await encodeMp4(path, movingSquare({ frames: 24, height: 64, width: 64 }), 8, tools);
  const bytes = readFileSync(path);
  writeFileSync(path, bytes.subarray(0, Math.floor(bytes.length * 0.85)));
}

describe("the programs", () => {
  const nowhere = { environment: { PATH: "" }, roots: [] };

  test("the environment comes first, and a wrong name there is a mistake", () => {
    const environment = { SORACC_FFMPEG: tools.ffmpeg.path, PATH: process.env["PATH"] };
    expect(findProgram("ffmpeg", { environment })).toEqual({ path: tools.ffmpeg.path, origin: "environment" });
    const wrong = { SORACC_FFPROBE: join(folder, "nothing") };
    expect(() => findProgram("ffprobe", { environment: wrong })).toThrow(/SORACC_FFPROBE is .* not a program/);
  });

  test("PATH is searched, relative entries apart", () => {
    const bin = join(folder, "bin");
    mkdirSync(bin);
    writeFileSync(join(bin, "ffmpeg"), "#!/bin/sh\n");
    expect(findProgram("ffmpeg", { environment: { PATH: bin } })?.origin).not.toBe("path");
    chmodSync(join(bin, "ffmpeg"), 0o755);
    expect(findProgram("ffmpeg", { environment: { PATH: `relative:${bin}` } })).toEqual({
      path: join(bin, "ffmpeg"),
      origin: "path",
    });
  });

  test("the packaged programs are last, are made executable and named as what they are", () => {
    const packaged = findVideoTools(nowhere);
    for (const program of [packaged.ffmpeg, packaged.ffprobe]) {
      expect(program.origin).toBe("packaged");
      expect(describeProgram(program)).toContain(PACKAGED_NOTE);
      accessSync(program.path, constants.X_OK);
    }
  });

  test("without any, the message has the command that installs them", () => {
    const before = process.cwd();
    process.chdir(folder);
    try {
      expect(() => findVideoTools(nowhere)).toThrow(/ffmpeg and ffprobe not found[^]*fix: .*install ffmpeg/);
    } finally {
      process.chdir(before);
    }
  });

  test("a program that cannot be started is reported by name", async () => {
    const path = join(folder, "some.mp4");
    writeFileSync(path, "x");
    const gone = { path: join(folder, "gone-ffprobe"), origin: "path" as const };
    const error = await diagnosticOf(probe(path, { ...tools, ffprobe: gone }));
    expect(error.parts.kind).toBe("ffmpeg");
    expect(error.message).toMatch(/gone-ffprobe cannot be started/);
  });
});

describe.each([
  ["found on this machine", {}],
  ["packaged", { environment: { PATH: "" } }],
])("programs %s", (_origin, options) => {
  const these = findVideoTools(options);

  test.each([
    [24, 24],
    [25, 23],
    [2, 40],
  ])("%i x %i pixels come back from an .mp4", async (width, height) => {
    const path = join(folder, "-odd name: 100%d.mp4");
    const video = movingSquare({ height, width });
    await encodeMp4(path, video, 8, these);
    const facts = await probe(path, these);
    expect(facts).toEqual({ width, height, frames: 8, framesPerSecond: 8, durationSeconds: 1 });
    const decoded = await decode(path, facts, these);
    expect([decoded.frames, decoded.height, decoded.width]).toEqual([8, height, width]);
    expect(decoded.warnings).toEqual([]);
    // A plain background survives compression nearly unchanged; edges of the square blur.
    expect(Math.abs(decoded.data[0]! - 30)).toBeLessThanOrEqual(4);
    let sum = 0;
    decoded.data.forEach((value, i) => (sum += Math.abs(value - video.data[i]!)));
    expect(sum / video.data.length).toBeLessThan(6);
  });

  test("frames are counted where the container declares none", async () => {
    const path = join(folder, "counted.mkv");
    ffmpeg("-y", "-f", "lavfi", "-i", "testsrc=size=32x16:rate=8:duration=2", path);
    const facts = await probe(path, these);
    expect(facts.frames).toBe(16);
    expect((await decode(path, facts, these)).frames).toBe(16);
  });

  test("variable frame rates neither drop nor repeat frames", async () => {
    const path = join(folder, "variable.mp4");
    const stretch = ["-vf", "setpts='if(lt(N,4),N,N*3)/8/TB'", "-vsync", "vfr"];
    ffmpeg("-y", "-f", "lavfi", "-i", "testsrc=size=32x16:rate=8:duration=1", ...stretch, path);
    const facts = await probe(path, these);
    expect((await decode(path, facts, these)).frames).toBe(facts.frames);
    expect(facts.frames).toBe(8);
  });
});

test("a phone's rotation is applied, and the size is that of the picture shown", async () => {
  const plain = join(folder, "plain.mp4");
  const turned = join(folder, "turned.mov");
  await encodeMp4(plain, movingSquare({ width: 32, height: 16 }), 8, tools);
  execFileSync(findVideoTools({ environment: { PATH: "" } }).ffmpeg.path, [
    ...["-v", "error", "-y", "-i", plain, "-c", "copy", "-metadata:s:v:0", "rotate=90", turned],
  ]);
  const facts = await probe(turned, tools);
  expect([facts.width, facts.height]).toEqual([16, 32]);
  const decoded = await decode(turned, facts, tools);
  expect([decoded.width, decoded.height, decoded.frames]).toEqual([16, 32, 8]);
});

test("frames that an edit list hides are not taken for damage", async () => {
  const whole = join(folder, "whole.mp4");
  const cut = join(folder, "cut.mp4");
  await encodeMp4(whole, movingSquare({ frames: 24 }), 8, tools);
  ffmpeg("-y", "-ss", "1", "-i", whole, "-c", "copy", cut);
  const facts = await probe(cut, tools);
  const decoded = await decode(cut, facts, tools);
  expect(facts.frames).toBe(24);
  expect(decoded.frames).toBe(16);
  const { clips } = await scanClips([{ file: "cut.mp4", path: cut }], {
    ...{ tools, patch: 4, store: createClipStore({ tools }) },
  });
  expect(clips[0]?.frames).toBe(16);
  expect(clips[0]?.tokens).toBe(16 * 36);
});

describe("files that are no whole video", () => {
  test.each([
    ["text named .mp4", "I am not a video\n", /cannot be read as a video/],
    ["a zero-byte file", "", /the file is empty/],
    ["a playlist named .mp4", "ffconcat version 1.0\nfile whole.mp4\n", /cannot be read as a video/],
    ["an HLS playlist named .mp4", "#EXTM3U\n#EXTINF:1,\nwhole.mp4\n#EXT-X-ENDLIST\n", /cannot be read as a video/],
  ])("%s", async (_case, text, reason) => {
    await encodeMp4(join(folder, "whole.mp4"), movingSquare(), 8, tools);
    const path = join(folder, "wrong.mp4");
    writeFileSync(path, text);
    const error = await diagnosticOf(probe(path, tools));
    expect(error.parts.kind).toBe("video");
    expect(error.parts.message).toMatch(reason);
  });

  test("a sound file has no pictures", async () => {
    const path = join(folder, "sound.mp4");
    ffmpeg("-y", "-f", "lavfi", "-i", "anullsrc=duration=1", path);
    expect((await diagnosticOf(probe(path, tools))).message).toMatch(/holds no video stream/);
  });

  test("a truncated video declares more than it holds", async () => {
    const path = join(folder, "truncated.mp4");
    await truncatedVideo(path);
    const facts = await probe(path, tools);
    expect(facts.frames).toBe(24);
    const error = await diagnosticOf(decode(path, facts, tools));
    expect(error.message).toMatch(/declares 24 frames, \d+ could be decoded \(truncated or damaged\)/);
    expect(error.message).toMatch(/partial file|Invalid/);
  });

  test("more frames or another size than expected is a mistake, too", async () => {
    const path = join(folder, "long.mp4");
    await encodeMp4(path, movingSquare({ frames: 12 }), 8, tools);
    const facts = await probe(path, tools);
    expect((await diagnosticOf(decode(path, { ...facts, frames: 4 }, tools))).message).toMatch(
      /4 frames and holds more/,
    );
  });

  test("what would not fit in memory is not asked for", async () => {
    const facts: VideoFacts = { width: 30000, height: 30000, frames: 1000, framesPerSecond: 25, durationSeconds: 40 };
    const error = await diagnosticOf(decode(join(folder, "huge.mp4"), facts, tools));
    expect(error.message).toMatch(/1000 frames of 30000x30000 are 2.7 TB, the limit is/);
  });

  test("a program that hangs is stopped", async () => {
    const slow = join(folder, "slow-ffprobe");
    writeFileSync(slow, "#!/bin/sh\nexec sleep 60\n");
    chmodSync(slow, 0o755);
    const path = join(folder, "some.mp4");
    writeFileSync(path, "x");
    const slowTools = { ...tools, ffprobe: { path: slow, origin: "path" as const } };
    const error = await diagnosticOf(probe(path, slowTools, { timeLimitSeconds: 0.2 }));
    expect(error.message).toMatch(/took longer than 0.2 s/);
  });
});

test("a video that cannot be written leaves the old one and nothing else", async () => {
  const out = join(folder, "out");
  mkdirSync(out);
  const path = join(out, "a.mp4");
  await encodeMp4(path, movingSquare(), 8, tools);
  const before = readFileSync(path);
  const failing = join(folder, "failing-ffmpeg");
  const rest = `exec '${tools.ffmpeg.path}' "$@"`;
  writeFileSync(
    failing,
    `#!/bin/sh\ncase "$*" in *rawvideo*) echo 'No space left on device' >&2; exit 1;; esac\n${rest}\n`,
  );
  chmodSync(failing, 0o755);
  const error = await diagnosticOf(
    encodeMp4(path, movingSquare(), 8, { ...tools, ffmpeg: { path: failing, origin: "path" } }),
  );
  expect(error.message).toMatch(/a.mp4 could not be written\n +No space left on device/);
  expect(readFileSync(path)).toEqual(before);
  expect(readdirSync(out)).toEqual(["a.mp4"]);
});

describe("a folder of videos", () => {
  async function mixedFolder(name: string): Promise<string> {
    const data = join(folder, name);
    mkdirSync(data);
    await encodeMp4(join(data, "a.mp4"), movingSquare(), 8, tools);
    await encodeMp4(join(data, "b.mp4"), movingSquare({ width: 27, height: 22 }), 8, tools);
    await encodeMp4(join(data, "tiny.mp4"), movingSquare({ width: 2, height: 2 }), 8, tools);
    await encodeMp4(join(data, "silent.mp4"), movingSquare(), 8, tools);
    await truncatedVideo(join(data, "cut.mp4"));
    writeFileSync(join(data, "text.mp4"), "no video");
    const captioned = ["a", "b", "tiny", "cut", "text"];
    const lines = captioned.map((file) => JSON.stringify({ file: `${file}.mp4`, captions: ["one", "two"] }));
    writeFileSync(join(data, "captions.jsonl"), lines.join("\n"));
    return data;
  }

  test("what cannot be used is counted and listed with its reason, the rest is tabled", async () => {
    const data = await mixedFolder("mixed");
    const seen: number[] = [];
    const dataset = await openDataset({ folder: data, tools, patch: 4, onProgress: (done) => seen.push(done) });
    expect(dataset.samples.map(({ clip, caption }) => [clip.file, caption])).toEqual([
      ["a.mp4", "one"],
      ["a.mp4", "two"],
      ["b.mp4", "one"],
      ["b.mp4", "two"],
    ]);
    expect(seen).toEqual([1, 2, 3, 4, 5]);
    const report = dataset.report.join("\n");
    expect(report).toContain("4 captions on 2 clips");
    expect(report).toMatch(/8 x 20 x 24 +240 +1 {2}1 with border pixels dropped/);
    expect(report).toMatch(/8 x 24 x 24 +288 +1$/m);
    expect(report).toContain("3 videos cannot be used and are left out:");
    expect(report).toMatch(/tiny.mp4 {2}2x2 pixels are smaller than one patch of 4x4/);
    expect(report).toMatch(/cut.mp4 {2}it declares 24 frames, \d+ could be decoded/);
    expect(report).toMatch(/text.mp4 {2}it cannot be read as a video/);
    expect(report).toContain("1 video has no caption and is left out: silent.mp4");
  });

  test("not one usable video is an error that lists the reasons", async () => {
    const data = join(folder, "hopeless");
    mkdirSync(data);
    writeFileSync(join(data, "text.mp4"), "no video");
    writeFileSync(join(data, "text.txt"), "a caption");
    const error = await diagnosticOf(openDataset({ folder: data, tools, patch: 4 }));
    expect(error.message).toMatch(/not one of 1 videos can be used\n +text.mp4 +it cannot be read as a video/);
  });

  test("a link out of the folder is refused, also without a record", async () => {
    const data = join(folder, "linked");
    mkdirSync(data);
    await encodeMp4(join(folder, "outside.mp4"), movingSquare(), 8, tools);
    symlinkSync(join(folder, "outside.mp4"), join(data, "link.mp4"));
    writeFileSync(join(data, "link.txt"), "a caption");
    const error = await diagnosticOf(openDataset({ folder: data, tools, patch: 4 }));
    expect(error.message).toMatch(/"link.mp4" is a link that leads out of the folder/);
  });

  test("sequences beyond the allowed length are left out, with the number", async () => {
    const path = join(folder, "mixed", "a.mp4");
    const small = join(folder, "small.mp4");
    await encodeMp4(small, movingSquare({ frames: 2 }), 8, tools);
    const videos = [path, small].map((at) => ({ file: at, path: at }));
    const scan = await scanClips(videos, { tools, patch: 4, maxTokens: 100 });
    expect(scan.clips.map(({ tokens }) => tokens)).toEqual([72]);
    expect(describeQuarantined(scan.quarantined).join()).toMatch(/288 patches are more than the 100/);
    expect(shapeTable(scan.clips, 4)[1]).toMatch(/^2 x 24 x 24 +72 +1$/);
  });
});

describe("the clip store", () => {
  test("within the budget a clip is decoded once, beyond it every time, and the frames are the same", async () => {
    const path = join(folder, "stored.mp4");
    await encodeMp4(path, movingSquare(), 8, tools);
    const { clips } = await scanClips([{ file: "stored.mp4", path }], { tools, patch: 4 });
    const clip = clips[0]!;
    const bytes = 8 * 24 * 24 * 3;
    const roomy = createClipStore({ tools });
    const first = await roomy.frames(clip);
    expect(await roomy.frames(clip)).toBe(first);
    expect(roomy.bytesHeld()).toBe(bytes);

    const tight = createClipStore({ tools, budget: bytes - 1 });
    const once = await tight.frames(clip);
    const again = await tight.frames(clip);
    expect(again).not.toBe(once);
    expect(largestDifference(once.data, again.data)).toBe(0);
    expect(tight.bytesHeld()).toBe(0);
  });

  test("what is asked for ahead is there when it is wanted, and its failure is told then", async () => {
    const path = join(folder, "ahead.mp4");
    await encodeMp4(path, movingSquare(), 8, tools);
    const { clips } = await scanClips([{ file: "ahead.mp4", path }], { tools, patch: 4 });
    const clip = clips[0]!;
    const store = createClipStore({ tools, budget: 0, parallel: 1 });
    store.prefetch([clip, clip]);
    const [a, b] = await Promise.all([store.frames(clip), store.frames(clip)]);
    expect(a).toBe(b);

    rmSync(path);
    store.prefetch([clip]);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect((await diagnosticOf(store.frames(clip))).parts.kind).toBe("video");
  });
});
