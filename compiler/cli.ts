/**
 * The command line. `soracc --help` needs the names of the commands and nothing else: what a command does is loaded
 * when it is called, and imports what is heavy inside its action.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { tolerateClosedPipes } from "../contract/closed-pipe.ts";
import { Diagnostic } from "../contract/diagnostic.ts";
import { isWorker } from "../contract/worker-command.ts";

/** What `commands/NAME.ts` exports. */
export interface CommandModule {
  /** Declares arguments and options, and the action, which hands its exit code to `finish`. */
  readonly configure: (command: Command, finish: (exitCode: number) => void) => void;
}

interface CommandEntry {
  readonly name: string;
  readonly summary: string;
  readonly load: () => Promise<CommandModule>;
}

/** All commands, in the order of `soracc --help`. */
const COMMANDS: readonly CommandEntry[] = [
  {
    name: "compile",
    summary: "turn a model into a training binary: one executable file",
    load: () => import("./commands/compile.ts"),
  },
  {
    name: "verify",
    summary: "compare a model with tensors recorded from another implementation",
    load: () => import("./commands/verify.ts"),
  },
  {
    name: "inspect",
    summary: "show a model's programs after any pass, its steps, memory and kernels",
    load: () => import("./commands/inspect.ts"),
  },
  {
    name: "doctor",
    summary: "say what this machine lacks, and the command that fixes it",
    load: () => import("./commands/doctor.ts"),
  },
  {
    name: "toolchain",
    summary: "fetch NVIDIA's compiler of CUDA kernels (NVRTC) where there is no CUDA toolkit",
    load: () => import("./commands/toolchain.ts"),
  },
  {
    name: "demo",
    summary: "draw captioned clips, train a small model on them, sample videos and measure them",
    load: () => import("./commands/demo.ts"),
  },
];

/** Runs one command line (without the program's name) and resolves to the exit code. */
export async function main(commandLine: readonly string[]): Promise<number> {
  if (isWorker(commandLine)) return (await import("../runtime/devices/cuda/compile-worker.ts")).serveCompilations();
  tolerateClosedPipes();
  let exitCode = 0;
  const program = new Command("soracc")
    .description("A declarative graph compiler for Sora-like video models.")
    .version(version(), "-v, --version")
    .showSuggestionAfterError()
    .exitOverride();
  const asked = commandLine.find((word) => !word.startsWith("-") && word !== "help");
  for (const { name, summary, load } of COMMANDS) {
    const command = program.command(name).description(summary).exitOverride().showSuggestionAfterError();
    if (name === asked) {
      const { configure } = await load();
      configure(command, (code) => {
        exitCode = code;
      });
    }
  }
  try {
    await program.parseAsync(commandLine, { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode; // commander has printed it
    if (!(error instanceof Diagnostic)) throw error;
    process.stderr.write(`${error.message}\n`);
    if (process.env["SORACC_DEBUG"] === "1") process.stderr.write(`${error.stack ?? ""}\n`);
    return 1;
  }
}

function version(): string {
  const root = process.env["SORACC_ROOT"] ?? process.cwd();
  const manifest: unknown = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const isManifest = typeof manifest === "object" && manifest !== null && "version" in manifest;
  return isManifest ? String(manifest.version) : "unknown";
}
