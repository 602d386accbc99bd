/** Which checkpoints does a run have, which is the latest, and which may go? */
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ensureFolder, isSystemError, removeAbandoned } from "../../contract/atomic-file.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";

export interface CheckpointFile {
  readonly path: string;
  readonly step: number;
}

/** `runs/NAME/checkpoints` for a run folder. */
export const checkpointFolder = (runFolder: string): string => join(runFolder, "checkpoints");

/** `FOLDER/step-000200.safetensors` */
export function checkpointPath(folder: string, step: number): string {
  return join(folder, `step-${String(step).padStart(6, "0")}.safetensors`);
}

/** All checkpoints of a folder by rising step; none when the folder does not exist. */
export function listCheckpoints(folder: string): CheckpointFile[] {
  return namesIn(folder)
    .flatMap((name) => {
      const step = /^step-(\d{6,15})\.safetensors$/.exec(name)?.[1];
      return step === undefined ? [] : [{ path: join(folder, name), step: Number(step) }];
    })
    .sort((a, b) => a.step - b.step);
}

/** The checkpoint of the highest step. */
export function latestCheckpoint(folder: string): CheckpointFile | undefined {
  return listCheckpoints(folder).at(-1);
}

/**
 * Keeps the last `keep` checkpoints, removes the older ones and what killed saves left behind; returns the paths removed.
 * Call it after a save has succeeded, so that a full disk never costs an old checkpoint.
 */
export function pruneCheckpoints(folder: string, keep: number): string[] {
  if (!Number.isSafeInteger(keep) || keep < 1) {
    throw new Diagnostic({
      kind: "checkpoint",
      message: `${keep} checkpoints cannot be kept`,
      fix: "keep at least 1",
    });
  }
  ensureFolder(folder, "checkpoint");
  const abandoned = removeAbandoned(folder).map((name) => join(folder, name));
  const old = listCheckpoints(folder).slice(0, -keep);
  for (const { path } of old) rmSync(path, { force: true });
  return [...abandoned, ...old.map(({ path }) => path)];
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (isSystemError(error) && error.code === "ENOENT") return [];
    throw new Diagnostic({
      kind: "checkpoint",
      message: `the folder ${folder} cannot be read`,
      details: [error instanceof Error ? error.message : String(error)],
      fix: "check the path and the rights of this user",
    });
  }
}
