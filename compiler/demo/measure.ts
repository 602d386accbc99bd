/**
 * Does a video show what its prompt says? Only pixels count, not what made them.
 *
 * A pixel is coloured when its channels differ enough; greys are background, however light or dark. Three questions are
 * asked about the coloured pixels, each answered by itself:
 *   colour      do most of them, weighted by their strength, have the hue that was asked for?
 *   direction   did their centre move that way between the first and the last frame?
 *   one object  do they hang together in every frame, without filling the picture?
 */
import type { Frames } from "../../runtime/data/ffmpeg.ts";
import { componentSizes } from "./components.ts";
import { type Colour, COLOUR_NAMES, COLOURS, type Direction, type Rgb, type Subject } from "./subject.ts";

/** All in one place, so that what counts as right can be read. */
export const LIMITS = {
  /** The strongest and the weakest channel of a coloured pixel differ by this much, of 255. */
  difference: 64,
  /** A frame shows something when it has so many coloured pixels. */
  fewestPixels: 6,
  /** The share of the colour's strength that has to be of the right hue. */
  colourShare: 0.5,
  /** In pixels: less is standing still. The clips themselves move 7 and more. */
  smallestMove: 3,
  /** The move along the direction is that many times the move across. */
  straightness: 1.5,
  /** The share of the coloured pixels that the largest connected piece has, on average over the frames. */
  largestPiece: 0.8,
  /** Of the picture's area, in no frame more. The largest shape has 18 %, compression adds a rim. */
  largestArea: 0.4,
} as const;

export interface Measurement {
  readonly colour: { readonly right: boolean; readonly seen: Colour | "none"; readonly share: number };
  readonly direction: {
    readonly right: boolean;
    readonly seen: Direction | "none";
    /** Of the centre, from the first frame to the last, in pixels: x to the right, y down. */
    readonly moved: readonly [number, number] | undefined;
  };
  readonly oneObject: { readonly right: boolean; readonly largestPiece: number; readonly largestArea: number };
}

/** A measurement, and what it was held against. */
export interface Judged extends Measurement {
  readonly subject: Subject;
}

export const passed = ({ colour, direction, oneObject }: Measurement): boolean =>
  colour.right && direction.right && oneObject.right;

/** Per frame, which pixels are coloured, and how strongly: the difference of their channels, 0 for background. */
interface ColouredFrame {
  readonly strength: Uint8Array;
  readonly pixels: number;
}

export function measure(video: Frames, { colour, direction }: Pick<Subject, "colour" | "direction">): Measurement {
  const frames = Array.from({ length: video.frames }, (_, t) => colouredPixels(video, t));
  const hues = hueShares(video, frames);
  const move = moveOf(video, frames);
  const pieces = piecesOf(video, frames);
  return {
    colour: { ...hues, right: hues.seen === colour },
    direction: { ...move, right: move.seen === direction },
    oneObject: pieces,
  };
}

function colouredPixels({ data, height, width }: Frames, t: number): ColouredFrame {
  const strength = new Uint8Array(height * width);
  let pixels = 0;
  for (let i = 0; i < strength.length; i++) {
    const at = (t * strength.length + i) * 3;
    const [red, green, blue] = [data[at]!, data[at + 1]!, data[at + 2]!];
    const difference = Math.max(red, green, blue) - Math.min(red, green, blue);
    if (difference < LIMITS.difference) continue;
    strength[i] = difference;
    pixels++;
  }
  return { strength, pixels };
}

/** The colour that most of the strength belongs to, if it is most of it. */
function hueShares(
  { data }: Frames,
  frames: readonly ColouredFrame[],
): { readonly seen: Colour | "none"; readonly share: number } {
  const found = new Map<Colour, number>();
  let whole = 0;
  frames.forEach(({ strength }, t) => {
    strength.forEach((weight, i) => {
      if (weight === 0) return;
      const at = (t * strength.length + i) * 3;
      const name = nearestColour([data[at]!, data[at + 1]!, data[at + 2]!]);
      found.set(name, (found.get(name) ?? 0) + weight);
      whole += weight;
    });
  });
  const [seen, most] = [...found].sort((a, b) => b[1] - a[1])[0] ?? (["none", 0] as const);
  const share = whole === 0 ? 0 : most / whole;
  return { seen: share >= LIMITS.colourShare && isVisible(frames) ? seen : "none", share };
}

/** A few stray pixels are no object of any colour: at least half of the frames have to show something. */
const isVisible = (frames: readonly ColouredFrame[]): boolean =>
  frames.filter(({ pixels }) => pixels >= LIMITS.fewestPixels).length * 2 >= frames.length;

/** By hue alone: mixing with grey, as edges do, changes strength and lightness and leaves the hue. */
function nearestColour(pixel: Rgb): Colour {
  const hue = hueOf(pixel);
  const distance = (name: Colour): number => {
    const apart = Math.abs(hue - hueOf(COLOURS[name]));
    return Math.min(apart, 360 - apart);
  };
  return COLOUR_NAMES.reduce((best, name) => (distance(name) < distance(best) ? name : best));
}

/** In degrees: red 0, green 120, blue 240. */
export function hueOf([red, green, blue]: Rgb): number {
  const strongest = Math.max(red, green, blue);
  const difference = strongest - Math.min(red, green, blue);
  if (difference === 0) return 0;
  const sixth =
    strongest === red
      ? (green - blue) / difference
      : strongest === green
        ? 2 + (blue - red) / difference
        : 4 + (red - green) / difference;
  return (sixth * 60 + 360) % 360;
}

function moveOf(video: Frames, frames: readonly ColouredFrame[]): Omit<Measurement["direction"], "right"> {
  const [first, last] = [centreOf(video, frames[0]), centreOf(video, frames.at(-1))];
  if (first === undefined || last === undefined) return { seen: "none", moved: undefined };
  const moved = [last[0] - first[0], last[1] - first[1]] as const;
  const [across, down] = [Math.abs(moved[0]), Math.abs(moved[1])];
  const [longer, shorter] = [Math.max(across, down), Math.min(across, down)];
  if (longer < LIMITS.smallestMove || longer < LIMITS.straightness * shorter) return { seen: "none", moved };
  if (across > down) return { seen: moved[0] < 0 ? "left" : "right", moved };
  return { seen: moved[1] < 0 ? "up" : "down", moved };
}

/** The centre of mass of the coloured pixels, each as heavy as it is strong; none when there are too few. */
function centreOf({ width }: Frames, frame: ColouredFrame | undefined): readonly [number, number] | undefined {
  if (frame === undefined || frame.pixels < LIMITS.fewestPixels) return undefined;
  let [x, y, whole] = [0, 0, 0];
  frame.strength.forEach((weight, i) => {
    x += weight * (i % width);
    y += weight * Math.floor(i / width);
    whole += weight;
  });
  return [x / whole, y / whole];
}

function piecesOf({ height, width }: Frames, frames: readonly ColouredFrame[]): Measurement["oneObject"] {
  const shares = frames.map(({ strength, pixels }) =>
    pixels < LIMITS.fewestPixels ? 0 : Math.max(...componentSizes(strength, height, width)) / pixels,
  );
  const largestPiece = shares.reduce((sum, share) => sum + share, 0) / Math.max(1, frames.length);
  const largestArea = Math.max(0, ...frames.map(({ pixels }) => pixels)) / (height * width);
  const right = largestPiece >= LIMITS.largestPiece && largestArea <= LIMITS.largestArea;
  return { right, largestPiece, largestArea };
}
