/** Batches: every sample once per epoch, the same order on every run, and a position that is the whole state. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type BatchOrder, START, createBatchOrder } from "../../runtime/data/batches.ts";
import { createClipStore } from "../../runtime/data/clip-store.ts";
import { openDataset } from "../../runtime/data/dataset.ts";
import { encodeMp4 } from "../../runtime/data/ffmpeg.ts";
import { findVideoTools } from "../../runtime/data/ffmpeg-find.ts";
import { createLoader } from "../../runtime/data/loader.ts";
import { builtInTextEncoder } from "../../runtime/data/text.ts";
import { movingSquare } from "./clips.ts";

function drawn(order: BatchOrder, batches: number): number[][] {
  const all: number[][] = [];
  let position = START;
  for (let i = 0; i < batches; i++) {
    const { samples, next } = order.nextBatch(position);
    all.push([...samples]);
    position = next;
  }
  return all;
}

const lengthsOf = (count: number): number[] => Array.from({ length: count }, (_, i) => 16 * (1 + ((i * 7) % 5)));
const sorted = (numbers: readonly number[]): number[] => [...numbers].sort((a, b) => a - b);

test("every epoch holds every sample once, whatever the batch size, bucketed or not", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 90 }),
      fc.integer({ min: 1, max: 17 }),
      fc.boolean(),
      (count, batchSize, bucketed) => {
        const order = createBatchOrder({ tokens: lengthsOf(count), seed: 1, batchSize, bucketed });
        const batches = drawn(order, Math.ceil((3 * count) / batchSize));
        expect(batches.every((batch) => batch.length === batchSize)).toBe(true);
        const stream = batches.flat();
        for (let epoch = 0; epoch < 3; epoch++) {
          const samples = stream.slice(epoch * count, (epoch + 1) * count);
          expect(sorted(samples)).toEqual(Array.from({ length: count }, (_, i) => i));
        }
      },
    ),
    { numRuns: 200 },
  );
});

test("the order depends on seed and epoch and on nothing else", () => {
  const make = (seed: number): number[][] => drawn(createBatchOrder({ tokens: lengthsOf(40), seed, batchSize: 8 }), 10);
  expect(make(7)).toEqual(make(7));
  expect(make(7)).not.toEqual(make(8));
  const [first, second] = [make(7).slice(0, 5).flat(), make(7).slice(5).flat()];
  expect(first).not.toEqual(second);
});

test("any position continues with the very next sample", () => {
  const options = { tokens: lengthsOf(23), seed: 3, batchSize: 5, bucketed: true };
  const order = createBatchOrder(options);
  let position = START;
  for (let i = 0; i < 12; i++) {
    const again = createBatchOrder(options).nextBatch(JSON.parse(JSON.stringify(position)) as typeof position);
    expect(again).toEqual(order.nextBatch(position));
    position = again.next;
  }
  expect(order.nextBatch({ epoch: 2, index: 999 }).samples).toEqual(order.nextBatch({ epoch: 3, index: 0 }).samples);
});

test("the generator decides every place, the first one and the last one included", () => {
  const lowest = createBatchOrder({ tokens: lengthsOf(6), seed: 0, batchSize: 6, draw: () => 0 });
  const highest = createBatchOrder({ tokens: lengthsOf(6), seed: 0, batchSize: 6, draw: () => 2 ** 32 - 1 });
  expect(lowest.nextBatch(START).samples).toEqual([1, 2, 3, 4, 5, 0]);
  expect(highest.nextBatch(START).samples).toEqual([0, 1, 2, 3, 4, 5]);
});

test("all orders of three samples are about equally frequent", () => {
  const counts = new Map<string, number>();
  for (let seed = 0; seed < 3000; seed++) {
    const order = createBatchOrder({ tokens: [1, 1, 1], seed, batchSize: 3 })
      .nextBatch(START)
      .samples.join("");
    counts.set(order, (counts.get(order) ?? 0) + 1);
  }
  expect(counts.size).toBe(6);
  for (const count of counts.values()) expect(Math.abs(count - 500)).toBeLessThan(100);
});

test("bucketing leaves little to pad, in later epochs too, and stays random", () => {
  const tokens = lengthsOf(403);
  const padding = (bucketed: boolean, from: number, to: number): number => {
    const batches = drawn(createBatchOrder({ tokens, seed: 5, batchSize: 8, bucketed }), to).slice(from);
    const real = batches.flat().reduce((sum, i) => sum + tokens[i]!, 0);
    const padded = batches.reduce((sum, batch) => sum + batch.length * Math.max(...batch.map((i) => tokens[i]!)), 0);
    return padded / real - 1;
  };
  expect(padding(false, 0, 150)).toBeGreaterThan(0.4);
  expect(padding(true, 0, 50)).toBeLessThan(0.08);
  expect(padding(true, 101, 151)).toBeLessThan(0.08);
  const lengths = drawn(createBatchOrder({ tokens, seed: 5, batchSize: 8, bucketed: true }), 50).map(
    (b) => tokens[b[0]!]!,
  );
  expect(lengths).not.toEqual(sorted(lengths));
});

describe("from files to tensors", () => {
  const tools = findVideoTools();

  test("patches, lengths, text and position of a batch; a clip that breaks later is replaced and reported", async () => {
    const data = mkdtempSync(join(tmpdir(), "soracc-batches-"));
    try {
      await encodeMp4(join(data, "short.mp4"), movingSquare({ frames: 2 }), 8, tools);
      await encodeMp4(join(data, "wide.mp4"), movingSquare({ frames: 2, width: 40, height: 16 }), 8, tools);
      const records = [
        { file: "short.mp4", captions: ["a red square", "square"] },
        { file: "wide.mp4", captions: ["one two three four"] },
      ];
      writeFileSync(join(data, "captions.json"), JSON.stringify(records));
      // Nothing fits in memory: every batch decodes anew.
      const { samples, store } = await openDataset({ folder: data, tools, patch: 8, budget: 0 });
      const order = createBatchOrder({ tokens: samples.map(({ clip }) => clip.tokens), seed: 0, batchSize: 3 });
      const bad: string[] = [];
      const encoder = builtInTextEncoder(16);
      const loader = createLoader({ samples, order, store, encoder, patch: 8, ahead: 0 });

      const batch = await loader.batch(START);
      const names = batch.samples.map(({ clip }) => clip.file);
      expect(sorted([...batch.videoLengths])).toEqual([18, 18, 20]);
      expect(batch.tokens).toBe(20);
      expect(batch.video.length).toBe(3 * 20 * 3 * 8 * 8);
      expect(batch.textTokens).toBe(4);
      expect(batch.next).toEqual({ epoch: 1, index: 0 });
      const perSample = 20 * 3 * 8 * 8;
      names.forEach((name, b) => {
        expect([...batch.grids.subarray(b * 3, b * 3 + 3)]).toEqual(name === "short.mp4" ? [2, 3, 3] : [2, 2, 5]);
        const end = batch.video.subarray((b + 1) * perSample - 2 * 3 * 8 * 8, (b + 1) * perSample);
        expect(end.every((value) => value === 0)).toBe(name === "short.mp4");
        // The upper left pixel is background: 30 / 255 - 0.5.
        expect(batch.video[b * perSample]).toBeCloseTo(30 / 255 - 0.5, 1);
        const words = batch.samples[b]!.caption.split(" ").length;
        expect(batch.textLengths[b]).toBe(words);
        const rest = batch.text.subarray((b * 4 + words) * 16, (b + 1) * 4 * 16);
        expect(rest.every((value) => value === 0)).toBe(true);
      });
      expect((await loader.batch(START)).video).toEqual(batch.video);

      rmSync(join(data, "wide.mp4"));
      // What was decoded ahead is still good: only a new store has to look at the file again.
      const fresh = createClipStore({ tools, budget: 0 });
      const onBadClip = ({ file }: { readonly file: string }): void => void bad.push(file);
      const laterLoader = createLoader({ samples, order, store: fresh, encoder, patch: 8, ahead: 0, onBadClip });
      const later = await laterLoader.batch({ epoch: 7, index: 0 });
      expect(later.samples.map(({ clip }) => clip.file)).toEqual(["short.mp4", "short.mp4", "short.mp4"]);
      expect(bad).toContain("wide.mp4");
    } finally {
      rmSync(data, { recursive: true, force: true });
    }
  });

  test("batches made ahead are those made on demand", async () => {
    const data = mkdtempSync(join(tmpdir(), "soracc-batches-"));
    try {
      for (const name of ["a", "b", "c"]) {
        await encodeMp4(join(data, `${name}.mp4`), movingSquare({ frames: 2 }), 8, tools);
        writeFileSync(join(data, `${name}.txt`), `caption of ${name}`);
      }
      const { samples, store } = await openDataset({ folder: data, tools, patch: 8 });
      const order = createBatchOrder({ tokens: samples.map(({ clip }) => clip.tokens), seed: 0, batchSize: 2 });
      const common = { samples, order, store, encoder: builtInTextEncoder(8), patch: 8 };
      const [eager, lazy] = [createLoader({ ...common, ahead: 3 }), createLoader({ ...common, ahead: 0 })];
      let position = START;
      for (let i = 0; i < 5; i++) {
        const batch = await eager.batch(position);
        expect(batch).toEqual(await lazy.batch(position));
        position = batch.next;
      }
    } finally {
      rmSync(data, { recursive: true, force: true });
    }
  });
});
