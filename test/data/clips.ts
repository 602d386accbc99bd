/** Small real videos for tests: a square that moves over a plain background. */
import type { Frames } from "../../runtime/data/ffmpeg.ts";

export interface ClipRecipe {
  readonly frames?: number;
  readonly height?: number;
  readonly width?: number;
  readonly colour?: readonly [number, number, number];
}

export function movingSquare(recipe: ClipRecipe = {}): Frames {
  const { frames = 8, height = 24, width = 24, colour = [220, 40, 40] } = recipe;
  const data = new Uint8Array(frames * height * width * 3).fill(30);
  for (let t = 0; t < frames; t++) {
    for (let y = 8; y < Math.min(16, height); y++) {
      for (let x = t; x < Math.min(t + 8, width); x++) data.set(colour, ((t * height + y) * width + x) * 3);
    }
  }
  return { data, frames, height, width };
}

/** The largest difference of any byte. */
export function largestDifference(a: Uint8Array, b: Uint8Array): number {
  let largest = a.length === b.length ? 0 : Infinity;
  a.forEach((value, i) => (largest = Math.max(largest, Math.abs(value - (b[i] ?? Infinity)))));
  return largest;
}
