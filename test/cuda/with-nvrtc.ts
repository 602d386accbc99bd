/** NVRTC for tests. It needs no GPU; where it is missing, the tests that take it are skipped and say so. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe } from "vitest";
import { cudaSources } from "../../compiler/emit/cuda-sources.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";
import type { Arch, PlanKernel } from "../../contract/plan.ts";
import { buildCubins, type CubinRequest, type Cubins } from "../../runtime/devices/cuda/cubins.ts";
import { openNvrtc, type Nvrtc } from "../../runtime/devices/cuda/nvrtc.ts";
import { NO_WORK } from "../device/small-plans.ts";

const found = await openNvrtc().catch((error: unknown) => {
  if (error instanceof Diagnostic) return undefined;
  throw error;
});

/** As `describe`. The tests inside may call `nvrtc`. */
export const describeWithNvrtc = (name: string, tests: () => void): void =>
  void describe.skipIf(found === undefined)(
    found === undefined ? `${name} (skipped: no NVRTC; soracc toolchain install)` : name,
    tests,
  );

export const nvrtc = (): Nvrtc => found!;

export const headers = cudaSources().prelude;

const folders: string[] = [];
afterAll(() => folders.forEach((folder) => rmSync(folder, { recursive: true, force: true })));

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "soracc-cuda-"));
  folders.push(folder);
  return folder;
}

/** A kernel of one phase with the body of its function, which may read and write `float* x`. */
export function kernelOf(symbol: string, body: string, { include = "prelude.cuh", bounds = "128" } = {}): PlanKernel {
  const source = [
    `// ${symbol}: a kernel of the tests`,
    `#include "${include}"`,
    "namespace soracc {",
    `extern "C" __global__ void __launch_bounds__(${bounds}) ${symbol}_0(float* x) {`,
    body,
    "}",
    "}  // namespace soracc",
    "",
  ];
  return {
    ...{ symbol, formula: "x := what the test wants", source: source.join("\n"), phases: [`${symbol}_0`] },
    sizes: [],
    work: NO_WORK,
    gpu: { phases: [{ threads: 128, sharedBytes: 0 }], tensorMaps: [] },
  };
}

/** Kernels by real processes into a cache folder of their own, unless one is given. */
export const build = (arch: Arch, kernels: readonly PlanKernel[], more: Partial<CubinRequest> = {}): Promise<Cubins> =>
  buildCubins({
    ...{ cache: { path: temporaryFolder() }, nvrtc: nvrtc(), headers, arch, kernels, jobs: 2 },
    ...more,
  });
