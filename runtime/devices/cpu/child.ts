/** Runs a program without a shell and collects what it says. */
import { spawn } from "node:child_process";

export interface ChildResult {
  /** Null when it was killed or never started. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Why it did not start: `ENOENT`, `EACCES` … */
  readonly failure: string | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ChildOptions {
  readonly cwd?: string | undefined;
  /** Variables beside those of this process. */
  readonly environment?: Readonly<Record<string, string>> | undefined;
  /** Ends the child; its result then carries the signal. */
  readonly abort?: AbortSignal | undefined;
}

/** Never rejects: what went wrong is in the result. */
export function runChild(command: string, args: readonly string[], options: ChildOptions = {}): Promise<ChildResult> {
  return new Promise((resolve) => {
    const chunks: Record<"stdout" | "stderr", Buffer[]> = { stdout: [], stderr: [] };
    let failure: string | undefined;
    const finish = (code: number | null, signal: NodeJS.Signals | null): void => {
      options.abort?.removeEventListener("abort", kill);
      const [stdout, stderr] = [chunks.stdout, chunks.stderr].map((parts) => Buffer.concat(parts).toString("utf8"));
      resolve({ code, signal, failure, stdout: stdout ?? "", stderr: stderr ?? "" });
    };
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: { ...process.env, LC_ALL: "C", ...options.environment }, // messages are parsed
      stdio: ["ignore", "pipe", "pipe"],
    });
    const kill = (): void => void child.kill();
    options.abort?.addEventListener("abort", kill, { once: true });
    if (options.abort?.aborted === true) kill();
    child.stdout.on("data", (chunk: Buffer) => chunks.stdout.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => chunks.stderr.push(chunk));
    child.once("error", (error: NodeJS.ErrnoException) => {
      failure = error.code ?? error.message;
      if (child.pid === undefined) finish(null, null);
    });
    child.once("close", (code, signal) => {
      if (child.pid !== undefined) finish(code, signal);
    });
  });
}
