/** The record of a run: one JSON object per line, in `runs/NAME/log.jsonl`, complete up to the last line at any time. */
import { closeSync, openSync, writeSync } from "node:fs";
import { isSystemError } from "../../contract/atomic-file.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";
import type { RunFolder } from "./run-folder.ts";

export interface RunLog {
  /** `event` says what happened (`start`, `step`, `checkpoint`, `quarantined`); the facts are its numbers. */
  readonly write: (event: string, facts?: Readonly<Record<string, unknown>>) => void;
  readonly close: () => void;
}

export interface LogOptions {
  /** Told once when lines are lost, a full disk for instance: a run is worth more than its record. */
  readonly onFailure?: (reason: string) => void;
}

/**
 * Appends: a resumed run continues its record. Numbers that JSON cannot hold (NaN, Infinity) become text.
 * @throws Diagnostic (kind `log`) when the file cannot be opened
 */
export async function openLog(run: Pick<RunFolder, "log">, { onFailure }: LogOptions = {}): Promise<RunLog> {
  const { pino } = await import("pino");
  const descriptor = openForAppending(run.log);
  let failed = false;
  let isTorn = false;
  const stream = {
    // Written at once: the lines before a crash are the ones that matter.
    write: (line: string) => {
      try {
        writeWhole(descriptor, isTorn ? `\n${line}` : line, () => (isTorn = true));
        isTorn = false;
      } catch (error) {
        if (!isSystemError(error)) throw error;
        if (!failed) onFailure?.(error.message);
        failed = true;
      }
    },
  };
  const logger = pino(
    { base: null, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (level) => ({ level }) } },
    stream,
  );
  return Object.freeze({
    write: (event: string, facts: Readonly<Record<string, unknown>> = {}) => {
      const spelled = Object.entries(facts).map(([name, value]) => [name, spell(value)] as const);
      logger.info({ event, ...Object.fromEntries(spelled) });
    },
    close: () => closeSync(descriptor),
  });
}

function openForAppending(path: string): number {
  try {
    return openSync(path, "a");
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new Diagnostic({
      kind: "log",
      message: `the record of the run cannot be written (${error.code})`,
      where: { file: path },
      fix: "give this user the right to write there, or choose another folder with --runs",
    });
  }
}

/** A short write is no error to Node; `begun` is told when a part of the line is down and the rest may not follow. */
function writeWhole(descriptor: number, line: string, begun: () => void): void {
  const bytes = Buffer.from(line, "utf8");
  for (let done = 0; done < bytes.length;) {
    done += writeSync(descriptor, bytes, done, bytes.length - done);
    if (done < bytes.length) begun();
  }
}

function spell(value: unknown): unknown {
  return typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
}
