/** Runs another program with a time limit, bounded memory and nothing of ours to wait for. */
import { spawn } from "node:child_process";

export interface ChildRequest {
  readonly program: string;
  readonly flags: readonly string[];
  readonly timeLimitSeconds: number;
  /** Bytes for its standard input, which is closed after them; closed at once when there are none. */
  readonly input?: Uint8Array | undefined;
  /** The most bytes its standard output may have; it is stopped when it writes more. */
  readonly outputLimit: number;
}

export interface ChildResult {
  /** `undefined` when a signal ended it. */
  readonly exitCode: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
  readonly timedOut: boolean;
  /** It wrote more than `outputLimit`; `output` then holds the first `outputLimit` bytes. */
  readonly overflowed: boolean;
  readonly output: Uint8Array<ArrayBuffer>;
  /** The end of what it wrote to standard error. */
  readonly errors: string;
}

const ERRORS_KEPT = 64 * 1024;

/** Rejects only when the program cannot be started. */
export function runChild(request: ChildRequest): Promise<ChildResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(request.program, request.flags, {
      stdio: [request.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
      // A group of its own: Ctrl-C reaches us, who save first, and not the child in the middle of a clip.
      detached: true,
      windowsHide: true,
    });
    const chunks: Uint8Array[] = [];
    let length = 0;
    let errors = "";
    let timedOut = false;
    let overflowed = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill("SIGKILL");
    }, request.timeLimitSeconds * 1000);

    child.stdout?.on("data", (chunk: Uint8Array) => {
      const room = request.outputLimit - length;
      if (chunk.byteLength > room) {
        overflowed = true;
        child.kill("SIGKILL");
      }
      if (room <= 0) return;
      const kept = chunk.subarray(0, room);
      chunks.push(kept);
      length += kept.byteLength;
    });
    child.stderr?.on("data", (chunk: Buffer) => {
      errors = (errors + chunk.toString("utf8")).slice(-ERRORS_KEPT);
    });
    if (request.input !== undefined) {
      // It may stop reading before the end; why is in its exit code and its errors.
      child.stdin?.on("error", () => undefined);
      child.stdin?.end(request.input);
    }
    child.on("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on("close", (exitCode, signal) => {
      clearTimeout(timer);
      const output = new Uint8Array(length);
      let at = 0;
      for (const chunk of chunks) {
        output.set(chunk, at);
        at += chunk.byteLength;
      }
      resolve({ exitCode: exitCode ?? undefined, signal: signal ?? undefined, timedOut, overflowed, output, errors });
    });
  });
}
