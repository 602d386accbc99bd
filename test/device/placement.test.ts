import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ALIGNMENT, place, type Lifetime } from "../../runtime/program/placement.ts";

const lifetimes = fc.array(
  fc
    .tuple(fc.nat(5000), fc.nat(40), fc.nat(12))
    .map(([bytes, first, span]): Lifetime => ({ bytes, first, last: first + span })),
  { maxLength: 60 },
);

describe("placement of temporaries", () => {
  test("no two buffers that are alive at the same time overlap", () => {
    fc.assert(
      fc.property(lifetimes, (buffers) => {
        const { offsets, total, lowerBound } = place(buffers);
        for (const [i, a] of buffers.entries()) {
          expect(offsets[i]! % ALIGNMENT).toBe(0);
          expect(offsets[i]! + a.bytes).toBeLessThanOrEqual(total);
          for (const [j, b] of buffers.entries()) {
            if (i >= j || a.bytes === 0 || b.bytes === 0 || a.last < b.first || b.last < a.first) continue;
            expect(offsets[i]! + a.bytes <= offsets[j]! || offsets[j]! + b.bytes <= offsets[i]!).toBe(true);
          }
        }
        expect(total).toBeGreaterThanOrEqual(lowerBound);
      }),
      { numRuns: 300 },
    );
  });

  test("buffers that follow one another share memory", () => {
    const chain = Array.from({ length: 100 }, (_, i) => ({ bytes: 1000, first: i, last: i + 1 }));
    expect(place(chain)).toMatchObject({ total: 2048, lowerBound: 2048 });
  });

  test("activations kept for the backward pass are placed at the lower bound", () => {
    const kept = Array.from({ length: 40 }, (_, i) => ({ bytes: 64 * (i + 1), first: i, last: 99 - i }));
    const passing = Array.from({ length: 100 }, (_, i) => ({ bytes: 640, first: i, last: Math.min(i + 1, 99) }));
    const { total, lowerBound } = place([...kept, ...passing]);
    expect(total).toBe(lowerBound);
  });

  test("nothing takes nothing", () => {
    expect(place([])).toMatchObject({ total: 0, lowerBound: 0 });
    expect(place([{ bytes: 0, first: 0, last: 3 }])).toMatchObject({ total: 0 });
  });

  test("5,000 buffers are placed in well under a second", () => {
    const random = numbers(7);
    const buffers = Array.from({ length: 5000 }, () => {
      const first = Math.floor(random() * 5000);
      const last = Math.min(4999, first + Math.floor(random() ** 4 * 1000));
      return { bytes: Math.floor(random() * 1e6), first, last };
    });
    const started = performance.now();
    const { total, lowerBound } = place(buffers);
    expect(performance.now() - started).toBeLessThan(800); // about 100 ms on an idle machine
    expect(total / lowerBound).toBeLessThan(1.15);
  });
});

/** Park and Miller's generator, enough for sizes. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 48271) % 2147483647) / 2147483647;
}
