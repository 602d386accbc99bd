/**
 * How does a video become a sequence of patches, and a sequence a video again?
 *
 * A video [T, C, H, W] becomes rows [S, C, P, P], S = T * floor(H / P) * floor(W / P), in the order frame, row, column;
 * what is left at the right and lower border does not fill a patch and is dropped. Pixels are value / 255 - 0.5.
 */
import type { Frames } from "./ffmpeg.ts";

/** Where element [t, c, y, x] of a video lies: t * frame + c * channel + y * row + x * column. */
export interface VideoStrides {
  readonly frame: number;
  readonly channel: number;
  readonly row: number;
  readonly column: number;
}

export interface VideoSize {
  readonly frames: number;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
}

/** [T, C, H, W], as tensors are recorded. */
export function channelsFirst({ channels, height, width }: VideoSize): VideoStrides {
  return { frame: channels * height * width, channel: height * width, row: width, column: 1 };
}

export function tokensOf({ frames, height, width }: Omit<VideoSize, "channels">, patch: number): number {
  return frames * Math.floor(height / patch) * Math.floor(width / patch);
}

/** The bytes' values as a model sees them; a table, since there are only 256. */
const PIXEL_TO_FLOAT = Float32Array.from({ length: 256 }, (_, value) => value / 255 - 0.5);

/**
 * Cuts RGB frames into patches.
 * @param patch the side P of a patch in pixels
 * @param target at least `offset + S * 3 * P * P` floats; a new array unless given
 */
export function framesToPatches(
  video: Frames,
  patch: number,
  target = new Float32Array(tokensOf(video, patch) * 3 * patch * patch),
  offset = 0,
): Float32Array {
  const plane = patch * patch;
  const { data } = video;
  forEachPixelRun(video, patch, (pixel, element) => {
    let from = pixel;
    let to = offset + element;
    for (let x = 0; x < patch; x++, from += 3, to++) {
      target[to] = PIXEL_TO_FLOAT[data[from]!]!;
      target[to + plane] = PIXEL_TO_FLOAT[data[from + 1]!]!;
      target[to + 2 * plane] = PIXEL_TO_FLOAT[data[from + 2]!]!;
    }
  });
  return target;
}

/** Puts patches back together; values outside [-0.5, 0.5] are clamped, the rest rounded to the nearest byte. */
export function patchesToFrames(
  patches: Float32Array,
  size: Omit<VideoSize, "channels">,
  patch: number,
  offset = 0,
): Frames {
  const height = Math.floor(size.height / patch) * patch;
  const width = Math.floor(size.width / patch) * patch;
  const plane = patch * patch;
  const data = new Uint8Array(size.frames * height * width * 3);
  forEachPixelRun({ frames: size.frames, height, width }, patch, (pixel, element) => {
    for (let x = 0; x < patch; x++) {
      for (let c = 0; c < 3; c++) data[pixel + 3 * x + c] = toByte(patches[offset + element + c * plane + x]!);
    }
  });
  return { data, frames: size.frames, height, width };
}

/** `clamp(round((v + 0.5) * 255), 0, 255)`; a value that is not a number becomes black. */
function toByte(value: number): number {
  const scaled = Math.round((value + 0.5) * 255);
  return scaled >= 255 ? 255 : scaled > 0 ? scaled : 0;
}

/** Cuts any float video into patches, without changing values. */
export function videoToPatches(
  video: Float32Array,
  size: VideoSize,
  strides: VideoStrides,
  patch: number,
): Float32Array {
  const patches = new Float32Array(tokensOf(size, patch) * size.channels * patch * patch);
  forEachPatchRow(size, strides, patch, (from, to) => {
    for (let x = 0; x < patch; x++) patches[to + x] = video[from + x * strides.column]!;
  });
  return patches;
}

/** The same walk for RGB pixels side by side: one visit per pixel row of a patch, its three channels P * P apart. */
function forEachPixelRun(
  { frames, height, width }: Omit<VideoSize, "channels">,
  patch: number,
  visit: (pixel: number, element: number) => void,
): void {
  const [rows, columns] = [Math.floor(height / patch), Math.floor(width / patch)];
  let element = 0;
  for (let t = 0; t < frames; t++) {
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        for (let y = 0; y < patch; y++) {
          visit(((t * height + row * patch + y) * width + column * patch) * 3, element + y * patch);
        }
        element += 3 * patch * patch;
      }
    }
  }
}

/**
 * Visits every row of every patch, in the order of the patches' own memory: `source` is the place of its first element
 * in the video, `element` in the patches.
 */
function forEachPatchRow(
  size: VideoSize,
  strides: VideoStrides,
  patch: number,
  visit: (source: number, element: number) => void,
): void {
  const rows = Math.floor(size.height / patch);
  const columns = Math.floor(size.width / patch);
  let element = 0;
  for (let t = 0; t < size.frames; t++) {
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const corner = t * strides.frame + row * patch * strides.row + column * patch * strides.column;
        for (let c = 0; c < size.channels; c++) {
          for (let y = 0; y < patch; y++) {
            visit(corner + c * strides.channel + y * strides.row, element);
            element += patch;
          }
        }
      }
    }
  }
}
