/** `soracc doctor`: what this machine lacks, and the command that fixes it. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";

const EXAMPLES = `
Examples:
  soracc doctor
  soracc doctor --json`;

export function configure(command: Command, finish: (exitCode: number) => void): void {
  command
    .option("--json", "one JSON object on standard output")
    .addHelpText("after", EXAMPLES)
    .action(async ({ json }: { readonly json?: true }) => {
      const { describeChecks, examineMachine } = await import("../../runtime/doctor/machine.ts");
      const checks = [...(await examineMachine({ target: "cpu", both: true })), packages()];
      const ok = checks.every((check) => check.ok);
      const text = json === true ? JSON.stringify({ ok, checks }) : describeChecks(checks).join("\n");
      process.stdout.write(`${text}\n`);
      finish(ok ? 0 : 1);
    });
}

/** What the launcher could not start without, and what a binary carries. */
function packages(): { readonly name: string; readonly ok: boolean; readonly found: string; readonly fix?: string } {
  const root = process.env["SORACC_ROOT"] ?? process.cwd();
  const folder = [join(root, "node_modules"), join(root, "..")].find((one) => existsSync(join(one, "koffi")));
  if (folder !== undefined) return { name: "packages", ok: true, found: folder };
  return {
    name: "packages",
    ok: false,
    found: `koffi is not installed in ${root}`,
    fix: `cd ${root} && npm ci --ignore-scripts`,
  };
}
