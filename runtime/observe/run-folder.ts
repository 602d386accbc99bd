/** Where does a run keep what it makes? `runs/NAME/` with log.jsonl, checkpoints/ and samples/. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { ensureFolder } from "../../contract/atomic-file.ts";
import { Diagnostic, didYouMean } from "../../contract/diagnostic.ts";

export interface RunFolder {
  readonly name: string;
  readonly path: string;
  readonly checkpoints: string;
  readonly samples: string;
  readonly log: string;
}

export interface RunOptions {
  /** Where runs live; `runs` unless given. */
  readonly root?: string;
  /** Continue a run that exists, instead of starting one that must not. */
  readonly resume?: boolean;
}

/**
 * Makes the folders of a new run, or finds those of one to resume.
 * @throws Diagnostic (kind `run`): a name that is no folder name, a new run whose name is taken, nothing to resume
 */
export function openRun(name: string, { root = "runs", resume = false }: RunOptions = {}): RunFolder {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(name)) {
    throw new Diagnostic({
      kind: "run",
      message: `${JSON.stringify(name)} cannot be the name of a run`,
      fix: "use letters, digits, dots, dashes and underscores, starting with a letter or digit",
    });
  }
  const run = runAt(root, name);
  const exists = existsSync(run.path);
  if (exists && !resume && isUsed(run)) {
    throw new Diagnostic({
      kind: "run",
      message: `there is already a run in ${run.path}`,
      fix: `continue it with --resume, or choose another --name, such as ${freeRunName(name, root)}`,
    });
  }
  if (!exists && resume) {
    const known = existsSync(root) ? readdirSync(root) : [];
    const close = didYouMean(name, known);
    throw new Diagnostic({
      kind: "run",
      message: `there is no run in ${run.path} to resume`,
      details: known.length === 0 ? [] : [`runs there: ${known.slice(0, 10).join(", ")}`],
      fix: close === undefined ? "name the run with --name, or start it without --resume" : `did you mean ${close}?`,
    });
  }
  for (const folder of [run.checkpoints, run.samples]) ensureFolder(folder, "run");
  return run;
}

/** `base`, or `base-2`, `base-3`, ...: the first that no run has. */
export function freeRunName(base: string, root = "runs"): string {
  for (let number = 1; ; number++) {
    const name = number === 1 ? base : `${base}-${number}`;
    if (!isUsed(runAt(root, name))) return name;
  }
}

function runAt(root: string, name: string): RunFolder {
  const path = join(root, name);
  return {
    name,
    path,
    checkpoints: join(path, "checkpoints"),
    samples: join(path, "samples"),
    log: join(path, "log.jsonl"),
  };
}

/** A run that failed before it wrote anything leaves its name free. */
function isUsed(run: RunFolder): boolean {
  if (existsSync(run.log)) return true;
  return [run.checkpoints, run.samples].some((folder) => existsSync(folder) && readdirSync(folder).length > 0);
}
