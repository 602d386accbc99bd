/**
 * Where NVRTC and the driver are: what an environment variable names, else the toolchain folder that
 * `soracc toolchain install` fills, else what the system's loader finds, else the folders of CUDA_HOME or CUDA_PATH.
 */
import { existsSync, readdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { Diagnostic } from "../../../contract/diagnostic.ts";
import { defaultFolder } from "../cpu/cache-folder.ts";
import type { Koffi } from "../cpu/host.ts";

export type LibraryHandle = ReturnType<Koffi["load"]>;

export interface FoundLibrary {
  readonly library: LibraryHandle;
  /** A path, or a name that the system's loader resolved. */
  readonly from: string;
}

interface Wanted {
  readonly what: string;
  readonly variable: string;
  /** Names for the system's loader, newest first. */
  readonly names: readonly string[];
  /** Whether a file of a folder is the library. */
  readonly isNamed: (file: string) => boolean;
  readonly fix: string;
}

const NVRTC: Wanted = {
  what: "NVRTC, the compiler of CUDA kernels,",
  variable: "SORACC_NVRTC",
  names: ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"],
  isNamed: (file) => /^libnvrtc\.so(\.\d+)*$/.test(file),
  fix: "soracc toolchain install",
};

const DRIVER: Wanted = {
  what: "the NVIDIA driver (libcuda.so.1)",
  variable: "SORACC_CUDA_DRIVER",
  names: ["libcuda.so.1"],
  isNamed: (file) => file === "libcuda.so.1",
  fix: "install NVIDIA's driver for this GPU; in a container, start it with the GPU passed through (docker run --gpus all)",
};

/** Where `soracc toolchain install` puts libraries. */
export const toolchainFolder = (environment: NodeJS.ProcessEnv = process.env): string =>
  join(resolve(environment["SORACC_CACHE"] ?? defaultFolder(environment)), "toolchain");

/** @throws Diagnostic of kind `gpu` that tells every place where it looked */
export function findNvrtc(koffi: Koffi, environment: NodeJS.ProcessEnv = process.env): FoundLibrary {
  return find(koffi, NVRTC, environment, (path) => loadBuiltins(koffi, dirname(path)));
}

/** @throws Diagnostic of kind `gpu` that tells every place where it looked */
export function findDriver(koffi: Koffi, environment: NodeJS.ProcessEnv = process.env): FoundLibrary {
  return find(koffi, DRIVER, environment, () => undefined);
}

function find(
  koffi: Koffi,
  wanted: Wanted,
  environment: NodeJS.ProcessEnv,
  prepare: (path: string) => void,
): FoundLibrary {
  const tried: string[] = [];
  for (const candidate of candidatesOf(wanted, environment)) {
    try {
      if (candidate.includes("/")) {
        if (!existsSync(candidate)) throw new Error("there is no such file");
        prepare(candidate);
      }
      return { library: koffi.load(candidate), from: candidate };
    } catch (error) {
      tried.push(`${candidate}: ${reasonOf(error, candidate)}`);
    }
  }
  const chosen = environment[wanted.variable];
  throw new Diagnostic({
    kind: "gpu",
    message: isSet(chosen)
      ? `${wanted.variable} names "${chosen}", which cannot be used`
      : `${wanted.what} was not found`,
    details: tried,
    fix: isSet(chosen) ? `unset ${wanted.variable}, or point it at the library` : wanted.fix,
  });
}

const isSet = (text: string | undefined): text is string => text !== undefined && text.trim() !== "";

/** A variable decides alone; else every place in order. */
function candidatesOf({ variable, names, isNamed }: Wanted, environment: NodeJS.ProcessEnv): string[] {
  const chosen = environment[variable];
  if (isSet(chosen)) return [resolve(chosen)];
  const homes = [environment["CUDA_HOME"], environment["CUDA_PATH"]].filter(isSet);
  const folders = homes.flatMap((home) =>
    ["lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"].map((sub) => join(home, sub)),
  );
  return [
    ...within(toolchainFolder(environment), isNamed),
    ...names,
    ...folders.flatMap((folder) => within(folder, isNamed)),
  ];
}

/** Files of a folder, the longest name (the most exact version) first. */
function within(folder: string, isNamed: (file: string) => boolean): string[] {
  try {
    const files = readdirSync(folder).filter(isNamed);
    return files.sort((a, b) => b.length - a.length || (a < b ? 1 : -1)).map((file) => join(folder, file));
  } catch {
    return []; // no such folder
  }
}

/** NVRTC looks for its builtins by name and has no path of its own to look in: they are there when it asks. */
function loadBuiltins(koffi: Koffi, folder: string): void {
  for (const path of within(folder, (file) => /^libnvrtc-builtins\.so(\.\d+)*$/.test(file))) {
    koffi.load(path, { global: true });
    return;
  }
}

const reasonOf = (error: unknown, path: string): string => {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/^Failed to load shared library: /, "").replace(`${path}: `, "");
};
