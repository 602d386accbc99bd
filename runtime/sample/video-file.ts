/** Writes frames to the kind of file its name asks for: .mp4 or .gif. */
import { dirname, extname } from "node:path";
import { ensureFolder, writeFileAtomically } from "../../contract/atomic-file.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { type Frames, encodeMp4 } from "../data/ffmpeg.ts";
import { type VideoTools, findVideoTools } from "../data/ffmpeg-find.ts";

export type VideoFormat = "mp4" | "gif";

const FORMATS: ReadonlyMap<string, VideoFormat> = new Map([
  [".mp4", "mp4"],
  [".gif", "gif"],
]);

export interface WriteVideoOptions {
  readonly framesPerSecond: number;
  /** Looked up when an .mp4 is written and none are given. */
  readonly tools?: VideoTools;
  /** Each pixel becomes a square of this side; 1 unless given. Tiny videos are hard to see. */
  readonly scale?: number;
}

/** Ask early: a wrong ending should not cost a sampling run. @throws Diagnostic (kind `video`) */
export function videoFormatOf(path: string): VideoFormat {
  const extension = extname(path);
  const format = FORMATS.get(extension.toLowerCase());
  if (format !== undefined) return format;
  throw new Diagnostic({
    kind: "video",
    message: `${path} ${extension === "" ? "has no ending" : `ends in ${extension}`}, which names no kind of video`,
    fix: `end the name in ${[...FORMATS.keys()].join(" or ")}`,
  });
}

/** @throws Diagnostic (kind `video` or `ffmpeg`); a file of that name is replaced only by a whole one */
export async function writeVideo(path: string, video: Frames, options: WriteVideoOptions): Promise<void> {
  const { framesPerSecond, scale = 1 } = options;
  const format = videoFormatOf(path);
  const scaled = enlarge(video, scale);
  if (format === "mp4") return encodeMp4(path, scaled, framesPerSecond, options.tools ?? findVideoTools());
  const bytes = await encodeGif(scaled, framesPerSecond);
  ensureFolder(dirname(path), "video");
  writeFileAtomically(path, [bytes], { kind: "video", bytesNeeded: bytes.byteLength });
}

/** Nearest neighbour by a whole number: every pixel stays what it was. */
export function enlarge(video: Frames, scale: number): Frames {
  if (scale === 1) return video;
  const { frames } = video;
  const [height, width] = [video.height * scale, video.width * scale];
  const data = new Uint8Array(frames * height * width * 3);
  let to = 0;
  for (let t = 0; t < frames; t++) {
    for (let y = 0; y < height; y++) {
      const row = (t * video.height + Math.floor(y / scale)) * video.width;
      for (let x = 0; x < width; x++) {
        const from = (row + Math.floor(x / scale)) * 3;
        for (let c = 0; c < 3; c++) data[to++] = video.data[from + c]!;
      }
    }
  }
  return { data, frames, height, width };
}

/** A palette of up to 256 colours per frame; plays for ever. */
async function encodeGif({ data, frames, height, width }: Frames, framesPerSecond: number): Promise<Uint8Array> {
  const { default: gifenc } = await import("gifenc");
  const gif = gifenc.GIFEncoder();
  const frameBytes = height * width * 3;
  for (let t = 0; t < frames; t++) {
    const rgba = withOpacity(data.subarray(t * frameBytes, (t + 1) * frameBytes));
    const palette = gifenc.quantize(rgba, 256);
    const indexed = gifenc.applyPalette(rgba, palette);
    gif.writeFrame(indexed, width, height, { palette, delay: delayOf(t, framesPerSecond), repeat: 0 });
  }
  gif.finish();
  return gif.bytes();
}

/** GIF counts hundredths of a second: rounding each END keeps the whole length right. */
function delayOf(frame: number, framesPerSecond: number): number {
  const endOf = (t: number): number => Math.round((t * 100) / framesPerSecond);
  return Math.max(endOf(frame + 1) - endOf(frame), 2) * 10;
}

function withOpacity(rgb: Uint8Array): Uint8Array {
  const rgba = new Uint8Array((rgb.length / 3) * 4).fill(255);
  for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) rgba.set(rgb.subarray(from, from + 3), to);
  return rgba;
}
