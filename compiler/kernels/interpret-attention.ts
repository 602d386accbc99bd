/** Attention and its gradient in float64, by their definitions: all scores of a query, one query after the other. */
import { forEachIndex, reader, writer, type Run } from "./interpret.ts";
import type { AttentionGradientKernel, AttentionKernel, KernelMask } from "./kernel.ts";

/** The axes of an attention kernel are batch, heads, queries, keys and head, in this order. */
const [BATCH, HEADS] = [0, 1] as const;

type Read = (query: number, key: number, component: number) => number;

/** Reads an access of the kernel for the batch and head of `index`. */
function readAt(run: Run, position: number, index: readonly number[]): Read {
  const read = reader(run, position);
  return (query, key, component) => read([index[BATCH]!, index[HEADS]!, query, key, component]);
}

/** Whether key j is visible to query i in the batch of `index`. */
function visibility(run: Run, mask: KernelMask, index: readonly number[]): (query: number, key: number) => boolean {
  const segments = mask.segments.map(({ extent, lengths }) => ({
    extent: run.size(extent),
    length: reader(run, lengths)([index[BATCH]!, 0, 0, 0, 0]),
  }));
  const valid: boolean[] = [];
  for (const { extent, length } of segments) for (let j = 0; j < extent; j++) valid.push(j < length);
  return (query, key) => (segments.length === 0 || valid[key] === true) && (!mask.causal || key <= query);
}

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
const dot = (count: number, a: (i: number) => number, b: (i: number) => number): number =>
  range(count).reduce((sum, i) => sum + a(i) * b(i), 0);

export function interpretAttention(run: Run, kernel: AttentionKernel): void {
  const [, , queries = 0, keys = 0, head = 0] = run.extents;
  const index = [0, 0, 0, 0, 0];
  const writeOutput = writer(run, kernel.o);
  const writeLse = writer(run, kernel.lse);
  forEachIndex(run, [BATCH, HEADS], index, () => {
    const q = readAt(run, kernel.q, index);
    const k = readAt(run, kernel.k, index);
    const v = readAt(run, kernel.v, index);
    const visible = visibility(run, kernel.mask, index);
    for (const i of range(queries)) {
      const seen = range(keys).filter((j) => visible(i, j));
      const scores = seen.map(
        (j) =>
          kernel.scale *
          dot(
            head,
            (d) => q(i, 0, d),
            (d) => k(0, j, d),
          ),
      );
      const largest = Math.max(...scores);
      const weights = scores.map((score) => Math.exp(score - largest));
      const total = weights.reduce((a, b) => a + b, 0);
      const place = [index[BATCH]!, index[HEADS]!, i, 0];
      for (const d of range(head)) {
        const sum = seen.reduce((o, j, n) => o + weights[n]! * v(0, j, d), 0);
        writeOutput([...place, d], seen.length === 0 ? 0 : sum / total);
      }
      writeLse([...place, 0], seen.length === 0 ? -Infinity : largest + Math.log(total));
    }
  });
}

export function interpretAttentionGradient(run: Run, kernel: AttentionGradientKernel): void {
  const [, , queries = 0, keys = 0, head = 0] = run.extents;
  const index = [0, 0, 0, 0, 0];
  const writers = [kernel.dq, kernel.dk, kernel.dv].map((position) => writer(run, position));
  forEachIndex(run, [BATCH, HEADS], index, () => {
    const [q, k, v, o, lse, doutput] = [kernel.q, kernel.k, kernel.v, kernel.o, kernel.lse, kernel.doutput].map(
      (position) => readAt(run, position, index),
    ) as [Read, Read, Read, Read, Read, Read];
    const visible = visibility(run, kernel.mask, index);
    const dq = range(queries).map(() => new Float64Array(head));
    const [dk, dv] = [range(keys), range(keys)].map((list) => list.map(() => new Float64Array(head)));
    for (const i of range(queries)) {
      // softmax: ds = p (dp - sum(p dp)), and that sum is do . o
      const delta = dot(
        head,
        (d) => doutput(i, 0, d),
        (d) => o(i, 0, d),
      );
      for (const j of range(keys).filter((key) => visible(i, key))) {
        const p = Math.exp(
          kernel.scale *
            dot(
              head,
              (d) => q(i, 0, d),
              (d) => k(0, j, d),
            ) -
            lse(i, 0, 0),
        );
        const ds =
          p *
          (dot(
            head,
            (d) => doutput(i, 0, d),
            (d) => v(0, j, d),
          ) -
            delta) *
          kernel.scale;
        for (const d of range(head)) {
          dq[i]![d]! += ds * k(0, j, d);
          dk![j]![d]! += ds * q(i, 0, d);
          dv![j]![d]! += p * doutput(i, 0, d);
        }
      }
    }
    const at = (query: number, key: number, d: number) => [index[BATCH]!, index[HEADS]!, query, key, d];
    for (const d of range(head)) {
      for (const i of range(queries)) writers[0]!(at(i, 0, d), dq[i]![d]!);
      for (const j of range(keys)) {
        writers[1]!(at(0, j, d), dk![j]![d]!);
        writers[2]!(at(0, j, d), dv![j]![d]!);
      }
    }
  });
}
