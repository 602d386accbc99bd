/**
 * How far is a long piece of work, and how long will it take?
 *
 * A bar when the stream is a terminal; elsewhere one plain line now and then, which a log file can hold. NO_COLOR and
 * TERM=dumb are respected.
 */
import type { SingleBar } from "cli-progress";

export interface Progress {
  /** `facts` are shown as `name value`: loss, throughput. */
  readonly update: (done: number, facts?: Readonly<Record<string, string | number>>) => void;
  /** A line of its own, without tearing the bar. */
  readonly note: (line: string) => void;
  readonly stop: () => void;
}

export interface ProgressOptions {
  readonly label: string;
  readonly total: number;
  /** Already done when it starts: a resumed run. */
  readonly initial?: number;
  /** What is counted: `step`, `clip`. */
  readonly unit?: string;
  readonly stream?: NodeJS.WriteStream | ProgressStream;
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Seconds between plain lines; 10 unless given. */
  readonly intervalSeconds?: number;
  /** Milliseconds; tests bring their own clock. */
  readonly now?: () => number;
}

export interface ProgressStream {
  readonly isTTY?: boolean;
  readonly write: (text: string) => unknown;
}

/** Work of unknown value to watch is not drawn: `silentProgress` for `--json`. */
export const silentProgress: Progress = Object.freeze({
  update: () => undefined,
  note: () => undefined,
  stop: () => undefined,
});

export async function startProgress(options: ProgressOptions): Promise<Progress> {
  const { stream = process.stderr, environment = process.env } = options;
  const drawable = stream.isTTY === true && environment["TERM"] !== "dumb";
  return drawable ? drawBar(options, stream, environment) : writeLines(options, stream);
}

async function drawBar(
  options: ProgressOptions,
  stream: NodeJS.WriteStream | ProgressStream,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<Progress> {
  const { default: cliProgress } = await import("cli-progress");
  const colour = (environment["NO_COLOR"] ?? "") === "";
  const bar = colour ? "\u001B[36m{bar}\u001B[0m" : "{bar}";
  const clock = startClock(options);
  const drawn: SingleBar = new cliProgress.SingleBar({
    format: `${options.label} ${bar} {value}/{total}  {eta_text}{facts}`,
    stream: stream as NodeJS.WriteStream,
    barCompleteChar: "\u2588",
    barIncompleteChar: "\u2591",
    barsize: 24,
    hideCursor: true,
    fps: 8,
    // The cursor comes back with our own `stop`; Ctrl-C is for whoever saves the run.
    gracefulExit: false,
    emptyOnZero: true,
  });
  drawn.start(options.total, options.initial ?? 0, { eta_text: "", facts: "" });
  return Object.freeze({
    update: (done: number, facts: Readonly<Record<string, string | number>> = {}) => {
      drawn.update(done, { eta_text: clock.remaining(done), facts: factsText(facts) });
    },
    note: (line: string) => {
      stream.write(`\r\u001B[K${line}\n`);
      drawn.render();
    },
    stop: () => drawn.stop(),
  });
}

function writeLines(options: ProgressOptions, stream: ProgressStream): Progress {
  const { label, total, unit = "step", now = Date.now } = options;
  const interval = (options.intervalSeconds ?? 10) * 1000;
  const clock = startClock(options);
  let lastWritten = now();
  let lastLine: number | undefined;
  let latest: { readonly done: number; readonly facts: Readonly<Record<string, string | number>> } | undefined;
  const write = (done: number, facts: Readonly<Record<string, string | number>>): void => {
    stream.write(`${label}: ${unit} ${done}/${total}  ${clock.remaining(done)}${factsText(facts)}`.trimEnd() + "\n");
    lastWritten = now();
    lastLine = done;
  };
  return Object.freeze({
    update: (done: number, facts: Readonly<Record<string, string | number>> = {}) => {
      latest = { done, facts };
      if (now() - lastWritten >= interval || done === total) write(done, facts);
    },
    note: (line: string) => void stream.write(`${line}\n`),
    stop: () => {
      // The last state is always there to be read, also after an interrupt.
      if (latest !== undefined && latest.done !== lastLine) write(latest.done, latest.facts);
    },
  });
}

interface Clock {
  /** `about 3 min left`; nothing before there is something to measure, the time taken at the end. */
  readonly remaining: (done: number) => string;
}

/** The rate is that of the recent past: the first steps compile kernels and say little about the rest. */
function startClock({ total, initial = 0, now = Date.now }: ProgressOptions): Clock {
  const started = now();
  const marks: { readonly at: number; readonly done: number }[] = [{ at: started, done: initial }];
  return {
    remaining: (done) => {
      const at = now();
      if (done >= total) return `${formatDuration((at - started) / 1000)} in all`;
      if (done > marks.at(-1)!.done) marks.push({ at, done });
      if (marks.length > 64) marks.shift();
      const first = marks[0]!;
      const rate = (done - first.done) / (at - first.at);
      return rate > 0 && Number.isFinite(rate) ? `about ${formatDuration((total - done) / rate / 1000)} left` : "";
    },
  };
}

function factsText(facts: Readonly<Record<string, string | number>>): string {
  const parts = Object.entries(facts).map(
    ([name, value]) => `${name} ${typeof value === "number" ? round(value) : value}`,
  );
  return parts.length === 0 ? "" : `  ${parts.join("  ")}`;
}

const round = (value: number): string =>
  Number.isFinite(value) ? String(Number(value.toPrecision(4))) : String(value);

/** `8 s`, `3 min 20 s`, `2 h 05 min` */
export function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  const minutes = Math.round(whole / 60);
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}
