/** From a folder to samples: captions, then videos, then what is said about both before training starts. */
import type { Location } from "../../contract/diagnostic.ts";
import { describeUncaptioned, readCaptions } from "./captions.ts";
import { type ClipStore, createClipStore } from "./clip-store.ts";
import { type Clip, type ClipScan, describeQuarantined, scanClips, shapeTable } from "./clips.ts";
import type { ReadLimits } from "./ffmpeg.ts";
import type { VideoTools } from "./ffmpeg-find.ts";

/** One caption of one usable video. */
export interface Sample {
  readonly clip: Clip;
  readonly caption: string;
  readonly where: Location;
}

export interface Dataset {
  readonly samples: readonly Sample[];
  readonly scan: ClipScan;
  /** Videos in the folder that no caption names. */
  readonly withoutCaption: readonly string[];
  readonly store: ClipStore;
  /** What a user reads before training starts: the shapes, and everything that was left out, with reasons. */
  readonly report: readonly string[];
}

export interface DatasetOptions {
  readonly folder: string;
  readonly captionsFile?: string | undefined;
  readonly tools: VideoTools;
  /** Patch side in pixels. */
  readonly patch: number;
  readonly maxTokens?: number | undefined;
  readonly maxFrames?: number | undefined;
  /** Bytes of decoded frames to keep in memory. */
  readonly budget?: number | undefined;
  readonly parallel?: number | undefined;
  readonly limits?: ReadLimits | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/** @throws Diagnostic: see `readCaptions` and `scanClips` */
export async function openDataset(options: DatasetOptions): Promise<Dataset> {
  const { tools, patch, parallel = 2, limits = {} } = options;
  const captions = readCaptions(options.folder, options.captionsFile);
  const store = createClipStore({ tools, parallel, limits, ...defined("budget", options.budget) });
  const scan = await scanClips(captions.samples, {
    ...{ tools, patch, store, parallel, limits },
    ...defined("maxTokens", options.maxTokens),
    ...defined("maxFrames", options.maxFrames),
    ...defined("onProgress", options.onProgress),
  });
  const clips = new Map(scan.clips.map((clip) => [clip.path, clip]));
  const samples = captions.samples.flatMap(({ path, caption, where }) => {
    const clip = clips.get(path);
    return clip === undefined ? [] : [{ clip, caption, where }];
  });
  const { withoutCaption } = captions;
  return { samples, scan, withoutCaption, store, report: reportOf(samples, scan, withoutCaption, patch) };
}

function reportOf(
  samples: readonly Sample[],
  scan: ClipScan,
  withoutCaption: readonly string[],
  patch: number,
): readonly string[] {
  const { clips, quarantined, warned } = scan;
  const uncaptioned = describeUncaptioned(withoutCaption);
  const complaints = warned.slice(0, 10).map(({ file, reason }) => `  ${file}  ${reason}`);
  return [
    `${samples.length} captions on ${clips.length} ${clips.length === 1 ? "clip" : "clips"}`,
    ...shapeTable(clips, patch),
    ...describeQuarantined(quarantined),
    ...(warned.length === 0 ? [] : [`${warned.length} clips are used although the decoder complained:`, ...complaints]),
    ...(warned.length > complaints.length ? [`  ... and ${warned.length - complaints.length} more`] : []),
    ...(uncaptioned === undefined ? [] : [uncaptioned]),
  ];
}

/** A property only when there is a value: an optional property is absent, never undefined. */
function defined<Key extends string, Value>(key: Key, value: Value | undefined): Partial<Record<Key, Value>> {
  return value === undefined ? {} : ({ [key]: value } as Record<Key, Value>);
}
