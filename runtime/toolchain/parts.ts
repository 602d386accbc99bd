/** The libraries that soracc can fetch for a machine without a CUDA toolkit: NVIDIA's own, from its Python packages. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { toolchainFolder, type ToolchainPart } from "../devices/cuda/discover.ts";

/** Major versions of CUDA: a driver takes what its own version made, or an older one. */
export const CUDA_VERSIONS = [13, 12] as const;
export type CudaVersion = (typeof CUDA_VERSIONS)[number];

export interface Part {
  readonly name: ToolchainPart;
  /** For people. */
  readonly title: string;
  readonly purpose: string;
  readonly packages: Readonly<Record<CudaVersion, PythonPackage>>;
  /** Whether a file of the package, by its base name, is kept. */
  readonly isLibrary: (file: string) => boolean;
  /** The one that is loaded. */
  readonly isMain: (file: string) => boolean;
}

export interface PythonPackage {
  readonly name: string;
  /** About what has to be fetched; versions differ. */
  readonly megabytes: number;
}

export const PARTS: Readonly<Record<ToolchainPart, Part>> = {
  nvrtc: {
    name: "nvrtc",
    title: "NVRTC",
    purpose: "compiles CUDA kernels",
    packages: {
      13: { name: "nvidia-cuda-nvrtc", megabytes: 90 },
      12: { name: "nvidia-cuda-nvrtc-cu12", megabytes: 90 },
    },
    isLibrary: (file) => /^libnvrtc(-builtins)?\.so(\.\d+)*$/.test(file), // the slower variants .alt.so stay away
    isMain: (file) => /^libnvrtc\.so(\.\d+)*$/.test(file),
  },
  nccl: {
    name: "nccl",
    title: "NCCL",
    purpose: "lets several GPUs exchange tensors",
    packages: {
      13: { name: "nvidia-nccl-cu13", megabytes: 220 },
      12: { name: "nvidia-nccl-cu12", megabytes: 300 },
    },
    isLibrary: (file) => /^libnccl\.so(\.\d+)*$/.test(file),
    isMain: (file) => /^libnccl\.so(\.\d+)*$/.test(file),
  },
};

/** What a part's folder says of itself. */
export interface Installed {
  readonly package: string;
  readonly version: string;
  readonly cuda: CudaVersion;
  readonly library: string;
}

/** The name of the file in a part's folder that holds it. */
export const INSTALLED_FILE = "installed.json";

export const folderOf = (part: Part, environment: NodeJS.ProcessEnv = process.env): string =>
  join(toolchainFolder(environment), part.name);

/** What is there of a part; undefined when it is missing or incomplete. */
export function installedOf(part: Part, environment: NodeJS.ProcessEnv = process.env): Installed | undefined {
  try {
    const folder = folderOf(part, environment);
    const installed = JSON.parse(readFileSync(join(folder, INSTALLED_FILE), "utf8")) as Installed;
    return existsSync(join(folder, installed.library)) ? installed : undefined;
  } catch {
    return undefined;
  }
}
