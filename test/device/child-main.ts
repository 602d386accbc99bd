/**
 * A process of its own for the tests: bundled into one CommonJS file, as a training binary is, with koffi's addon taken
 * from a file. Its one argument is JSON.
 */
import { readFileSync } from "node:fs";
import { formatDiagnostic, Diagnostic } from "../../contract/diagnostic.ts";
import { parsePlan } from "../../contract/plan-schema.ts";
import { createCpuDevice, type CpuDeviceOptions } from "../../runtime/devices/cpu/device.ts";
import type { Koffi } from "../../runtime/devices/cpu/host.ts";

export interface ChildRequest {
  /** Files. */
  readonly plan: string;
  readonly addon: string;
  readonly options: Pick<CpuDeviceOptions, "prelude" | "hostSource" | "cacheDir">;
  /** Loads the plan and says how; or exits, or is stopped by a signal, while program `wait` runs. */
  readonly action: "load" | "exit while running" | "end by signal";
}

async function main({ plan, addon, options, action }: ChildRequest): Promise<void> {
  const loadKoffi = (): Koffi => {
    const module = { exports: {} as Koffi };
    process.dlopen(module, addon);
    return module.exports;
  };
  const device = await createCpuDevice({ ...options, loadKoffi });
  const loaded = await device.load(parsePlan(readFileSync(plan, "utf8")));
  console.log(JSON.stringify(loaded.facts));
  if (action === "load") return device.close();
  const state = new Map([["count", loaded.createState("count", "f32", 1)]]);
  const running = loaded.bind("wait", {}, state).run(1_000_000);
  setTimeout(() => {
    console.log("running");
    if (action === "exit while running") process.exit(7);
  }, 50);
  if (action === "end by signal") process.once("SIGINT", () => void device.close().then(() => process.exit(130)));
  await running.catch(() => undefined);
}

main(JSON.parse(process.argv[2] ?? "") as ChildRequest).catch((error: unknown) => {
  console.error(error instanceof Diagnostic ? formatDiagnostic(error.parts) : error);
  process.exitCode = 1;
});
