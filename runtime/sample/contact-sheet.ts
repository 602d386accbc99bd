/** Many videos in one picture: a row per video, a column per frame. */
import { dirname } from "node:path";
import { ensureFolder, writeFileAtomically } from "../../contract/atomic-file.ts";
import type { Frames } from "../data/ffmpeg.ts";

export interface ContactSheetOptions {
  /** Each pixel becomes a square of this side; 4 unless given. */
  readonly scale?: number;
  /** Pixels between frames, after scaling; 4 unless given. */
  readonly gap?: number;
  /** Videos side by side; 1 unless given. */
  readonly videosPerRow?: number;
}

export interface Picture {
  /** uint8 [height, width, 3] */
  readonly data: Uint8Array<ArrayBuffer>;
  readonly height: number;
  readonly width: number;
}

/** Between the frames: a grey that neither dark nor bright clips run into. */
const GAP_GREY = 112;

/** Cells are as large as the largest frame; smaller frames stand at the upper left of theirs. */
export function contactSheet(videos: readonly Frames[], options: ContactSheetOptions = {}): Picture {
  const { scale = 4, gap = 4, videosPerRow = 1 } = options;
  const largest = (of: (video: Frames) => number): number => Math.max(1, ...videos.map(of));
  const framesPerVideo = largest((video) => video.frames);
  const cellHeight = largest((video) => video.height) * scale + gap;
  const cellWidth = largest((video) => video.width) * scale + gap;
  const perRow = Math.max(1, Math.min(videosPerRow, videos.length));
  // A wider gap tells where one video ends and the next begins.
  const videoWidth = framesPerVideo * cellWidth + gap;
  const width = perRow * videoWidth;
  const height = Math.ceil(videos.length / perRow) * cellHeight + gap;
  const sheet: Picture = { data: new Uint8Array(height * width * 3).fill(GAP_GREY), height, width };
  videos.forEach((video, index) => {
    const top = gap + Math.floor(index / perRow) * cellHeight;
    const left = gap + (index % perRow) * videoWidth;
    for (let t = 0; t < video.frames; t++) drawFrame(sheet, video, t, top, left + t * cellWidth, scale);
  });
  return sheet;
}

function drawFrame(sheet: Picture, video: Frames, t: number, top: number, left: number, scale: number): void {
  for (let y = 0; y < video.height * scale; y++) {
    const from = (t * video.height + Math.floor(y / scale)) * video.width;
    const to = (top + y) * sheet.width + left;
    for (let x = 0; x < video.width * scale; x++) {
      const pixel = (from + Math.floor(x / scale)) * 3;
      sheet.data.set(video.data.subarray(pixel, pixel + 3), (to + x) * 3);
    }
  }
}

/** @throws Diagnostic (kind `video`) when the file cannot be written */
export async function writeContactSheet(
  path: string,
  videos: readonly Frames[],
  options: ContactSheetOptions = {},
): Promise<Picture> {
  const sheet = contactSheet(videos, options);
  await writePng(path, sheet);
  return sheet;
}

/** @throws Diagnostic (kind `video`) when the file cannot be written */
export async function writePng(path: string, picture: Picture): Promise<void> {
  const { PNG } = await import("pngjs");
  const png = new PNG({ width: picture.width, height: picture.height });
  png.data.fill(255);
  for (let from = 0, to = 0; from < picture.data.length; from += 3, to += 4) {
    png.data.set(picture.data.subarray(from, from + 3), to);
  }
  const bytes = PNG.sync.write(png, { colorType: 2 });
  ensureFolder(dirname(path), "video");
  writeFileAtomically(path, [bytes], { kind: "video", bytesNeeded: bytes.byteLength });
}
