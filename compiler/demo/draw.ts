/** How does a clip look? A smooth-edged shape in one colour, moving over greys. */
import type { Frames } from "../../runtime/data/ffmpeg.ts";
import { type ClipRecipe, FRAMES, SIDE } from "./choose.ts";
import { COLOURS, DIRECTIONS, type Shape } from "./subject.ts";

/** Each pixel is looked at in so many places along each side; the share inside the shape mixes the colours. */
const SAMPLES = 4;

/** Is a point inside a shape of the given radius around the origin? y runs down. */
const INSIDE: Readonly<Record<Shape, (x: number, y: number, radius: number) => boolean>> = {
  circle: (x, y, radius) => x * x + y * y <= radius * radius,
  square: (x, y, radius) => Math.max(Math.abs(x), Math.abs(y)) <= 0.9 * radius,
  // Its point is up; it is as wide as it is high.
  triangle: (x, y, radius) => Math.abs(y) <= radius && Math.abs(x) <= (y + radius) / 2,
};

export function drawClip(recipe: ClipRecipe): Frames {
  const data = new Uint8Array(FRAMES * SIDE * SIDE * 3);
  const colour = COLOURS[recipe.subject.colour];
  let to = 0;
  for (let t = 0; t < FRAMES; t++) {
    for (let y = 0; y < SIDE; y++) {
      for (let x = 0; x < SIDE; x++) {
        const behind = greyAt(recipe, x, y);
        const share = coverage(recipe, t, x, y);
        for (const value of colour) data[to++] = Math.round(share * value + (1 - share) * behind);
      }
    }
  }
  return { data, frames: FRAMES, height: SIDE, width: SIDE };
}

/** The share of a pixel that the shape covers at time t. */
function coverage({ subject, start, speed, radius }: ClipRecipe, t: number, x: number, y: number): number {
  const [stepX, stepY] = DIRECTIONS[subject.direction];
  const left = x - (start[0] + stepX * speed * t);
  const top = y - (start[1] + stepY * speed * t);
  let covered = 0;
  for (let row = 0; row < SAMPLES; row++) {
    for (let column = 0; column < SAMPLES; column++) {
      const [dx, dy] = [left + (column + 0.5) / SAMPLES, top + (row + 0.5) / SAMPLES];
      if (INSIDE[subject.shape](dx, dy, radius)) covered++;
    }
  }
  return covered / SAMPLES ** 2;
}

/** The background's grey at a pixel's centre. */
function greyAt({ background: { from, to, along } }: ClipRecipe, x: number, y: number): number {
  const [alongX, alongY] = along;
  // From -0.5 at the side where the change starts to 0.5 at the opposite one.
  const place =
    (alongX * ((x + 0.5) / SIDE - 0.5) + alongY * ((y + 0.5) / SIDE - 0.5)) / (Math.abs(alongX) + Math.abs(alongY));
  return from + (to - from) * (place + 0.5);
}
