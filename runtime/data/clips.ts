/**
 * Which videos can be trained on, in which shapes, and why not the others?
 *
 * Before training starts every video is probed and decoded once: a damaged file costs a line in a table now, not a run
 * after a day. Pixels at the right and lower border that do not fill a patch are dropped, as published.
 */
import { Diagnostic } from "../../contract/diagnostic.ts";
import type { ClipStore } from "./clip-store.ts";
import { type ReadLimits, probe } from "./ffmpeg.ts";
import type { VideoTools } from "./ffmpeg-find.ts";

/** What a video becomes: `frames` x `rows` x `columns` patches. */
export interface ClipGrid {
  readonly frames: number;
  readonly rows: number;
  readonly columns: number;
}

export interface Clip extends ClipGrid {
  /** Relative to the data folder. */
  readonly file: string;
  readonly path: string;
  /** The video's own size in pixels, before borders are dropped. */
  readonly height: number;
  readonly width: number;
  readonly framesPerSecond: number;
  readonly durationSeconds: number;
  /** Patches in all: the length of its sequence. */
  readonly tokens: number;
}

export interface Quarantined {
  readonly file: string;
  readonly reason: string;
}

export interface ClipScan {
  readonly clips: readonly Clip[];
  readonly quarantined: readonly Quarantined[];
  /** Usable, although the decoder complained. */
  readonly warned: readonly Quarantined[];
}

export interface ScanOptions {
  readonly tools: VideoTools;
  /** Patch side in pixels. */
  readonly patch: number;
  /** Where decoded clips go; without it videos are only probed, and damage inside them shows later. */
  readonly store?: ClipStore;
  /** Longer sequences are quarantined, with this as the reason. */
  readonly maxTokens?: number;
  /** Longer clips are quarantined, with this as the reason. */
  readonly maxFrames?: number;
  readonly limits?: ReadLimits;
  /** Programs running at the same time; 2 unless given. */
  readonly parallel?: number;
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * Probes (and, with a store, decodes) every video once. The order of the result is that of `videos`.
 * @throws Diagnostic (kind `data`) when not one video is usable
 */
export async function scanClips(
  videos: Iterable<{ readonly file: string; readonly path: string }>,
  options: ScanOptions,
): Promise<ClipScan> {
  const { store } = options;
  const unique = [...new Map([...videos].map((video) => [video.path, video])).values()];
  const clips: Clip[] = [];
  const quarantined: Quarantined[] = [];
  const warned: Quarantined[] = [];
  let done = 0;
  const outcomes = await mapInParallel(unique, options.parallel ?? 2, async ({ file, path }) => {
    try {
      const clip = await examine(file, path, options);
      if (store === undefined) return { clip, warnings: [] };
      // An edit list may show fewer frames than the container holds; what is shown is the clip.
      const { frames, warnings } = await store.frames(clip);
      return { clip: { ...clip, frames, tokens: frames * clip.rows * clip.columns }, warnings };
    } catch (error) {
      if (error instanceof Diagnostic && error.parts.kind === "video") return { quarantined: reasonOf(file, error) };
      throw error;
    } finally {
      options.onProgress?.(++done, unique.length);
    }
  });
  for (const outcome of outcomes) {
    if ("quarantined" in outcome) quarantined.push(outcome.quarantined);
    else {
      clips.push(outcome.clip);
      const reason = outcome.warnings.join("; ");
      if (reason !== "") warned.push({ file: outcome.clip.file, reason });
    }
  }
  if (clips.length === 0) throw nothingUsable(quarantined);
  return { clips, quarantined, warned };
}

async function examine(file: string, path: string, options: ScanOptions): Promise<Clip> {
  const { tools, patch, limits, maxTokens, maxFrames } = options;
  const facts = await probe(path, tools, limits);
  const rows = Math.floor(facts.height / patch);
  const columns = Math.floor(facts.width / patch);
  const tokens = facts.frames * rows * columns;
  if (tokens === 0) {
    throw unfit(path, `${facts.width}x${facts.height} pixels are smaller than one patch of ${patch}x${patch}`);
  }
  if (tokens > (maxTokens ?? Infinity)) {
    throw unfit(path, `${tokens} patches are more than the ${maxTokens} that were allowed`);
  }
  if (facts.frames > (maxFrames ?? Infinity)) {
    throw unfit(path, `${facts.frames} frames are more than the ${maxFrames} that were allowed`);
  }
  const { width, height, framesPerSecond, durationSeconds } = facts;
  return { file, path, frames: facts.frames, rows, columns, height, width, framesPerSecond, durationSeconds, tokens };
}

/** One line per shape: how many clips, how many tokens each. Shapes come in the order of their tokens. */
export function shapeTable(clips: readonly Clip[], patch: number): string[] {
  const groups = new Map<string, Clip[]>();
  for (const clip of clips) {
    const shape = `${clip.frames} x ${clip.rows * patch} x ${clip.columns * patch}`;
    const members = groups.get(shape);
    if (members === undefined) groups.set(shape, [clip]);
    else members.push(clip);
  }
  const rows = [...groups]
    .map(([shape, members]) => {
      const { tokens = 0 } = members[0] ?? {};
      const cropped = members.filter((clip) => clip.rows * patch < clip.height || clip.columns * patch < clip.width);
      const note = cropped.length === 0 ? "" : `${cropped.length} with border pixels dropped`;
      return { shape, tokens, clips: members.length, note };
    })
    .sort((a, b) => a.tokens - b.tokens || (a.shape < b.shape ? -1 : 1));
  const widthOf = (title: string, texts: readonly string[]): number =>
    Math.max(title.length, ...texts.map((text) => text.length));
  const shapeWidth = widthOf(
    "frames x height x width",
    rows.map(({ shape }) => shape),
  );
  const tokensWidth = widthOf(
    "tokens",
    rows.map(({ tokens }) => String(tokens)),
  );
  const clipsWidth = widthOf(
    "clips",
    rows.map((row) => String(row.clips)),
  );
  const line = (shape: string, tokens: string, count: string, note: string): string =>
    `${shape.padEnd(shapeWidth)}  ${tokens.padStart(tokensWidth)}  ${count.padStart(clipsWidth)}  ${note}`.trimEnd();
  return [
    line("frames x height x width", "tokens", "clips", ""),
    ...rows.map((row) => line(row.shape, String(row.tokens), String(row.clips), row.note)),
  ];
}

/** `2 videos cannot be used and are left out:`, then each with its reason. */
export function describeQuarantined(quarantined: readonly Quarantined[], shown = 10): string[] {
  if (quarantined.length === 0) return [];
  const one = quarantined.length === 1;
  const heading = `${quarantined.length} ${one ? "video" : "videos"} cannot be used and ${one ? "is" : "are"} left out:`;
  const lines = quarantined.slice(0, shown).map(({ file, reason }) => `  ${file}  ${reason}`);
  const more = quarantined.length > shown ? [`  ... and ${quarantined.length - shown} more`] : [];
  return [heading, ...lines, ...more];
}

/** Runs `work` on every item, at most `width` at a time; results keep the items' order. The first error stops it. */
export async function mapInParallel<Item, Result>(
  items: readonly Item[],
  width: number,
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results = new Array<Result>(items.length);
  const queue = items.entries();
  const worker = async (): Promise<void> => {
    for (const [index, item] of queue) results[index] = await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, worker));
  return results;
}

/** One line: what is wrong, and what the decoder said first. */
function reasonOf(file: string, error: Diagnostic): Quarantined {
  const [detail] = error.parts.details ?? [];
  return { file, reason: detail === undefined ? error.parts.message : `${error.parts.message}: ${detail}` };
}

function unfit(file: string, message: string): Diagnostic {
  return new Diagnostic({ kind: "video", message, where: { file } });
}

function nothingUsable(quarantined: readonly Quarantined[]): Diagnostic {
  return new Diagnostic({
    kind: "data",
    message: `not one of ${quarantined.length} videos can be used`,
    details: describeQuarantined(quarantined)
      .slice(1)
      .map((line) => line.trim()),
    fix: "replace the videos, or encode them again",
  });
}
