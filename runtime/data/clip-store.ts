/**
 * Where are a clip's frames when a batch wants them?
 *
 * In memory, up to a budget, for as long as the run goes on; beyond it a clip is decoded when it is asked for. Asking
 * ahead (`prefetch`) starts the decoder early, so that training does not wait.
 */
import type { Clip } from "./clips.ts";
import { type DecodedVideo, type ReadLimits, decode } from "./ffmpeg.ts";
import type { VideoTools } from "./ffmpeg-find.ts";

export interface ClipStore {
  /** @throws Diagnostic (kind `video`) when the video cannot be decoded as declared */
  readonly frames: (clip: Clip) => Promise<DecodedVideo>;
  /** Starts decoding what is not in memory; a failure shows when the frames are asked for. */
  readonly prefetch: (clips: readonly Clip[]) => void;
  readonly bytesHeld: () => number;
}

export interface ClipStoreOptions {
  readonly tools: VideoTools;
  /** Bytes of decoded frames to keep; 1 GiB unless given. */
  readonly budget?: number;
  /** Decoders running at the same time; 2 unless given. */
  readonly parallel?: number;
  readonly limits?: ReadLimits;
}

export function createClipStore({ tools, budget = 2 ** 30, parallel = 2, limits = {} }: ClipStoreOptions): ClipStore {
  const kept = new Map<string, DecodedVideo>();
  const underway = new Map<string, Promise<DecodedVideo>>();
  const turns = turnstile(parallel);
  let held = 0;

  const begin = (clip: Clip): Promise<DecodedVideo> => {
    const work = turns(async () => {
      const { width, height, frames, framesPerSecond, durationSeconds } = clip;
      const decoded = await decode(
        clip.path,
        { width, height, frames, framesPerSecond, durationSeconds },
        tools,
        limits,
      );
      const bytes = decoded.data.byteLength;
      // First come, first kept: every epoch visits every clip once, so throwing one out for another gains nothing.
      if (held + bytes <= budget) {
        kept.set(clip.path, decoded);
        held += bytes;
        underway.delete(clip.path);
      }
      return decoded;
    });
    underway.set(clip.path, work);
    // A failed prefetch is reported to whoever asks; until then it must not end the process.
    work.catch(() => undefined);
    return work;
  };

  return Object.freeze({
    frames: async (clip: Clip) => {
      const inMemory = kept.get(clip.path);
      if (inMemory !== undefined) return inMemory;
      try {
        return await (underway.get(clip.path) ?? begin(clip));
      } finally {
        underway.delete(clip.path);
      }
    },
    prefetch: (clips: readonly Clip[]) => {
      for (const clip of clips) {
        if (!kept.has(clip.path) && !underway.has(clip.path)) void begin(clip);
      }
    },
    bytesHeld: () => held,
  });
}

/** Lets `width` tasks run at a time, the others in the order they came. */
function turnstile(width: number): <Result>(task: () => Promise<Result>) => Promise<Result> {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (task) => {
    if (running >= width) await new Promise<void>((resolve) => waiting.push(resolve));
    else running++;
    try {
      return await task();
    } finally {
      // The place is handed on, not given back, when somebody waits for it.
      const next = waiting.shift();
      if (next === undefined) running--;
      else next();
    }
  };
}
