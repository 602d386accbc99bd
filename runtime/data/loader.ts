/**
 * Turns positions into batches a model can run on: patches, lengths, text.
 *
 * Sequences are padded with zeros to the longest of the batch; lengths say what is real. The next batch is made while the
 * current one trains, and the clips of the one after it are already being decoded.
 */
import { Diagnostic } from "../../contract/diagnostic.ts";
import type { DataPosition } from "../checkpoint/checkpoint-state.ts";
import type { BatchOrder } from "./batches.ts";
import type { ClipStore } from "./clip-store.ts";
import type { Quarantined } from "./clips.ts";
import type { Sample } from "./dataset.ts";
import type { DecodedVideo } from "./ffmpeg.ts";
import { framesToPatches } from "./patches.ts";
import type { TextEncoder } from "./text.ts";

/** B samples, S = the longest sequence, P = patch side, N = the longest text. */
export interface VideoBatch {
  readonly samples: readonly Sample[];
  /** float32 [B, S, 3, P, P] */
  readonly video: Float32Array<ArrayBuffer>;
  /** S */
  readonly tokens: number;
  /** int32 [B]: real tokens of each sample. */
  readonly videoLengths: Int32Array<ArrayBuffer>;
  /** int32 [B, 3]: frames, rows and columns of patches. */
  readonly grids: Int32Array<ArrayBuffer>;
  /** float32 [B, N, textDim] */
  readonly text: Float32Array<ArrayBuffer>;
  /** N */
  readonly textTokens: number;
  /** int32 [B]: real words of each caption, at least 1. */
  readonly textLengths: Int32Array<ArrayBuffer>;
  /** float32 [B, textDim] */
  readonly pooled: Float32Array<ArrayBuffer>;
  /** Where the batch after this one starts. */
  readonly next: DataPosition;
}

export interface LoaderOptions {
  readonly samples: readonly Sample[];
  readonly order: BatchOrder;
  readonly store: ClipStore;
  readonly encoder: TextEncoder;
  readonly patch: number;
  /** Batches to prepare beyond the one asked for; 1 unless given. */
  readonly ahead?: number;
  /** A clip that was fine before training and is not any more: its place is taken by the next sample that works. */
  readonly onBadClip?: (clip: Quarantined) => void;
}

export interface Loader {
  /** @throws Diagnostic when no sample of the epoch can be read any more */
  readonly batch: (position: DataPosition) => Promise<VideoBatch>;
}

export function createLoader(options: LoaderOptions): Loader {
  const { samples, order, store, ahead = 1 } = options;
  const prepared = new Map<string, Promise<VideoBatch>>();
  const keyOf = ({ epoch, index }: DataPosition): string => `${epoch}:${index}`;

  const prepare = (position: DataPosition): Promise<VideoBatch> => {
    const key = keyOf(position);
    const made = prepared.get(key) ?? assemble(position, options);
    // Reported when it is asked for.
    made.catch(() => undefined);
    prepared.set(key, made);
    return made;
  };

  return Object.freeze({
    batch: async (position: DataPosition) => {
      const wanted = prepare(position);
      const wantedAhead: DataPosition[] = [];
      let { next } = order.nextBatch(position);
      for (let i = 0; i < ahead; i++) {
        wantedAhead.push(next);
        ({ next } = order.nextBatch(next));
      }
      try {
        return await wanted;
      } finally {
        // A jump to another position leaves nothing behind.
        const kept = new Set(wantedAhead.map(keyOf));
        for (const key of prepared.keys()) if (!kept.has(key)) prepared.delete(key);
        for (const later of wantedAhead) void prepare(later);
        store.prefetch(order.nextBatch(next).samples.map((index) => samples[index]!.clip));
      }
    },
  });
}

async function assemble(position: DataPosition, options: LoaderOptions): Promise<VideoBatch> {
  const { samples, order, store, encoder, patch } = options;
  const { samples: chosen, next } = order.nextBatch(position);
  store.prefetch(chosen.map((index) => samples[index]!.clip));
  const members: Member[] = [];
  for (const index of chosen) members.push(await readable(index, options));

  const tokens = Math.max(...members.map(({ sample }) => sample.clip.tokens));
  const perToken = 3 * patch * patch;
  const video = new Float32Array(members.length * tokens * perToken);
  members.forEach(({ frames }, b) => framesToPatches(frames, patch, video, b * tokens * perToken));

  const { textDim } = encoder;
  const encoded = await encoder.encode(members.map(({ sample }) => sample.caption));
  const textLengths = Int32Array.from(encoded.tokens, (rows) => rows.length / textDim);
  const textTokens = Math.max(...textLengths);
  const text = new Float32Array(members.length * textTokens * textDim);
  encoded.tokens.forEach((rows, b) => text.set(rows, b * textTokens * textDim));
  const pooled = new Float32Array(members.length * textDim);
  encoded.pooled.forEach((row, b) => pooled.set(row, b * textDim));

  const clips = members.map(({ sample }) => sample.clip);
  return {
    samples: members.map(({ sample }) => sample),
    ...{ video, tokens, text, textTokens, textLengths, pooled, next },
    videoLengths: Int32Array.from(clips, (clip) => clip.tokens),
    grids: Int32Array.from(clips.flatMap(({ frames, rows, columns }) => [frames, rows, columns])),
  };
}

interface Member {
  readonly sample: Sample;
  readonly frames: DecodedVideo;
}

/** The sample itself, or the next one in the folder's order whose clip can be read. */
async function readable(index: number, { samples, store, onBadClip }: LoaderOptions): Promise<Member> {
  let last: unknown;
  for (let step = 0; step < samples.length; step++) {
    const sample = samples[(index + step) % samples.length]!;
    try {
      return { sample, frames: await store.frames(sample.clip) };
    } catch (error) {
      if (!(error instanceof Diagnostic) || error.parts.kind !== "video") throw error;
      onBadClip?.({ file: sample.clip.file, reason: error.parts.message });
      last = error;
    }
  }
  throw last;
}
