/**
 * Video files in, frames out, and back: ffprobe and ffmpeg in child processes.
 *
 * A video is untrusted input. The programs see a local path only (never a URL, never a playlist that opens other files),
 * get no terminal, have a time limit, and their output is checked against what the file declares.
 */
import { rmSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { ensureFolder, formatBytes, replaceWithFinished, temporaryName } from "../../contract/atomic-file.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { type Json, isJsonArray, isJsonObject, parseJson } from "../../contract/json-text.ts";
import { type ChildResult, runChild } from "./child.ts";
import { type VideoTools, capabilitiesOf } from "./ffmpeg-find.ts";

export interface VideoFacts {
  /** As shown: after the rotation that phones record instead of turning the pixels. */
  readonly width: number;
  readonly height: number;
  readonly framesPerSecond: number;
  /** Declared by the container, or counted when it declares none. */
  readonly frames: number;
  readonly durationSeconds: number;
}

/** `frames` pictures of `height` rows of `width` pixels, three bytes each: uint8 [T, H, W, 3], RGB. */
export interface Frames {
  readonly data: Uint8Array<ArrayBuffer>;
  readonly frames: number;
  readonly height: number;
  readonly width: number;
}

export interface DecodedVideo extends Frames {
  /** What the decoder complained about although every frame came out. */
  readonly warnings: readonly string[];
}

export interface ReadLimits {
  /** Per program call; 120 unless given. */
  readonly timeLimitSeconds?: number;
  /** The most memory one decoded video may take; 2 GiB unless given. */
  readonly maxBytes?: number;
}

/** Containers that hold their own pictures. Playlists (HLS, concat) are left out: they open other files. */
const CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,flv,ogg,asf,h264,hevc,ivf,nut";

/** `file:` keeps names that start with `-` or hold a colon from meaning anything else. */
const readFrom = (path: string): readonly string[] => [
  "-protocol_whitelist",
  "file,pipe",
  "-format_whitelist",
  CONTAINERS,
  "-i",
  `file:${resolve(path)}`,
];

/**
 * Size, rate and frame count of a video.
 * @throws Diagnostic (kind `video`) with the program's own reason when it is no video or a damaged one
 */
export async function probe(file: string, tools: VideoTools, limits: ReadLimits = {}): Promise<VideoFacts> {
  if (sizeOf(file) === 0) throw unusable(file, "the file is empty");
  const entries =
    "stream=width,height,avg_frame_rate,r_frame_rate,nb_frames,duration:stream_side_data=rotation:" +
    "stream_tags=rotate:format=duration";
  const answer = await askProbe(file, tools, limits, ["-show_entries", entries]);
  const stream = firstOf(answer, "streams");
  if (stream === undefined) throw unusable(file, "it holds no video stream");
  const width = number(stream, "width");
  const height = number(stream, "height");
  if (!(width > 0) || !(height > 0)) throw unusable(file, "its pictures have no size");
  const format = isJsonObject(answer) ? answer.get("format") : undefined;
  const declared = number(stream, "nb_frames");
  const frames = declared > 0 ? declared : await countFrames(file, tools, limits);
  if (!(frames > 0)) throw unusable(file, "it holds no pictures");
  const rate = ratio(stream, "avg_frame_rate") || ratio(stream, "r_frame_rate");
  const duration = number(stream, "duration") || number(format, "duration");
  const turned = Math.abs(rotationOf(stream)) % 180 === 90;
  return {
    width: turned ? height : width,
    height: turned ? width : height,
    framesPerSecond: rate > 0 ? rate : duration > 0 ? frames / duration : 0,
    frames,
    durationSeconds: duration > 0 ? duration : rate > 0 ? frames / rate : 0,
  };
}

/**
 * Every frame of a video, as it is shown.
 * @throws Diagnostic (kind `video`) when fewer or more frames come out than `facts` declare, with the decoder's reason
 */
export async function decode(
  file: string,
  facts: VideoFacts,
  tools: VideoTools,
  limits: ReadLimits = {},
): Promise<DecodedVideo> {
  const { width, height } = facts;
  const frameBytes = width * height * 3;
  const bytes = frameBytes * facts.frames;
  const maxBytes = limits.maxBytes ?? 2 * 2 ** 30;
  if (!(bytes <= maxBytes)) {
    throw unusable(
      file,
      `${facts.frames} frames of ${width}x${height} are ${formatBytes(bytes)}, the limit is ${formatBytes(maxBytes)}`,
    );
  }
  const { everyFrameOnce } = await capabilitiesOf(tools.ffmpeg);
  // One thread per clip: clips are decoded side by side, and a clip's frames are the same on every machine.
  const input = ["-nostdin", "-hide_banner", "-v", "error", "-threads", "1", ...readFrom(file), "-map", "0:V:0"];
  const exactColours = ["-sws_flags", "bicubic+accurate_rnd+bitexact+full_chroma_int+full_chroma_inp"];
  const output = [...everyFrameOnce, ...exactColours, "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"];
  const result = await start(tools.ffmpeg.path, [...input, ...output], limits, bytes + frameBytes);
  const reasons = reasonsOf(result, file);
  if (result.timedOut) throw unusable(file, `decoding took longer than ${limits.timeLimitSeconds ?? 120} s`);
  const decoded = Math.floor(result.output.byteLength / frameBytes);
  if (result.overflowed || decoded > facts.frames) {
    throw unusable(file, `it declares ${facts.frames} frames and holds more`, reasons);
  }
  if (decoded < facts.frames && !(await isCutByEditList(file, facts.frames - decoded, reasons, tools, limits))) {
    throw unusable(
      file,
      `it declares ${facts.frames} frames, ${decoded} could be decoded (truncated or damaged)`,
      reasons,
    );
  }
  if (decoded === 0 || result.output.byteLength !== decoded * frameBytes) {
    throw unusable(file, `its pictures are not ${width}x${height} throughout`, reasons);
  }
  if (result.exitCode !== 0)
    throw unusable(file, `decoding failed (exit code ${result.exitCode ?? result.signal})`, reasons);
  return { data: result.output, frames: decoded, height, width, warnings: reasons };
}

/** An edit list hides frames on purpose: the container marks their packets, and nothing is damaged. */
async function isCutByEditList(
  file: string,
  absent: number,
  reasons: readonly string[],
  tools: VideoTools,
  limits: ReadLimits,
): Promise<boolean> {
  if (reasons.length > 0) return false;
  const answer = await askProbe(file, tools, limits, ["-show_entries", "packet=flags"]);
  const packets = isJsonObject(answer) ? answer.get("packets") : undefined;
  if (!isJsonArray(packets)) return false;
  const hidden = packets.filter((packet) => {
    const flags = isJsonObject(packet) ? packet.get("flags") : undefined;
    return typeof flags === "string" && flags.includes("D");
  });
  return hidden.length === absent;
}

export interface EncodeOptions {
  readonly timeLimitSeconds?: number;
}

/**
 * Writes an .mp4 that common players show (H.264, 4:2:0); odd sizes need 4:4:4, which fewer players show. The file takes
 * its name only when it is whole.
 * @throws Diagnostic (kind `video`) when this ffmpeg has no encoder for the size or the file cannot be written
 */
export async function encodeMp4(
  path: string,
  video: Frames,
  framesPerSecond: number,
  tools: VideoTools,
  options: EncodeOptions = {},
): Promise<void> {
  const { encoder } = await capabilitiesOf(tools.ffmpeg);
  const odd = video.width % 2 === 1 || video.height % 2 === 1;
  if (encoder === undefined || (odd && encoder === "mpeg4")) {
    throw new Diagnostic({
      kind: "video",
      message: `${tools.ffmpeg.path} has no encoder for an .mp4 of ${video.width}x${video.height}`,
      fix: odd ? "use even sizes, an ffmpeg with libx264, or .gif" : "install an ffmpeg with libx264, or write .gif",
    });
  }
  // Clips for training are tiny: what a low quality saves is nothing, what it blurs is the subject.
  const quality = encoder === "libx264" ? ["-crf", "12", "-preset", "medium"] : ["-q:v", "2"];
  const temporary = temporaryName(path);
  const flags = [
    ...["-hide_banner", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"],
    ...["-s", `${video.width}x${video.height}`, "-r", String(framesPerSecond), "-i", "pipe:0", "-an"],
    ...["-sws_flags", "bicubic+accurate_rnd+bitexact+full_chroma_int+full_chroma_inp"],
    ...["-c:v", encoder, ...quality, "-pix_fmt", odd ? "yuv444p" : "yuv420p", "-threads", "1"],
    ...[
      "-movflags",
      "+faststart",
      "-fflags",
      "+bitexact",
      "-flags:v",
      "+bitexact",
      "-f",
      "mp4",
      `file:${resolve(temporary)}`,
    ],
  ];
  ensureFolder(dirname(path), "video");
  const result = await start(tools.ffmpeg.path, flags, options, 0, video.data);
  if (result.exitCode !== 0) {
    rmSync(temporary, { force: true });
    throw new Diagnostic({
      kind: "video",
      message: `${path} could not be written`,
      details: result.timedOut ? ["encoding took too long"] : reasonsOf(result, temporary),
      fix: "check the free space and the rights in that folder",
    });
  }
  replaceWithFinished(temporary, path, "video");
}

function sizeOf(file: string): number {
  try {
    return statSync(file).size;
  } catch (error) {
    throw unusable(file, "it cannot be opened", [error instanceof Error ? error.message : String(error)]);
  }
}

async function countFrames(file: string, tools: VideoTools, limits: ReadLimits): Promise<number> {
  const entries = "stream=nb_read_packets,nb_read_frames";
  try {
    const counted = firstOf(
      await askProbe(file, tools, limits, ["-count_packets", "-show_entries", entries]),
      "streams",
    );
    if (number(counted, "nb_read_packets") > 0) return number(counted, "nb_read_packets");
  } catch (error) {
    // Before ffprobe 4.3 there is only the slow way: decode and count.
    if (!(error instanceof Diagnostic) || !error.message.includes("count_packets")) throw error;
  }
  return number(
    firstOf(await askProbe(file, tools, limits, ["-count_frames", "-show_entries", entries]), "streams"),
    "nb_read_frames",
  );
}

async function askProbe(
  file: string,
  tools: VideoTools,
  limits: ReadLimits,
  questions: readonly string[],
): Promise<Json> {
  const flags = [
    "-hide_banner",
    "-v",
    "error",
    "-select_streams",
    "V:0",
    ...questions,
    "-of",
    "json",
    ...readFrom(file),
  ];
  const result = await start(tools.ffprobe.path, flags, limits, 2 ** 28);
  if (result.timedOut) throw unusable(file, `reading its header took longer than ${limits.timeLimitSeconds ?? 120} s`);
  const reasons = reasonsOf(result, file);
  if (result.exitCode !== 0) throw unusable(file, "it cannot be read as a video", reasons);
  const parsed = parseJson(new TextDecoder().decode(result.output));
  if (!parsed.ok) throw unusable(file, "ffprobe's answer about it cannot be read");
  return parsed.value;
}

async function start(
  program: string,
  flags: readonly string[],
  limits: { readonly timeLimitSeconds?: number },
  outputLimit: number,
  input?: Uint8Array,
): Promise<ChildResult> {
  try {
    return await runChild({ program, flags, timeLimitSeconds: limits.timeLimitSeconds ?? 120, outputLimit, input });
  } catch (error) {
    throw new Diagnostic({
      kind: "ffmpeg",
      message: `${program} cannot be started`,
      details: [error instanceof Error ? error.message : String(error)],
      fix: "install ffmpeg again, or name another one with SORACC_FFMPEG and SORACC_FFPROBE",
    });
  }
}

/** The program's own words, without addresses in memory, without the path in front, at most five lines. */
function reasonsOf({ errors }: ChildResult, file: string): string[] {
  const lines = errors
    .split("\n")
    .map((line) =>
      line
        .replace(/^\[(\w[^\]@]*?) @ 0x[0-9a-f]+\] /, "$1: ")
        .replace(`file:${resolve(file)}: `, "")
        .trim(),
    )
    .filter((line) => line !== "" && !/^\[json @|^Last message repeated/.test(line));
  return [...new Set(lines)].slice(-5);
}

function unusable(file: string, message: string, details: readonly string[] = []): Diagnostic {
  return new Diagnostic({
    kind: "video",
    message,
    where: { file },
    details,
    fix: "replace the file, encode it again, or remove it from the captions",
  });
}

function firstOf(answer: Json, key: string): Json | undefined {
  const list = isJsonObject(answer) ? answer.get(key) : undefined;
  return isJsonArray(list) ? list[0] : undefined;
}

/** ffprobe writes numbers as numbers or as text; 0 when there is none. */
function number(object: Json | undefined, key: string): number {
  const value = isJsonObject(object) ? object.get(key) : undefined;
  const parsed = typeof value === "string" ? Number(value) : value;
  return typeof parsed === "number" && Number.isFinite(parsed) ? parsed : 0;
}

/** `30000/1001` as a number; 0 when there is none. */
function ratio(object: Json | undefined, key: string): number {
  const value = isJsonObject(object) ? object.get(key) : undefined;
  const match = typeof value === "string" ? /^(\d+)\/(\d+)$/.exec(value) : null;
  const result = match === null ? 0 : Number(match[1]) / Number(match[2]);
  return Number.isFinite(result) ? result : 0;
}

/** In degrees: newer programs report side data, older ones a tag. */
function rotationOf(stream: Json | undefined): number {
  const sideData = firstOf(stream ?? null, "side_data_list");
  const tags = isJsonObject(stream) ? stream.get("tags") : undefined;
  return number(sideData, "rotation") || number(tags, "rotate");
}
