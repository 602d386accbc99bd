/** The built-in text encoder: stable, balanced, and able to tell prompts apart. */
import { expect, test } from "vitest";
import { BUILT_IN_ENCODER, builtInTextEncoder, wordsOf } from "../../runtime/data/text.ts";

const encoder = builtInTextEncoder(64);

function cosine(a: Float32Array, b: Float32Array): number {
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    dot += a[i]! * b[i]!;
    aa += a[i]! ** 2;
    bb += b[i]! ** 2;
  }
  return dot / Math.sqrt(aa * bb);
}

const pooled = async (...captions: string[]): Promise<readonly Float32Array[]> =>
  (await encoder.encode(captions)).pooled;

const COLOURS = ["red", "green", "blue", "yellow", "purple", "orange", "white", "cyan"];
const SHAPES = ["circle", "square", "triangle"];
const DIRECTIONS = ["left", "right", "up", "down"];
const prompt = (colour: string, shape: string, direction: string): string =>
  `a ${colour} ${shape} moving ${direction} over a dark background`;

test("words are lower-case runs of letters and digits, in any script", () => {
  expect(wordsOf("A Red  circle, moving-left: №2!")).toEqual(["a", "red", "circle", "moving", "left", "no2"]);
  expect(wordsOf("Café ÉTÉ")).toEqual(["café", "été"]);
  expect(wordsOf("Cafe\u0301")).toEqual(["café"]);
  expect(wordsOf("红色 circle圆")).toEqual(["红", "色", "circle", "圆"]);
  expect(wordsOf("... !")).toEqual([]);
});

test("the same text gives the same numbers, also tomorrow", async () => {
  expect(encoder.name).toBe(BUILT_IN_ENCODER);
  const [a, b] = await pooled("A red circle!", "a  RED circle");
  expect(a).toEqual(b);
  // Written down once: checkpoints trained with these vectors must keep meaning what they meant.
  expect([...a!.subarray(0, 6)].map((value) => value.toFixed(4))).toEqual(RECORDED);
});

const RECORDED = ["1.2025", "0.3575", "0.3575", "-1.3975", "0.3575", "0.9425"];

test("tokens and pooled vectors have a root mean square of 1; no words, zeros", async () => {
  const { tokens, pooled: vectors } = await encoder.encode(["a red circle", "", "?!"]);
  expect(tokens.map((rows) => rows.length)).toEqual([3 * 64, 64, 64]);
  for (let row = 0; row < 3; row++) {
    const squares = tokens[0]!.subarray(row * 64, (row + 1) * 64).reduce((sum, value) => sum + value * value, 0);
    expect(Math.sqrt(squares / 64)).toBeCloseTo(1, 5);
  }
  expect(Math.sqrt(vectors[0]!.reduce((sum, value) => sum + value * value, 0) / 64)).toBeCloseTo(1, 5);
  for (const empty of [tokens[1], tokens[2], vectors[1], vectors[2]])
    expect(empty!.every((value) => value === 0)).toBe(true);
});

test("one other content word is another vector", async () => {
  const [base, ...others] = await pooled(
    prompt("red", "circle", "left"),
    ...COLOURS.slice(1).map((colour) => prompt(colour, "circle", "left")),
    ...SHAPES.slice(1).map((shape) => prompt("red", shape, "left")),
    ...DIRECTIONS.slice(1).map((direction) => prompt("red", "circle", direction)),
  );
  const likeness = others.map((other) => cosine(base!, other));
  expect(Math.max(...likeness)).toBeLessThan(0.85);
  expect(likeness.reduce((sum, value) => sum + value, 0) / likeness.length).toBeLessThan(0.8);
});

test("stop words change little, the order of words changes something", async () => {
  const [base, article, swapped, same] = await pooled(
    "a red circle over a blue square",
    "the red circle over the blue square",
    "a blue circle over a red square",
    "red circle over blue square",
  );
  expect(cosine(base!, article!)).toBeGreaterThan(0.93);
  expect(cosine(base!, same!)).toBeGreaterThan(0.93);
  expect(cosine(base!, swapped!)).toBeLessThan(0.95);
});

test("different words are nearly orthogonal, related words are near in their tokens", async () => {
  const words = [...COLOURS, ...SHAPES, ...DIRECTIONS, "moving", "background", "dark", "striped"];
  const vectors = await pooled(...words);
  let largest = 0;
  for (let i = 0; i < words.length; i++)
    for (let j = 0; j < i; j++) largest = Math.max(largest, Math.abs(cosine(vectors[i]!, vectors[j]!)));
  expect(largest).toBeLessThan(0.5);

  // Wide vectors, so that chance plays no part.
  const related = [
    ["circle", "circles"],
    ["move", "moves"],
    ["jumping", "jumped"],
  ];
  const { tokens } = await builtInTextEncoder(1024).encode(related.flat());
  related.forEach((_, pair) => {
    const near = cosine(tokens[2 * pair]!, tokens[2 * pair + 1]!);
    const far = cosine(tokens[2 * pair]!, tokens[(2 * pair + 3) % tokens.length]!);
    expect(near).toBeGreaterThan(far + 0.1);
  });
});

test("colour, shape and direction can be read back from a 64-wide pooled vector by a linear map", async () => {
  const combinations = COLOURS.flatMap((colour) =>
    SHAPES.flatMap((shape) => DIRECTIONS.map((direction) => ({ colour, shape, direction }))),
  );
  const train = combinations.filter((_, i) => i % 6 !== 0);
  const held = combinations.filter((_, i) => i % 6 === 0);
  const encode = (list: typeof combinations) =>
    pooled(...list.map(({ colour, shape, direction }) => prompt(colour, shape, direction)));
  const trainVectors = await encode(train);
  const heldVectors = await encode(held);
  for (const [kind, labels] of [
    ["colour", COLOURS],
    ["shape", SHAPES],
    ["direction", DIRECTIONS],
  ] as const) {
    const targets = train.map((entry) => labels.indexOf(entry[kind]));
    const weights = ridge(trainVectors, targets, labels.length);
    const right = held.filter((entry, i) => labels[best(weights, heldVectors[i]!)] === entry[kind]);
    expect(`${kind} ${right.length}`).toBe(`${kind} ${held.length}`);
  }
});

/** Least squares to one-hot targets by gradient descent: enough to see whether a linear map exists. */
function ridge(vectors: readonly Float32Array[], targets: readonly number[], classes: number): Float64Array[] {
  const weights = Array.from({ length: classes }, () => new Float64Array(64));
  for (let step = 0; step < 300; step++) {
    vectors.forEach((vector, i) => {
      weights.forEach((row, label) => {
        let error = label === targets[i] ? -1 : 0;
        for (let k = 0; k < 64; k++) error += row[k]! * vector[k]!;
        for (let k = 0; k < 64; k++) row[k]! -= 0.004 * error * vector[k]!;
      });
    });
  }
  return weights;
}

function best(weights: readonly Float64Array[], vector: Float32Array): number {
  const scores = weights.map((row) => row.reduce((sum, weight, k) => sum + weight * vector[k]!, 0));
  return scores.indexOf(Math.max(...scores));
}
