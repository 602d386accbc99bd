/**
 * Which caption belongs to which video?
 *
 * From `--captions FILE`, or `captions.jsonl` or `captions.json` in the data folder: records of
 * `{"file": "a.mp4", "caption": "..."}` or `{"file": "a.mp4", "captions": ["...", "..."]}`, one per line or as one list.
 * A video that no record names may have a `.txt` beside it, one caption per line. Every caption is its own sample.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isSystemError } from "../../contract/atomic-file.ts";
import { Diagnostic, type Location, formatLocation } from "../../contract/diagnostic.ts";
import { type Json, isJsonArray, isJsonObject, lineAndColumn, parseJson } from "../../contract/json-text.ts";
import { type DataFolder, locate, openDataFolder } from "./folder.ts";

export interface CaptionedVideo {
  /** The video, relative to the data folder. */
  readonly file: string;
  /** The video's real path. */
  readonly path: string;
  readonly caption: string;
  /** Where the caption was written. */
  readonly where: Location;
}

export interface Captions {
  readonly folder: DataFolder;
  /** One per caption; videos in the order of the records, then those captioned by `.txt`. */
  readonly samples: readonly CaptionedVideo[];
  /** Videos in the folder that no caption names; they take no part in training. */
  readonly withoutCaption: readonly string[];
}

const NAMES = ["captions.jsonl", "captions.json"] as const;
const EXAMPLE = '{"file": "clip.mp4", "captions": ["a red circle moves left"]}';
const SHOWN = 5;

/**
 * Reads all captions of a folder.
 * @param captionsFile the user's `--captions`
 * @throws Diagnostic (kind `data` or `captions`) with file and line: an empty folder, broken JSON, a record of another
 *   form, a video that does not exist or lies outside the folder, no caption at all
 */
export function readCaptions(given: string, captionsFile?: string): Captions {
  const folder = openDataFolder(given);
  const source = captionsFile ?? findCaptionsFile(given);
  const recorded = source === undefined ? [] : locateAll(folder, readRecords(source));
  const named = new Set(recorded.map(({ file }) => file));
  const beside = folder.videos.filter((file) => !named.has(file)).flatMap((file) => besideVideo(folder, file));
  const samples = [...recorded, ...beside];
  const captioned = new Set(samples.map(({ file }) => file));
  const withoutCaption = folder.videos.filter((file) => !captioned.has(file));
  if (samples.length === 0) throw nothingCaptioned(folder, source);
  return { folder, samples, withoutCaption };
}

/** `3 videos have no caption and are left out: a.mp4, b.mp4, c.mp4`; nothing when all have one. */
export function describeUncaptioned(withoutCaption: readonly string[], shown = SHOWN): string | undefined {
  if (withoutCaption.length === 0) return undefined;
  const names = withoutCaption.slice(0, shown).join(", ");
  const more = withoutCaption.length > shown ? ` and ${withoutCaption.length - shown} more` : "";
  const have = withoutCaption.length === 1 ? "1 video has" : `${withoutCaption.length} videos have`;
  return `${have} no caption and ${withoutCaption.length === 1 ? "is" : "are"} left out: ${names}${more}`;
}

function findCaptionsFile(folder: string): string | undefined {
  const found = NAMES.map((name) => join(folder, name)).filter((path) => existsSync(path));
  if (found.length < 2) return found[0];
  throw new Diagnostic({
    kind: "captions",
    message: `${folder} holds both ${NAMES.join(" and ")}`,
    fix: `say which one with --captions ${found[0]}`,
  });
}

interface CaptionRecord {
  readonly file: string;
  readonly captions: readonly string[];
  readonly where: Location;
}

function readRecords(path: string): CaptionRecord[] {
  const text = readText(path);
  return path.toLowerCase().endsWith(".jsonl") ? readLines(path, text) : readList(path, text);
}

function readLines(path: string, text: string): CaptionRecord[] {
  return text.split("\n").flatMap((line, index) => {
    if (line.trim() === "") return [];
    const where = { file: path, line: index + 1 };
    const parsed = parseJson(line);
    if (!parsed.ok) throw malformed({ ...where, column: parsed.offset + 1 }, parsed.message);
    return [toRecord(parsed.value, where)];
  });
}

function readList(path: string, text: string): CaptionRecord[] {
  const parsed = parseJson(text);
  if (!parsed.ok) {
    const looksLikeLines = parsed.message.includes("after the end of the value");
    throw malformed(
      { file: path, ...lineAndColumn(text, parsed.offset) },
      parsed.message,
      looksLikeLines ? "put the records in a list, or name a file with one record per line *.jsonl" : undefined,
    );
  }
  if (!isJsonArray(parsed.value)) {
    throw malformed({ file: path, line: 1 }, "a list of records is expected", `write [${EXAMPLE}, ...]`);
  }
  const lineOf = lineCounter(text);
  return parsed.value.map((value) => {
    const offset = isJsonObject(value) || isJsonArray(value) ? parsed.offsets.get(value) : undefined;
    return toRecord(value, offset === undefined ? { file: path } : { file: path, line: lineOf(offset) });
  });
}

/** Lines of rising offsets in one pass over the text. */
function lineCounter(text: string): (offset: number) => number {
  let line = 1;
  let at = 0;
  return (offset) => {
    for (let next = text.indexOf("\n", at); next !== -1 && next < offset; next = text.indexOf("\n", at)) {
      line++;
      at = next + 1;
    }
    return line;
  };
}

function toRecord(value: Json, where: Location): CaptionRecord {
  const wrong = (what: string): Diagnostic => malformed(where, what, `write ${EXAMPLE}`);
  if (!isJsonObject(value)) throw wrong("a record is expected here");
  const file = value.get("file");
  if (typeof file !== "string") throw wrong('a record needs "file", the name of a video');
  const single = value.get("caption");
  const several = value.get("captions");
  if (single !== undefined && several !== undefined) throw wrong('a record has either "caption" or "captions"');
  const captions = several ?? (single === undefined ? undefined : [single]);
  if (!isJsonArray(captions)) throw wrong('a record needs "captions", a list of texts, or "caption", one text');
  return {
    file,
    where,
    captions: captions.map((caption) => {
      if (typeof caption !== "string" || caption.trim() === "") throw wrong("a caption is a text that is not empty");
      return caption.trim();
    }),
  };
}

/** Names become files of the folder; names that do not are all reported, at most five of them in full. */
function locateAll(folder: DataFolder, records: readonly CaptionRecord[]): CaptionedVideo[] {
  const samples: CaptionedVideo[] = [];
  const wrong: { readonly record: CaptionRecord; readonly reason: string; readonly outside: boolean }[] = [];
  for (const record of records) {
    const located = locate(folder, record.file);
    if (!located.ok) {
      wrong.push({ record, ...located });
      continue;
    }
    for (const caption of record.captions) {
      samples.push({ file: located.name, path: located.path, caption, where: record.where });
    }
  }
  // A name that leads out of the folder is the graver mistake, and is reported first.
  wrong.sort((a, b) => Number(b.outside) - Number(a.outside));
  const first = wrong[0];
  if (first === undefined) return samples;
  const others = wrong
    .slice(1, SHOWN)
    .map(({ record, reason }) => `${formatLocation(record.where)}  ${JSON.stringify(record.file)} ${reason}`);
  throw new Diagnostic({
    kind: "captions",
    message: `${JSON.stringify(first.record.file)} ${first.reason}`,
    where: first.record.where,
    details: wrong.length > SHOWN ? [...others, `... and ${wrong.length - SHOWN} more records`] : others,
    fix: first.outside
      ? `keep the videos inside ${folder.given} and name them relative to it`
      : `put the video into ${folder.given}, or correct or remove the record`,
  });
}

/** The captions in `clip.txt` beside `clip.mp4`: one per line, empty lines apart. */
function besideVideo(folder: DataFolder, file: string): CaptionedVideo[] {
  const name = `${file.slice(0, file.lastIndexOf("."))}.txt`;
  const text = locate(folder, name);
  if (!text.ok && !text.outside) return [];
  const video = locate(folder, file);
  for (const [located, of] of [
    [text, name],
    [video, file],
  ] as const) {
    if (located.ok) continue;
    throw new Diagnostic({
      kind: "captions",
      message: `${JSON.stringify(of)} ${located.reason}`,
      where: { file: join(folder.given, of) },
      fix: `keep videos and captions inside ${folder.given}`,
    });
  }
  if (!text.ok || !video.ok) return [];
  const { path } = video;
  return readText(text.path)
    .split("\n")
    .flatMap((line, index) => {
      const where = { file: join(folder.given, name), line: index + 1 };
      return line.trim() === "" ? [] : [{ file, path, caption: line.trim(), where }];
    });
}

/** A byte order mark at the start is skipped; bytes that are not UTF-8 are a mistake, not question marks. */
function readText(path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(path));
  } catch (error) {
    if (isSystemError(error) && error.code !== "ERR_ENCODING_INVALID_ENCODED_DATA") {
      const missing = error.code === "ENOENT";
      throw new Diagnostic({
        kind: "captions",
        message: missing ? "there is no such file" : `it cannot be read (${error.code})`,
        where: { file: path },
        fix: "correct --captions",
      });
    }
    throw new Diagnostic({
      kind: "captions",
      message: "the text is not UTF-8",
      where: { file: path },
      fix: "save it as UTF-8",
    });
  }
}

function malformed(where: Location, message: string, fix = "correct the file"): Diagnostic {
  return new Diagnostic({ kind: "captions", message, where, fix });
}

function nothingCaptioned(folder: DataFolder, source: string | undefined): Diagnostic {
  return new Diagnostic({
    kind: "captions",
    message: `${folder.videos.length} videos in ${folder.given}, none with a caption`,
    ...(source === undefined ? {} : { where: { file: source } }),
    fix: `write ${join(folder.given, NAMES[0])} with lines like ${EXAMPLE}, or clip.txt beside clip.mp4`,
  });
}
