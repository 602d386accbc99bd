/**
 * What can be seen in a clip: a colour, a shape, a direction.
 *
 * The hues are far enough apart to be told from one another after compression, and every colour is strong enough to be
 * told from the greys behind it.
 */

/** Red, green and blue, 0 to 255. */
export type Rgb = readonly [number, number, number];

export const COLOURS = {
  red: [232, 28, 36],
  orange: [255, 136, 0],
  yellow: [246, 232, 16],
  green: [24, 184, 48],
  cyan: [16, 216, 232],
  blue: [32, 64, 240],
  purple: [148, 24, 232],
  pink: [255, 72, 184],
} as const satisfies Readonly<Record<string, Rgb>>;

/** Steps per frame: x to the right, y down. */
export const DIRECTIONS = {
  left: [-1, 0],
  right: [1, 0],
  up: [0, -1],
  down: [0, 1],
} as const satisfies Readonly<Record<string, readonly [number, number]>>;

export const SHAPES = ["circle", "square", "triangle"] as const;

export type Colour = keyof typeof COLOURS;
export type Direction = keyof typeof DIRECTIONS;
export type Shape = (typeof SHAPES)[number];

export const COLOUR_NAMES = Object.keys(COLOURS) as readonly Colour[];
export const DIRECTION_NAMES = Object.keys(DIRECTIONS) as readonly Direction[];

export interface Subject {
  readonly colour: Colour;
  readonly shape: Shape;
  readonly direction: Direction;
}

/** All 96, in a fixed order. */
export const allSubjects = (): Subject[] =>
  COLOUR_NAMES.flatMap((colour) =>
    SHAPES.flatMap((shape) => DIRECTION_NAMES.map((direction) => ({ colour, shape, direction }))),
  );

export const sameSubject = (a: Subject, b: Subject): boolean =>
  a.colour === b.colour && a.shape === b.shape && a.direction === b.direction;

/** The shortest way to say it; prompts are written like this. */
export const sentenceOf = ({ colour, shape, direction }: Subject): string =>
  `${articleOf(colour)} ${colour} ${shape} moving ${direction}`;

export const articleOf = (word: string): "a" | "an" => (/^[aeiou]/.test(word) ? "an" : "a");
