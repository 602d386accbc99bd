/** The kernels of the programs a command runs, made ready on a device, with something to watch while they are compiled. */
import type { Plan } from "../../contract/plan.ts";
import type { Device, LoadedPlan } from "../devices/device.ts";
import { startProgress, type Progress } from "../observe/progress.ts";
import { programNamed } from "./fill.ts";

/** Nothing is shown when the cache holds everything. @throws Diagnostic when a program is not in the plan */
export async function loadPrograms(device: Device, plan: Plan, programs: readonly string[]): Promise<LoadedPlan> {
  let progress: Promise<Progress> | undefined;
  let shown = -1;
  let latest = 0;
  try {
    return await device.load(withPrograms(plan, programs), ({ kernels, ready, doing }) => {
      if (doing === "ready") return;
      latest = ready;
      progress ??= startProgress({ label: "compiling kernels", total: kernels, unit: "kernel", initial: ready });
      void progress.then((bar) => {
        if (latest > shown) bar.update((shown = latest));
      });
    });
  } finally {
    (await progress)?.stop();
  }
}

/** The plan with these programs alone, and the kernels they launch. */
export function withPrograms(plan: Plan, names: readonly string[]): Plan {
  const programs = names.map((name) => [name, programNamed(plan.programs, name)] as const);
  const used = [...new Set(programs.flatMap(([, { steps }]) => steps.map(({ kernel }) => kernel)))].sort(
    (a, b) => a - b,
  );
  const places = new Map(used.map((kernel, place) => [kernel, place]));
  return {
    ...plan,
    kernels: used.map((kernel) => plan.kernels[kernel]!),
    programs: Object.fromEntries(
      programs.map(([name, program]) => [
        name,
        { ...program, steps: program.steps.map((step) => ({ ...step, kernel: places.get(step.kernel)! })) },
      ]),
    ),
  };
}
