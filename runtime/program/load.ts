/** Kernels of a plan made ready on a device, with something to watch while they are compiled. */
import type { Plan } from "../../contract/plan.ts";
import type { Device, LoadedPlan } from "../devices/device.ts";
import { startProgress, type Progress } from "../observe/progress.ts";

/** Nothing is shown when the cache holds everything. */
export async function loadWithProgress(device: Device, plan: Plan): Promise<LoadedPlan> {
  let progress: Promise<Progress> | undefined;
  let latest = 0;
  try {
    return await device.load(plan, ({ kernels, ready, doing }) => {
      if (doing === "ready") return;
      latest = ready;
      progress ??= startProgress({ label: "compiling kernels", total: kernels, unit: "kernel", initial: ready });
      void progress.then((shown) => shown.update(latest));
    });
  } finally {
    (await progress)?.stop();
  }
}
