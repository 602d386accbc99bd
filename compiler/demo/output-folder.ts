/**
 * Where does the demo put what it makes? A folder of its own, known by a file in it; no other folder is written to.
 *
 * A second run replaces what the first one made, entry by entry, and leaves alone whatever else lies there.
 */
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isSystemError } from "../../contract/atomic-file.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";

const MARK = ".made-by-soracc-demo";
const MARK_TEXT = "soracc demo writes into this folder, and replaces what it wrote before.\n";

export interface OutputFolder {
  readonly path: string;
  /** Videos and captions.jsonl. */
  readonly clips: string;
  readonly binary: string;
  readonly runs: string;
  readonly prompts: string;
  readonly samples: string;
  readonly sheet: string;
  readonly result: string;
}

/** @throws Diagnostic when something is there that the demo did not make */
export function claimOutputFolder(path: string): OutputFolder {
  const folder: OutputFolder = {
    path,
    clips: join(path, "clips"),
    binary: join(path, "dit"),
    runs: join(path, "runs"),
    prompts: join(path, "prompts.txt"),
    samples: join(path, "samples"),
    sheet: join(path, "contact-sheet.png"),
    result: join(path, "result.json"),
  };
  try {
    if (existsSync(path) && !isOurs(path)) throw foreign(path);
    mkdirSync(path, { recursive: true });
    const { path: _itself, ...made } = folder;
    for (const entry of Object.values(made)) rmSync(entry, { recursive: true, force: true });
    writeFileSync(join(path, MARK), MARK_TEXT);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new Diagnostic({
      kind: "output",
      message: `${path} cannot be written to (${error.code})`,
      fix: "choose another folder with --out",
    });
  }
  return folder;
}

const isOurs = (path: string): boolean =>
  statSync(path).isDirectory() && (existsSync(join(path, MARK)) || readdirSync(path).length === 0);

const foreign = (path: string): Diagnostic =>
  new Diagnostic({
    kind: "output",
    message: `${path} is there already, and soracc demo did not make it`,
    fix: "choose another folder with --out, or move it away",
  });
