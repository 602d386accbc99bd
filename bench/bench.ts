/**
 * How fast and how large, beside PyTorch on the same machine:
 *
 *     npm run bench [-- train contract attention sample compile] [--json]
 *
 * Ours and PyTorch's run in processes of their own and take turns; a figure is the median of turns.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import { Command, CommanderError, Option } from "commander";
import { median } from "./median.ts";
import { casesOf, SUITES, type Case, type Suite } from "./cases.ts";
import { work } from "./worker.ts";

const PEERS = ["eager", "compile"] as const;
const PAUSE = 300; // milliseconds

interface Measured {
  readonly runs: string;
  readonly peer: (typeof PEERS)[number];
  readonly python: string;
}

interface Options extends Measured {
  readonly json?: true;
  readonly case?: string;
  readonly tokens?: string;
  readonly threads?: string;
}

export interface Result {
  readonly case: string;
  readonly ours_ms: number;
  /** Null without PyTorch. */
  readonly peer_ms: number | null;
  /** How many times as fast ours is. */
  readonly ratio: number | null;
  readonly ours_peak_mib: number;
  readonly peer_peak_mib: number | null;
  /** Of matrix products: ours beside the most this processor can do. Null elsewhere. */
  readonly ours_of_peak: number | null;
  readonly ours: string;
  readonly peer: string | null;
}

/** Resolves to the exit code. */
export async function main(words: readonly string[], root: string): Promise<number> {
  if (words[0] === "worker") {
    await work(JSON.parse(words[1]!) as Case, root);
    return 0;
  }
  const command = new Command("bench")
    .description("times soracc beside PyTorch")
    .argument("[suites...]", `of ${SUITES.join(", ")}; all of them when none is named`)
    .option("--json", "an array of cases on standard output")
    .option("--case <name>", "only the cases whose name begins so")
    .option("--runs <n>", "turns of each", "7")
    .option("--tokens <n>", "another length of sequences")
    .option("--threads <n>", "for both (default: processors)")
    .addOption(new Option("--peer <kind>", "how PyTorch runs").choices(PEERS).default("eager"))
    .option("--python <path>", "one that has PyTorch", "python3")
    .exitOverride();
  try {
    command.parse([...words], { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode;
    throw error;
  }
  const options = command.opts<Options>();
  const suites = command.args.length === 0 ? SUITES : command.args;
  const unknown = suites.find((suite) => !SUITES.includes(suite as Suite));
  if (unknown !== undefined) {
    process.stderr.write(`bench: there is no suite ${unknown}\n  suites  ${SUITES.join(", ")}\n`);
    return 1;
  }
  const threads = Number(options.threads ?? availableParallelism());
  const tokens = options.tokens === undefined ? undefined : Number(options.tokens);
  const results: Result[] = [];
  for (const suite of suites as readonly Suite[]) {
    const cases = casesOf(suite, threads, tokens).filter(({ name }) => name.startsWith(options.case ?? ""));
    for (const one of cases) {
      const result = await measure(one, root, options);
      results.push(result);
      if (options.json !== true) process.stdout.write(`${describe(suite, result)}\n`);
    }
  }
  if (options.json === true) process.stdout.write(`${JSON.stringify(results, null, 2)}\n`);
  return 0;
}

export function describe(suite: Suite, result: Result): string {
  const share = result.ours_of_peak === null ? "" : `, ${(result.ours_of_peak * 100).toFixed(0)} % of peak`;
  const ours = `${suite} ${result.case}: ${result.ours_ms.toFixed(2)} ms, ${result.ours_peak_mib.toFixed(0)} MiB${share}`;
  if (result.peer_ms === null) return ours;
  const peer = `${result.peer ?? ""} ${result.peer_ms.toFixed(2)} ms, ${result.peer_peak_mib?.toFixed(0) ?? "?"} MiB`;
  return `${ours}; ${peer}; ${result.ratio?.toFixed(2) ?? "?"} times as fast`;
}

/** @throws Error with what was said, when our side fails; where the peer does, there are no times of it */
export async function measure(one: Case, root: string, { runs, peer, python }: Measured): Promise<Result> {
  const ours = new Worker(process.execPath, [
    ...[join(root, "scripts", "run.js"), "bench/bench.ts", "worker", JSON.stringify(one)],
  ]);
  const theirs =
    one.suite === "compile" || ("checkpoints" in one && one.checkpoints === undefined)
      ? undefined
      : new Worker(python, [join(root, "bench", "peer", "worker.py"), JSON.stringify({ ...one, peer })]);
  const own = await ours.next();
  if (own?.about === undefined) throw new Error(`case ${one.name} fails: ${ours.said}`);
  const other = await theirs?.next();
  const times: number[] = [];
  const peerTimes: number[] = [];
  for (let run = 0; run < Number(runs); run++) {
    times.push((await ours.run()).ms!);
    if (other === undefined) continue;
    peerTimes.push((await theirs!.run()).ms!);
    await setTimeout(PAUSE); // until its threads have stopped to look for work
  }
  const ours_ms = median(times);
  const peer_ms = other === undefined ? null : median(peerTimes);
  const last = (await ours.end())!;
  return {
    ...{ case: one.name, ours_ms, peer_ms, ratio: peer_ms === null ? null : peer_ms / ours_ms },
    ours_peak_mib: last.peakMib!,
    peer_peak_mib: other === undefined ? null : (await theirs!.end())!.peakMib!,
    ours_of_peak: last.ofPeak ?? null,
    ...{ ours: own.about, peer: other?.about ?? null },
  };
}

interface Line {
  readonly about?: string;
  readonly ms?: number;
  readonly peakMib?: number;
  readonly ofPeak?: number;
}

/** The other side of bench/worker.ts and bench/peer/worker.py. */
class Worker {
  said = "";
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(command: string, words: readonly string[]) {
    this.#child = spawn(command, words, { stdio: ["pipe", "pipe", "pipe"] });
    this.#child.on("error", (error) => (this.said += error.message));
    this.#child.stdin!.on("error", () => undefined);
    this.#child.stderr!.on("data", (chunk: Buffer) => (this.said += chunk.toString("utf8")));
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  /** Undefined when there is none: the process ended. */
  async next(): Promise<Line | undefined> {
    const { value, done } = await this.#lines.next();
    return done === true ? undefined : (JSON.parse(value) as Line);
  }

  async run(): Promise<Line> {
    this.#child.stdin!.write("run\n");
    const line = await this.next();
    if (line === undefined) throw new Error(`a run fails: ${this.said}`);
    return line;
  }

  end(): Promise<Line | undefined> {
    this.#child.stdin!.end();
    return this.next();
  }
}
