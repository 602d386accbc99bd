// The demo's own yardstick: everything right on what was drawn, and wrong on what is wrong.
import { describe, expect, test } from "vitest";
import { choose, type ClipRecipe, FRAMES, SIDE } from "../../compiler/demo/choose.ts";
import { componentSizes } from "../../compiler/demo/components.ts";
import { drawClip } from "../../compiler/demo/draw.ts";
import { hueOf, LIMITS, measure, passed } from "../../compiler/demo/measure.ts";
import { allSubjects, COLOUR_NAMES, COLOURS, DIRECTION_NAMES } from "../../compiler/demo/subject.ts";
import { philox4x32 } from "../../contract/philox.ts";
import type { Frames } from "../../runtime/data/ffmpeg.ts";

const PIXELS = SIDE * SIDE;
const asked = { colour: "red", direction: "right" } as const;

const recipe = (changes: Partial<ClipRecipe> = {}): ClipRecipe => ({
  subject: { ...asked, shape: "circle" },
  ...{ radius: 4, start: [5, 12], speed: 1.5, captions: [] },
  background: { from: 40, to: 120, along: [1, 1] },
  ...changes,
});

/** Every pixel from a function of the frame and the place. */
function paint(pixel: (t: number, x: number, y: number) => readonly [number, number, number]): Frames {
  const data = new Uint8Array(FRAMES * PIXELS * 3);
  for (let i = 0; i < FRAMES * PIXELS; i++) {
    data.set(pixel(Math.floor(i / PIXELS), i % SIDE, Math.floor((i % PIXELS) / SIDE)), i * 3);
  }
  return { data, frames: FRAMES, height: SIDE, width: SIDE };
}

const grey = [70, 70, 70] as const;
const isWithin = (x: number, y: number, left: number, top: number, side: number): boolean =>
  x >= left && x < left + side && y >= top && y < top + side;

describe("what was drawn measures right", () => {
  test("all 96 combinations", () => {
    for (const subject of allSubjects()) {
      const [stepX, stepY] = [subject.direction === "left" ? 18 : 6, subject.direction === "up" ? 18 : 6];
      const measured = measure(drawClip(recipe({ subject, start: [stepX, stepY] })), subject);
      expect(passed(measured), JSON.stringify([subject, measured])).toBe(true);
      expect(measured.colour.share).toBeGreaterThan(0.99);
      expect(measured.oneObject.largestPiece).toBe(1);
    }
  });

  test.each([1, 2, 3])("all clips of seed %i", (seed) => {
    for (const clip of choose(seed, 256).clips) {
      const measured = measure(drawClip(clip), clip.subject);
      expect(passed(measured), JSON.stringify([clip, measured])).toBe(true);
    }
  });
});

describe("the colour is wrong", () => {
  test("when it is another one, and says which", () => {
    const video = drawClip(recipe());
    for (const colour of COLOUR_NAMES) {
      expect(measure(video, { ...asked, colour }).colour).toMatchObject({ right: colour === "red", seen: "red" });
    }
  });

  test("when there is none, however light or dark the greys, and however tinted", () => {
    for (const level of [0, 60, 200]) {
      const measured = measure(
        paint(() => [level + 40, level, level]),
        asked,
      );
      expect(measured).toMatchObject({ colour: { right: false, seen: "none" }, direction: { right: false } });
      expect(measured.oneObject.right).toBe(false);
    }
  });

  test("when several share the object", () => {
    const hues = [COLOURS.red, COLOURS.blue, COLOURS.green] as const;
    const video = paint((t, x, y) => (isWithin(x, y, t, 6, 9) ? hues[Math.floor((y - 6) / 3)]! : grey));
    expect(measure(video, asked)).toMatchObject({ colour: { right: false, seen: "none" }, direction: { right: true } });
  });

  test("when it flashes up in a few frames only", () => {
    const video = paint((t, x, y) => (t < 3 && isWithin(x, y, 6, 6, 6) ? COLOURS.red : grey));
    expect(measure(video, asked).colour.right).toBe(false);
  });
});

describe("the direction is wrong", () => {
  test("when it is another one, and says which", () => {
    const video = drawClip(recipe());
    for (const direction of DIRECTION_NAMES) {
      const measured = measure(video, { ...asked, direction }).direction;
      expect(measured).toMatchObject({ right: direction === "right", seen: "right" });
    }
    expect(measure(video, asked).direction.moved?.[0]).toBeCloseTo(1.5 * (FRAMES - 1), 1);
  });

  test("when nothing moves, or too little", () => {
    for (const speed of [0, 0.3]) {
      const measured = measure(drawClip(recipe({ speed })), asked);
      expect(measured).toMatchObject({ colour: { right: true }, direction: { right: false, seen: "none" } });
    }
  });

  test("when it moves askew", () => {
    const video = paint((t, x, y) => (isWithin(x, y, t + 2, t + 2, 6) ? COLOURS.red : grey));
    expect(measure(video, asked).direction).toMatchObject({ right: false, seen: "none" });
  });

  test("when the object is missing at one end", () => {
    const video = paint((t, x, y) => (t > 0 && isWithin(x, y, t + 2, 8, 6) ? COLOURS.red : grey));
    expect(measure(video, asked).direction).toMatchObject({ right: false, moved: undefined });
  });
});

describe("it is not one object", () => {
  test("when there are two", () => {
    const video = paint((t, x, y) =>
      isWithin(x, y, t + 1, 2, 6) || isWithin(x, y, t + 1, 14, 6) ? COLOURS.red : grey,
    );
    const measured = measure(video, asked);
    expect(measured).toMatchObject({ colour: { right: true }, direction: { right: true } });
    expect(measured.oneObject).toMatchObject({ right: false, largestPiece: 0.5 });
  });

  test("when it is gone in too many frames", () => {
    const video = paint((t, x, y) => (t !== 3 && t !== 4 && isWithin(x, y, t + 1, 2, 6) ? COLOURS.red : grey));
    expect(measure(video, asked).oneObject).toMatchObject({ right: false, largestPiece: 0.75 });
  });

  test("when it fills the picture", () => {
    const measured = measure(
      paint(() => COLOURS.red),
      asked,
    );
    expect(measured).toMatchObject({ colour: { right: true }, oneObject: { right: false, largestPiece: 1 } });
  });
});

test.each([255, 90])("noise of strength %i is nothing at all", (strength) => {
  for (let seed = 0; seed < 5; seed++) {
    const video = paint((t, x, y) => {
      const [red, green, blue] = philox4x32([x, y, t, 0], [seed, 0]);
      return [(red % 256) * (strength / 255), (green % 256) * (strength / 255), (blue % 256) * (strength / 255)];
    });
    for (const colour of COLOUR_NAMES) {
      for (const direction of DIRECTION_NAMES) {
        const measured = measure(video, { colour, direction });
        expect([measured.colour.right, measured.direction.right, measured.oneObject.right]).toEqual([
          false,
          false,
          false,
        ]);
      }
    }
  }
});

test("the eight colours are far apart in hue, and strong", () => {
  const hues = COLOUR_NAMES.map((name) => hueOf(COLOURS[name]));
  for (const [i, a] of hues.entries()) {
    for (const b of hues.slice(0, i)) expect(Math.min(Math.abs(a - b), 360 - Math.abs(a - b))).toBeGreaterThan(20);
  }
  for (const colour of Object.values(COLOURS)) {
    expect(Math.max(...colour) - Math.min(...colour)).toBeGreaterThan(2 * LIMITS.difference);
  }
  const primaries = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [90, 90, 90]] as const; // prettier-ignore
  expect(primaries.map(hueOf)).toEqual([0, 120, 240, 0]);
});

test("pieces touch by sides and corners, not around the edge", () => {
  const rows = ["#..##", ".#...", "....#", "#...#"];
  const marked = Uint8Array.from(rows.join(""), (cell) => (cell === "#" ? 200 : 0));
  expect(componentSizes(marked, 4, 5)).toEqual([2, 2, 2, 1]);
  expect(componentSizes(new Uint8Array(6), 2, 3)).toEqual([]);
});
