// Which clips are made and which combinations are held out, for many seeds.
import { expect, test } from "vitest";
import { choose, type ClipRecipe, FRAMES, SIDE } from "../../compiler/demo/choose.ts";
import { DIRECTIONS, sameSubject, sentenceOf, type Subject } from "../../compiler/demo/subject.ts";

const SEEDS = [0, 1, 2, 3, 17, 1234567, 2 ** 32 - 1];

function countBy<Item>(items: readonly Item[], name: (item: Item) => string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const item of items) counts[name(item)] = (counts[name(item)] ?? 0) + 1;
  return counts;
}

const PAIRS: readonly ((subject: Subject) => string)[] = [
  ({ colour, shape }) => `${colour} ${shape}`,
  ({ colour, direction }) => `${colour} ${direction}`,
  ({ shape, direction }) => `${shape} ${direction}`,
];

test.each(SEEDS)("seed %i: sixteen combinations are held out, evenly, and no clip shows one of them", (seed) => {
  const { heldOut, clips } = choose(seed, 256);
  expect(clips).toHaveLength(256);
  expect(new Set(heldOut.map(sentenceOf)).size).toBe(16);
  expect(clips.filter(({ subject }) => heldOut.some((held) => sameSubject(held, subject)))).toEqual([]);
  expect(Object.values(countBy(heldOut, ({ colour }) => colour))).toEqual(Array(8).fill(2));
  expect(Object.values(countBy(heldOut, ({ direction }) => direction))).toEqual(Array(4).fill(4));
  expect(Object.values(countBy(heldOut, ({ shape }) => shape)).sort()).toEqual([5, 5, 6]);
  // All that is left is shown equally often, so every pair of words of a prompt is well known.
  expect(new Set(Object.values(countBy(clips, ({ subject }) => sentenceOf(subject))))).toEqual(new Set([3, 4]));
  for (const pair of PAIRS) {
    const known = countBy(clips, ({ subject }) => pair(subject));
    for (const held of heldOut) expect(known[pair(held)], pair(held)).toBeGreaterThanOrEqual(3);
  }
});

test("a seed decides everything, and another seed changes everything", () => {
  expect(choose(5, 64)).toEqual(choose(5, 64));
  const [one, other] = [choose(5, 64), choose(6, 64)];
  expect(one.heldOut.map(sentenceOf)).not.toEqual(other.heldOut.map(sentenceOf));
  const same = one.clips.filter((clip, i) => clip.radius === other.clips[i]?.radius);
  expect(same).toEqual([]);
});

test.each(SEEDS)("seed %i: shapes stay in the picture, and clips differ in all that can be chosen", (seed) => {
  const { clips } = choose(seed, 256);
  for (const { subject, start, speed, radius } of clips) {
    const step = DIRECTIONS[subject.direction];
    for (const axis of [0, 1] as const) {
      for (const t of [0, FRAMES - 1]) {
        const centre = start[axis] + step[axis] * speed * t;
        expect(centre - radius).toBeGreaterThanOrEqual(-1e-9);
        expect(centre + radius).toBeLessThanOrEqual(SIDE + 1e-9);
      }
    }
  }
  const differing: readonly ((clip: ClipRecipe) => number)[] = [
    ({ radius }) => radius,
    ({ speed }) => speed,
    ({ start }) => start[0],
    ({ start }) => start[1],
    ({ background }) => background.from,
    ({ background }) => background.to,
  ];
  for (const value of differing) expect(new Set(clips.map(value)).size).toBe(256);
});

test("captions say colour, shape and direction in several ways, two for each clip", () => {
  const { clips } = choose(9, 256);
  const wordings = new Set<string>();
  for (const { subject, captions } of clips) {
    expect(new Set(captions).size).toBe(2);
    for (const caption of captions) {
      const words = caption.split(" ");
      expect(words).toEqual(expect.arrayContaining([subject.colour, subject.shape, subject.direction]));
      expect(caption).not.toMatch(/\ba [aeiou]|\ban [^aeiou]/);
      wordings.add(caption.replace(subject.colour, "C").replace(subject.shape, "S").replace(subject.direction, "D"));
    }
  }
  expect(wordings.size).toBeGreaterThanOrEqual(6);
  expect(sentenceOf({ colour: "orange", shape: "circle", direction: "up" })).toBe("an orange circle moving up");
});
