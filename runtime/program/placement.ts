/**
 * Where temporaries lie in one arena. Two of them may share memory when their lives do not meet.
 *
 * Greedy by size, as in Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference" (2020): the
 * largest buffer first, each into the tightest gap between those that are alive at the same time. Offsets depend on
 * the list alone.
 */

export interface Lifetime {
  readonly bytes: number;
  /** The first and the last step that touch the buffer, both included. */
  readonly first: number;
  readonly last: number;
}

export interface Placement {
  /** One per buffer, in bytes, aligned. */
  readonly offsets: Float64Array;
  readonly total: number;
  /** The most bytes alive in one step: no placement can be smaller. */
  readonly lowerBound: number;
}

export const ALIGNMENT = 64;

export const aligned = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

export function place(buffers: readonly Lifetime[]): Placement {
  const lowerBound = peakOf(buffers);
  let best: Placement | undefined;
  for (const order of ORDERS) {
    const placement = placeInOrder(buffers, order(buffers), lowerBound);
    if (best === undefined || placement.total < best.total) best = placement;
    if (best.total === lowerBound) break;
  }
  return best ?? { offsets: new Float64Array(0), total: 0, lowerBound };
}

/** Largest first is nearly always best; the second order helps where long lives of middle-sized buffers get in the way. */
const ORDERS: readonly ((buffers: readonly Lifetime[]) => Int32Array)[] = [
  (buffers) => sorted(buffers, (one) => one.bytes),
  (buffers) => sorted(buffers, (one) => one.bytes * (one.last - one.first + 1)),
];

function sorted(buffers: readonly Lifetime[], weight: (one: Lifetime) => number): Int32Array {
  const weights = Float64Array.from(buffers, weight);
  return Int32Array.from(buffers, (_, index) => index).sort(
    (a, b) => weights[b]! - weights[a]! || buffers[a]!.first - buffers[b]!.first || a - b,
  );
}

function placeInOrder(buffers: readonly Lifetime[], order: Int32Array, lowerBound: number): Placement {
  const offsets = new Float64Array(buffers.length);
  // What is placed, by offset, as parallel arrays: the loop below is the whole cost.
  const begin = new Float64Array(buffers.length);
  const end = new Float64Array(buffers.length);
  const first = new Int32Array(buffers.length);
  const last = new Int32Array(buffers.length);
  let placed = 0;
  let total = 0;
  for (const index of order) {
    const buffer = buffers[index]!;
    const size = aligned(buffer.bytes);
    if (size === 0) continue;
    let reach = 0; // memory below is taken by buffers alive at the same time
    let at = -1;
    let tightest = Infinity;
    for (let i = 0; i < placed; i++) {
      if (first[i]! > buffer.last || last[i]! < buffer.first) continue;
      const gap = begin[i]! - reach;
      if (gap >= size && gap < tightest) {
        at = reach;
        tightest = gap;
        if (gap === size) break;
      }
      if (end[i]! > reach) reach = end[i]!;
    }
    if (at < 0) at = reach;
    offsets[index] = at;
    total = Math.max(total, at + size);
    const slot = firstAbove(begin, placed, at);
    for (const list of [begin, end]) list.copyWithin(slot + 1, slot, placed);
    for (const list of [first, last]) list.copyWithin(slot + 1, slot, placed);
    begin[slot] = at;
    end[slot] = at + size;
    first[slot] = buffer.first;
    last[slot] = buffer.last;
    placed++;
  }
  return { offsets, total, lowerBound };
}

/** The first position among the ascending `values` whose value is above `limit`. */
function firstAbove(values: Float64Array, count: number, limit: number): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle]! > limit) high = middle;
    else low = middle + 1;
  }
  return low;
}

function peakOf(buffers: readonly Lifetime[]): number {
  const steps = buffers.reduce((most, { last }) => Math.max(most, last + 1), 0);
  const change = new Float64Array(steps + 1);
  for (const { bytes, first, last } of buffers) {
    change[first]! += aligned(bytes);
    change[last + 1]! -= aligned(bytes);
  }
  let alive = 0;
  let peak = 0;
  for (const delta of change) {
    alive += delta;
    peak = Math.max(peak, alive);
  }
  return peak;
}
