/** `./dit doctor` */
import type { Command } from "commander";
import { describeChecks, examineMachine } from "../doctor/machine.ts";
import { examples, type CommandContext } from "./command.ts";

export function doctorCommand(
  program: Command,
  { self, print, carried }: CommandContext,
  end: (exitCode: number) => void,
): void {
  program
    .command("doctor")
    .description("say what this machine lacks, and the command that fixes it")
    .option("--json", "print the checks as JSON")
    .addHelpText("after", examples([`${self} doctor`]))
    .action(async ({ json }: { readonly json?: true }) => {
      const checks = await examineMachine({ target: carried.plan().target, loadKoffi: carried.loadKoffi });
      if (json === true) print(JSON.stringify({ ok: checks.every(({ ok }) => ok), checks }));
      else for (const line of describeChecks(checks)) print(line);
      end(checks.every(({ ok }) => ok) ? 0 : 1);
    });
}
