/**
 * Which samples make up the next batch?
 *
 * Every epoch visits every sample once, in an order that is a pure function of (seed, epoch); a position (epoch, index)
 * is the whole state, so a resumed run continues with the very next sample. The last batch of an epoch is filled up with
 * the first samples of the next one: no sample is dropped, no batch is short.
 */
import { philox4x32 } from "../../contract/philox.ts";
import { CompilerBug } from "../../contract/diagnostic.ts";
import type { DataPosition } from "../checkpoint/checkpoint-state.ts";

/** The i-th random 32-bit word of an epoch. */
export type Draw = (seed: number, epoch: number, index: number) => number;

/** Keeps these draws apart from every draw of a model: "data" in ASCII. */
const DATA_PATH = 0x64617461;

export const drawFromPhilox: Draw = (seed, epoch, index) =>
  philox4x32([index, Math.floor(index / 2 ** 32), epoch, Math.floor(epoch / 2 ** 32)], [seed, DATA_PATH])[0];

export interface BatchOptions {
  /** The sequence length of each sample. */
  readonly tokens: readonly number[];
  readonly seed: number;
  /** Samples per batch. With bucketing the order depends on it: a resumed run must keep it. */
  readonly batchSize: number;
  /** Put samples of similar length into one batch, so that little is padded. */
  readonly bucketed?: boolean;
  readonly draw?: Draw;
}

export interface Batch {
  /** Indices of samples. */
  readonly samples: readonly number[];
  readonly next: DataPosition;
}

export interface BatchOrder {
  /** The batch that starts at a position; the same one whenever it is asked for. */
  readonly nextBatch: (position: DataPosition) => Batch;
  readonly samplesPerEpoch: number;
}

/** Where training starts. */
export const START: DataPosition = Object.freeze({ epoch: 0, index: 0 });

export function createBatchOrder({
  tokens,
  seed,
  batchSize,
  bucketed,
  draw = drawFromPhilox,
}: BatchOptions): BatchOrder {
  const count = tokens.length;
  if (count === 0 || batchSize < 1) throw new CompilerBug("batches", `${count} samples in batches of ${batchSize}`);
  const recent = new Map<number, readonly number[]>();
  const orderOf = (epoch: number): readonly number[] => {
    const cached = recent.get(epoch);
    if (cached !== undefined) return cached;
    const shuffled = permutation(count, (i) => draw(seed, epoch, i));
    const order =
      bucketed === true
        ? bucketByLength(shuffled, tokens, batchSize, epoch, (i) => draw(seed, epoch, count + i))
        : shuffled;
    // A batch touches two epochs at most times; older orders can be made again.
    if (recent.size >= 4) recent.clear();
    recent.set(epoch, order);
    return order;
  };

  const nextBatch = (position: DataPosition): Batch => {
    let { epoch, index } = position;
    const samples: number[] = [];
    while (samples.length < batchSize) {
      // A folder that lost samples since the position was saved: go on with the next epoch.
      if (index >= count) {
        epoch++;
        index = 0;
      }
      samples.push(orderOf(epoch)[index++]!);
    }
    return { samples, next: index >= count ? { epoch: epoch + 1, index: 0 } : { epoch, index } };
  };
  return Object.freeze({ nextBatch, samplesPerEpoch: count });
}

/** Fisher and Yates: every order of 0 ... count - 1 is equally likely. */
function permutation(count: number, word: (index: number) => number): number[] {
  const order = Array.from({ length: count }, (_, i) => i);
  for (let last = count - 1; last > 0; last--) {
    const chosen = Math.floor((word(last) / 2 ** 32) * (last + 1));
    const swapped = order[last]!;
    order[last] = order[chosen]!;
    order[chosen] = swapped;
  }
  return order;
}

/** Batches that are sorted together: wide enough to find like lengths, narrow enough to stay random. */
const WINDOW_BATCHES = 32;

/**
 * Within windows of the shuffled order samples are sorted by length and cut into batches; then the batches change places
 * at random. The first samples of an epoch that complete the last batch of the epoch before stay where they are, so that
 * cuts and batches coincide.
 */
function bucketByLength(
  shuffled: readonly number[],
  tokens: readonly number[],
  batchSize: number,
  epoch: number,
  word: (index: number) => number,
): number[] {
  const count = shuffled.length;
  const borrowed = Math.min(count, (batchSize - ((epoch * count) % batchSize)) % batchSize);
  const wholeBatches = Math.floor((count - borrowed) / batchSize);
  const remainder = borrowed + wholeBatches * batchSize;

  const batches: (readonly number[])[] = [];
  const window = WINDOW_BATCHES * batchSize;
  for (let start = borrowed; start < remainder; start += window) {
    const sorted = shuffled.slice(start, Math.min(start + window, remainder)).sort((a, b) => tokens[a]! - tokens[b]!);
    for (let at = 0; at < sorted.length; at += batchSize) batches.push(sorted.slice(at, at + batchSize));
  }
  const places = permutation(batches.length, word);
  return [...shuffled.slice(0, borrowed), ...places.flatMap((place) => batches[place]!), ...shuffled.slice(remainder)];
}
