/**
 * Runs the very commands a user would type, and reads what they answer with --json.
 *
 * Their progress and their messages go to the terminal as they are; only their standard output is kept.
 */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { relative } from "node:path";
import type { Readable } from "node:stream";
import { Diagnostic } from "../../contract/diagnostic.ts";

export interface ChildCommand {
  /** `training`: for messages. */
  readonly doing: string;
  /** A script for this Node: the launcher of soracc, or a training binary. */
  readonly script: string;
  readonly words: readonly string[];
}

/** Ctrl-C, or being told to stop: the command saved what it had and said how to go on. */
export class Interrupted extends Error {}

/** What Ctrl-C makes of an exit code, here and in the training binary. */
export const INTERRUPTED = 130;

/**
 * The command's standard output.
 * @throws Diagnostic when it fails, after its own message went to the terminal; `Interrupted` after Ctrl-C or SIGTERM
 */
export async function runCommand({ doing, script, words }: ChildCommand): Promise<string> {
  const child = spawn(process.execPath, [script, ...words], { stdio: ["ignore", "pipe", "inherit"] });
  const seen = { interrupt: false };
  const onInterrupt = (signal: NodeJS.Signals): void => {
    seen.interrupt = true;
    // A terminal sends Ctrl-C to both of us; what only we are sent is passed on. It has something to save: we wait.
    if (signal !== "SIGINT") child.kill(signal);
  };
  for (const signal of INTERRUPTS) process.on(signal, onInterrupt);
  try {
    const { exitCode, output } = await finished(child);
    if (seen.interrupt || exitCode === INTERRUPTED) throw new Interrupted(doing);
    if (exitCode === 0) return output;
    throw new Diagnostic({
      kind: "demo",
      message: `${doing} failed, for the reason given above`,
      details: [`the command was: ${shellText({ script, words })}`],
      fix: "put that right, and start the demo again",
    });
  } finally {
    for (const signal of INTERRUPTS) process.off(signal, onInterrupt);
  }
}

const INTERRUPTS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

type Child = ChildProcessByStdio<null, Readable, null>;

function finished(child: Child): Promise<{ readonly exitCode: number | undefined; readonly output: string }> {
  return new Promise((resolve, reject) => {
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
    child.on("error", reject);
    child.on("close", (exitCode, signal) => {
      const interrupted = INTERRUPTS.some((one) => one === signal);
      resolve({ exitCode: interrupted ? INTERRUPTED : (exitCode ?? undefined), output });
    });
  });
}

/** As it can be typed in the working directory. */
export function shellText({ script, words }: Pick<ChildCommand, "script" | "words">): string {
  const own = script.endsWith("soracc.js") ? "npx soracc" : asTyped(script);
  return [own, ...words.map(quoted)].join(" ");
}

const asTyped = (file: string): string => {
  const near = relative(process.cwd(), file);
  return near.startsWith("..") ? quoted(file) : quoted(near.includes("/") ? near : `./${near}`);
};

const quoted = (word: string): string =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
