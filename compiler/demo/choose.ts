/**
 * Which clips are made, and which combinations does training never see?
 *
 * Sixteen of the 96 combinations are held out, every colour twice, and spread evenly over shapes and directions: each
 * word of a prompt was seen in training many times, and each pair of words too, but never the three together.
 */
import { dice, type Dice } from "./dice.ts";
import {
  allSubjects,
  articleOf,
  COLOUR_NAMES,
  DIRECTION_NAMES,
  DIRECTIONS,
  sameSubject,
  sentenceOf,
  SHAPES,
  type Subject,
} from "./subject.ts";

export const SIDE = 24;
export const FRAMES = 8;
export const FRAMES_PER_SECOND = 8;

/** Greys, 0 to 255, from one side of the picture to the opposite one; both the same: a plain background. */
export interface Background {
  readonly from: number;
  readonly to: number;
  /** Where the change runs to, as a step in x and y. */
  readonly along: readonly [number, number];
}

export interface ClipRecipe {
  readonly subject: Subject;
  /** Half of the shape's height, in pixels. */
  readonly radius: number;
  /** Its centre in the first frame, in pixels from the upper left corner. */
  readonly start: readonly [number, number];
  /** Pixels per frame. */
  readonly speed: number;
  readonly background: Background;
  readonly captions: readonly string[];
}

export interface Choice {
  /** What the model is asked for after training. */
  readonly heldOut: readonly Subject[];
  readonly clips: readonly ClipRecipe[];
}

export function choose(seed: number, clips: number): Choice {
  const heldOut = chooseHeldOut(dice(seed, "held out"));
  const trained = allSubjects().filter((subject) => !heldOut.some((held) => sameSubject(held, subject)));
  const subjects = repeatEvenly(trained, clips, dice(seed, "subjects"));
  const [ofClips, ofCaptions] = [dice(seed, "clips"), dice(seed, "captions")];
  return { heldOut, clips: subjects.map((subject) => chooseClip(subject, ofClips, ofCaptions)) };
}

function chooseHeldOut({ shuffle, pick }: Dice): Subject[] {
  const colours = shuffle(COLOUR_NAMES);
  const shapes = shuffle(SHAPES);
  const directions = shuffle(DIRECTION_NAMES);
  // The second round pairs every colour with another direction than the first one; its shape is another one anyway.
  const turn = pick([1, 2, 3]);
  const subjects = Array.from({ length: 16 }, (_, i): Subject => {
    const round = Math.floor(i / colours.length);
    return {
      colour: colours[i % colours.length]!,
      shape: shapes[i % shapes.length]!,
      direction: directions[(i + round * turn) % directions.length]!,
    };
  });
  return shuffle(subjects);
}

/** Every subject equally often, give or take one, in an order by chance. */
function repeatEvenly(subjects: readonly Subject[], count: number, { shuffle }: Dice): Subject[] {
  const rounds = Array.from({ length: Math.ceil(count / subjects.length) }, () => shuffle(subjects));
  return shuffle(rounds.flat().slice(0, count));
}

function chooseClip(subject: Subject, ofClip: Dice, ofCaptions: Dice): ClipRecipe {
  const radius = ofClip.between(3.4, 5);
  const speed = ofClip.between(1.1, 1.9);
  const way = speed * (FRAMES - 1);
  // The whole shape stays in the picture from the first frame to the last.
  const startAlong = (step: number): number => {
    const [before, after] = [step < 0 ? way : 0, step > 0 ? way : 0];
    return ofClip.between(radius + before, SIDE - radius - after);
  };
  const [stepX, stepY] = DIRECTIONS[subject.direction];
  const start = [startAlong(stepX), startAlong(stepY)] as const;
  const background = chooseBackground(ofClip);
  return { subject, radius, speed, start, background, captions: captionsOf(subject, ofCaptions) };
}

function chooseBackground({ pick, between }: Dice): Background {
  const along = pick([
    [1, 0],
    [0, 1],
    [1, 1],
    [1, -1],
    [-1, 0],
    [0, -1],
  ] as const);
  switch (pick(["dark", "grey", "grey", "gradient", "gradient"] as const)) {
    case "dark": {
      const level = between(4, 36);
      return { from: level, to: level, along };
    }
    case "grey": {
      const level = between(40, 150);
      return { from: level, to: level, along };
    }
    case "gradient":
      return { from: between(8, 80), to: between(90, 160), along };
  }
}

type Wording = (subject: Subject, article: string) => string;

const WORDINGS: readonly Wording[] = [
  (subject) => sentenceOf(subject),
  ({ colour, shape, direction }, a) => `${a} ${colour} ${shape} moves ${direction}`,
  ({ colour, shape, direction }) => `the ${colour} ${shape} is moving ${direction}`,
  ({ colour, shape, direction }) => `${colour} ${shape} moving ${direction}`,
  ({ colour, shape, direction }, a) => `there is ${a} ${colour} ${shape} moving ${towards(direction)}`,
  ({ colour, shape, direction }, a) => `${a} ${colour} ${shape} that moves ${towards(direction)}`,
  ({ colour, shape, direction }, a) => `a video of ${a} ${colour} ${shape} moving ${direction}`,
];

/** Two different ones: every caption of a clip is a sample of its own. */
function captionsOf(subject: Subject, { shuffle }: Dice): string[] {
  const [first, second] = shuffle(WORDINGS);
  return [first, second].flatMap((wording) =>
    wording === undefined ? [] : [wording(subject, articleOf(subject.colour))],
  );
}

const towards = (direction: Subject["direction"]): string =>
  direction === "left" || direction === "right" ? `to the ${direction}` : direction;
