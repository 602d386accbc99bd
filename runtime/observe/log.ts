/** The record of a run: one JSON object per line, in `runs/NAME/log.jsonl`, complete up to the last line at any time. */
import type { RunFolder } from "./run-folder.ts";

export interface RunLog {
  /** `event` says what happened (`start`, `step`, `checkpoint`, `quarantined`); the facts are its numbers. */
  readonly write: (event: string, facts?: Readonly<Record<string, unknown>>) => void;
  readonly close: () => void;
}

/** Appends: a resumed run continues its record. Numbers that JSON cannot hold (NaN, Infinity) become text. */
export async function openLog(run: Pick<RunFolder, "log">): Promise<RunLog> {
  const { pino } = await import("pino");
  // Written at once: the lines before a crash are the ones that matter.
  const file = pino.destination({ dest: run.log, sync: true, append: true, mkdir: true });
  const logger = pino(
    { base: null, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: (level) => ({ level }) } },
    file,
  );
  return Object.freeze({
    write: (event: string, facts: Readonly<Record<string, unknown>> = {}) => {
      const spelled = Object.entries(facts).map(([name, value]) => [name, spell(value)] as const);
      logger.info({ event, ...Object.fromEntries(spelled) });
    },
    close: () => {
      file.flushSync();
      file.end();
    },
  });
}

function spell(value: unknown): unknown {
  return typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
}
