/**
 * Runs the very commands a user would type, and reads what they answer with --json.
 *
 * Their progress and their messages go to the terminal as they are; only their standard output is kept.
 */
import { spawn } from "node:child_process";
import { relative } from "node:path";
import { Diagnostic } from "../../contract/diagnostic.ts";

export interface ChildCommand {
  /** `training`: for messages. */
  readonly doing: string;
  /** A script for this Node: the launcher of soracc, or a training binary. */
  readonly script: string;
  readonly words: readonly string[];
}

/** Ctrl-C: the command saved what it had and said how to go on. */
export class Interrupted extends Error {}

/** What Ctrl-C makes of an exit code, here and in the training binary. */
export const INTERRUPTED = 130;

/**
 * The command's standard output.
 * @throws Diagnostic when it fails, after its own message went to the terminal; `Interrupted` after Ctrl-C
 */
export async function runCommand({ doing, script, words }: ChildCommand): Promise<string> {
  // Ctrl-C reaches the command as well, and it has something to save: we wait for it.
  const seen = { interrupt: false };
  const onInterrupt = (): void => {
    seen.interrupt = true;
  };
  process.on("SIGINT", onInterrupt);
  try {
    const { exitCode, output } = await start(script, words);
    if (seen.interrupt || exitCode === INTERRUPTED) throw new Interrupted(doing);
    if (exitCode === 0) return output;
    throw new Diagnostic({
      kind: "demo",
      message: `${doing} failed, for the reason given above`,
      details: [`the command was: ${shellText({ script, words })}`],
      fix: "put that right, and start the demo again",
    });
  } finally {
    process.off("SIGINT", onInterrupt);
  }
}

function start(
  script: string,
  words: readonly string[],
): Promise<{ readonly exitCode: number | undefined; readonly output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [script, ...words], { stdio: ["ignore", "pipe", "inherit"] });
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
    child.on("error", reject);
    child.on("close", (exitCode, signal) =>
      resolve({ exitCode: signal === "SIGINT" ? INTERRUPTED : (exitCode ?? undefined), output }),
    );
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
