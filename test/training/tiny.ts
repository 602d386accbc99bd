/** A tiny training binary and tiny clips, for tests that run the binary as a user does. */
import { mkdtempSync, rmSync, writeFileSync, mkdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import type { Precision } from "../../contract/precision.ts";
import { findVideoTools } from "../../runtime/data/ffmpeg-find.ts";
import { writeVideo } from "../../runtime/sample/video-file.ts";
import { movingSquare } from "../data/clips.ts";

export const repository = fileURLToPath(new URL("../../", import.meta.url)).replace(/\/$/, "");

/** Kernels of all tests are compiled once, also across runs of the tests. */
const KERNELS = join(repository, "node_modules", ".cache", "soracc", "test-kernels");

/** Raw pixels, one block, four-pixel patches, rectified flow: everything a run needs, and little to compile. */
export const TINY = [
  ...["conditioning=adaln", "patch=4", "channels=3", "textDim=32", "hidden=32", "depth=1", "heads=2", "process=flow"],
  ...["sample.sampler=euler", "sample.steps=4", "train.rate=3e-3", "train.batch=4"],
];

const environment = { SORACC_CACHE: KERNELS, SORACC_ROOT: repository, NO_COLOR: "1" };

/** `soracc` with these arguments. */
export const soracc = (cwd: string, ...words: readonly string[]) =>
  start(process.execPath, [join(repository, "bin", "soracc.js"), ...words], cwd);

/** Compiles the tiny model to `folder/NAME`. */
export async function compileTiny(
  folder: string,
  name = "tiny",
  settings: readonly string[] = [],
  precision: Precision = "f32",
): Promise<string> {
  const set = [...TINY, ...settings].flatMap((setting) => ["--set", setting]);
  const { exitCode, stderr } = await soracc(
    folder,
    ...["compile", join(repository, "models", "dit.sora.ts"), ...set, "--precision", precision, "-o", name],
  );
  if (exitCode !== 0) throw new Error(`the tiny model does not compile: ${stderr}`);
  return join(folder, name);
}

/** A program with these arguments, in its own folder unless told otherwise. Never rejects. */
export const start = (
  program: string,
  words: readonly string[],
  cwd = join(program, ".."),
  more: Readonly<Record<string, string>> = {},
) => execa(program, words, { cwd, reject: false, env: { ...environment, ...more } });

export type Ran = Awaited<ReturnType<typeof start>>;

export function temporaryFolder(): { readonly path: string; readonly remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), "soracc-binary-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

const COLOURS = { red: [220, 40, 40], green: [40, 200, 60], blue: [40, 60, 220], white: [240, 240, 240] } as const;

/** Four clips of a moving square on black, 16 x 16, with captions; one of them is shorter. */
export async function writeClips(folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const tools = findVideoTools();
  const records: string[] = [];
  for (const [name, colour] of Object.entries(COLOURS)) {
    const frames = movingSquare({ frames: name === "white" ? 2 : 4, height: 16, width: 16, colour });
    await writeVideo(join(folder, `${name}.mp4`), frames, { framesPerSecond: 8, tools });
    records.push(JSON.stringify({ file: `${name}.mp4`, captions: [`a ${name} square`, `a square that is ${name}`] }));
  }
  writeFileSync(join(folder, "captions.jsonl"), `${records.join("\n")}\n`);
}

export interface LogLine {
  readonly event: string;
  readonly step?: number;
  readonly loss?: number;
  readonly [fact: string]: unknown;
}

export const readLog = (run: string): LogLine[] =>
  readFileSync(join(run, "log.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as LogLine);

/** The losses of a run by step; a step that was run twice has the later one. */
export const lossesOf = (run: string): ReadonlyMap<number, number> =>
  new Map(readLog(run).flatMap(({ event, step, loss }) => (event === "step" ? [[step ?? -1, loss ?? NaN]] : [])));
