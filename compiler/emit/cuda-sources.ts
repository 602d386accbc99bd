/** What CUDA kernels include: for NVRTC, and for the simulator, which has the same functions for the host. */
import { join } from "node:path";
import { textsOf } from "./native-sources.ts";

export interface CudaSources {
  /** Texts by file name of templates/prelude, templates/cuda/prelude and templates/cuda/machine. */
  readonly prelude: Readonly<Record<string, string>>;
  /** The same with templates/cuda/sim in place of the machine. */
  readonly sim: Readonly<Record<string, string>>;
}

/** `root` is where the package lies. */
export function cudaSources(root = process.env["SORACC_ROOT"] ?? process.cwd()): CudaSources {
  const templates = join(root, "templates");
  const shared = { ...textsOf(join(templates, "prelude")), ...textsOf(join(templates, "cuda", "prelude")) };
  return {
    prelude: { ...shared, ...textsOf(join(templates, "cuda", "machine")) },
    sim: { ...shared, ...textsOf(join(templates, "cuda", "sim")) },
  };
}
