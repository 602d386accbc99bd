/** The command line of a training binary. */
import { basename } from "node:path";
import { Command, CommanderError } from "commander";
import { tolerateClosedPipes } from "../contract/closed-pipe.ts";
import { Diagnostic } from "../contract/diagnostic.ts";
import type { Payload } from "../contract/payload.ts";
import { isWorker } from "../contract/worker-command.ts";
import { benchCommand } from "./commands/bench.ts";
import { examples, type CommandContext } from "./commands/command.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { infoCommand } from "./commands/info.ts";
import { sampleCommand } from "./commands/sample.ts";
import { trainCommand } from "./commands/train.ts";
import { serveCompilations } from "./devices/cuda/compile-worker.ts";
import { openPayload } from "./program/carried.ts";

type AddCommand = (program: Command, context: CommandContext, end: (exitCode: number) => void) => void;

const COMMANDS: readonly AddCommand[] = [trainCommand, sampleCommand, infoCommand, benchCommand, doctorCommand];

/** Resolves to the exit code; every failure has been told on stderr by then. */
export async function main(commandLine: readonly string[], payload: Payload): Promise<number> {
  if (isWorker(commandLine)) return serveCompilations(openPayload(payload).loadKoffi);
  tolerateClosedPipes();
  const name = basename(process.argv[1] ?? "model");
  const context: CommandContext = {
    carried: openPayload(payload),
    self: `./${name}`,
    print: (line) => void process.stdout.write(`${line}\n`),
    say: (line) => void process.stderr.write(`${line}\n`),
  };
  let exitCode = 0;
  const program = new Command(`./${name}`)
    .description("A training binary: one model, compiled by soracc to native kernels.")
    .version(payload.soracc, "--version", "the version of soracc that compiled it")
    .helpCommand(false)
    .showHelpAfterError("(add --help for the options)")
    .addHelpText(
      "after",
      examples([
        `./${name} train --data clips --steps 2000`,
        `./${name} sample --checkpoint runs/${name} --prompt "a red circle moves left" -o circle.mp4`,
        `./${name} info`,
      ]),
    );
  for (const add of COMMANDS) add(program, context, (code) => (exitCode = code));
  for (const command of [program, ...program.commands]) command.exitOverride();
  try {
    if (commandLine.length === 0) {
      process.stderr.write(program.helpInformation());
      return 1;
    }
    await program.parseAsync([...commandLine], { from: "user" });
    return exitCode;
  } catch (error) {
    return tell(error, name);
  }
}

/** A mistake without a stack; a fault of ours with one, on demand. */
function tell(error: unknown, name: string): number {
  if (error instanceof CommanderError) return error.exitCode; // commander has told it
  if (error instanceof Diagnostic) {
    process.stderr.write(`${error.message}\n`);
  } else {
    const message = error instanceof Error ? error.message : String(error);
    process.stderr.write(
      `${name}: runtime bug: ${message}\n  This should have been a proper message. Please report it with the command you ran and the output of SORACC_DEBUG=1.\n`,
    );
  }
  if (process.env["SORACC_DEBUG"] === "1" && error instanceof Error) process.stderr.write(`${error.stack ?? ""}\n`);
  return 1;
}
