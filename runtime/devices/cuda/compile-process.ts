/** A process that compiles kernels, seen from the one that has them. */
import { fork } from "node:child_process";
import { join } from "node:path";
import { CompilerBug, Diagnostic } from "../../../contract/diagnostic.ts";
import type { Arch } from "../../../contract/plan.ts";
import { WORKER_COMMAND_LINE } from "../../../contract/worker-command.ts";
import type { Answer, Order } from "./compile-worker.ts";
import { Rejected, type Compiled } from "./nvrtc.ts";

export interface CompileProcess {
  /** Of the NVRTC that it opened. */
  readonly version: string;
  /**
   * One source at a time.
   * @throws Rejected for a source with errors, Crashed when the process ended over it
   */
  compile(source: string): Promise<Compiled>;
  close(): void;
}

export interface CompileProcessOptions {
  /** What Node starts: the launcher of soracc or a training binary. Default: the launcher. */
  readonly script?: string | undefined;
  /** The library that compiles: its path, or a bare name for the process to look for. */
  readonly library: string;
  /** Texts of what sources include, by name. */
  readonly headers: Readonly<Record<string, string>>;
  readonly arch: Arch;
  /** Milliseconds that one source may take. */
  readonly patience?: number | undefined;
}

/** A kernel takes less than a second; a compiler that is still at it after so long does not end. */
const PATIENCE = 300_000;

/** The process ended when it should have answered. */
export class Crashed extends Error {
  /** `SIGSEGV`, `exit code 1` */
  readonly how: string;
  /** The last lines that it wrote. */
  readonly lastWords: readonly string[];
  constructor(how: string, lastWords: readonly string[]) {
    super(`the process that compiles kernels ended (${how})`);
    this.how = how;
    this.lastWords = lastWords;
  }
}

/** Text that a process wrote, of which the end counts. */
const KEPT = 4096;

/** @throws Diagnostic when NVRTC cannot be opened there, Crashed when the process does not start */
export async function startCompileProcess(options: CompileProcessOptions): Promise<CompileProcess> {
  const { library, headers, arch, script = launcher(), patience = PATIENCE } = options;
  const child = fork(script, WORKER_COMMAND_LINE, {
    env: { ...process.env, ...(library.includes("/") ? { SORACC_NVRTC: library } : {}) },
    execArgv: [],
    serialization: "advanced",
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  let words = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    words = (words + text).slice(-KEPT);
  });
  let pending: { readonly resolve: (answer: Answer) => void; readonly reject: (error: Error) => void } | undefined;
  let over: Error | undefined;
  const end = (how: string): void => {
    over ??= new Crashed(how, words.trim().split("\n").slice(-4));
    pending?.reject(over);
    pending = undefined;
  };
  child.once("error", (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
  child.once("close", (code, signal) => end(signal ?? `exit code ${code}`));
  child.on("message", (answer: Answer) => {
    pending?.resolve(answer);
    pending = undefined;
  });
  const ask = async (order: Order): Promise<Answer> => {
    const answer = await new Promise<Answer>((resolve, reject) => {
      if (over !== undefined) {
        reject(over);
        return;
      }
      if (pending !== undefined) throw new CompilerBug("NVRTC", "two sources at a time in one process");
      pending = { resolve, reject };
      child.send(order, (error) => {
        if (error !== null && over === undefined) child.kill(); // then `close` tells
      });
    });
    if (answer.kind === "failed") throw new Diagnostic(answer.parts);
    if (answer.kind === "bug") throw new CompilerBug("NVRTC", answer.message);
    return answer;
  };
  const close = (): void => {
    over ??= new Error("the process that compiles kernels was closed");
    pending?.reject(over);
    pending = undefined;
    child.kill("SIGKILL"); // it may be deep in a compilation, and has nothing to save
  };

  const started = await ask({ kind: "setup", headers, arch }).catch((error: unknown) => {
    close();
    throw error;
  });
  if (started.kind !== "ready") throw new CompilerBug("NVRTC", `"${started.kind}" is no answer to the settings`);
  return {
    version: started.version,
    async compile(source) {
      const limit = setTimeout(() => {
        end(`no end after ${patience / 1000} s`);
        child.kill("SIGKILL");
      }, patience);
      const answer = await ask({ kind: "compile", source }).finally(() => clearTimeout(limit));
      if (answer.kind === "rejected") throw new Rejected(answer.log);
      if (answer.kind !== "compiled") throw new CompilerBug("NVRTC", `"${answer.kind}" is no answer to a source`);
      return answer.compiled;
    },
    close,
  };
}

/** What starts soracc itself. */
function launcher(): string {
  const root = process.env["SORACC_ROOT"];
  if (root === undefined) throw new CompilerBug("NVRTC", "SORACC_ROOT is not set");
  return join(root, "bin", "soracc.js");
}
