/**
 * Where NVRTC and the driver are: what an environment variable names, else the toolchain folder that
 * `soracc toolchain install` fills, else what the system's loader finds, else the folders of CUDA_HOME or CUDA_PATH
 * (without both: /usr/local/cuda).
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { Diagnostic } from "../../../contract/diagnostic.ts";
import { defaultFolder } from "../cpu/cache-folder.ts";
import type { Koffi } from "../cpu/host.ts";

export type LibraryHandle = ReturnType<Koffi["load"]>;

export interface FoundLibrary {
  readonly library: LibraryHandle;
  /** Its path; a bare name where the system's loader found it and nobody tells where. */
  readonly from: string;
  /** Files that come before it and could not be used, with the reason: `PATH: file too short`. */
  readonly passedOver: readonly string[];
}

/** What is looked for. */
interface Wanted {
  readonly what: string;
  readonly variable: string;
  /** The folder of the toolchain that has it. */
  readonly part?: ToolchainPart;
  /** Names for the system's loader, newest first. */
  readonly names: readonly string[];
  /** Whether a file of a folder is the library. */
  readonly isNamed: (file: string) => boolean;
  readonly fix: string;
}

/** Folders that `soracc toolchain install` makes. */
export type ToolchainPart = "nvrtc" | "nccl";

const NVRTC: Wanted = {
  what: "NVRTC, the compiler of CUDA kernels,",
  variable: "SORACC_NVRTC",
  part: "nvrtc",
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

/** Where a toolkit lies unless a variable says otherwise. */
const USUAL_HOME = "/usr/local/cuda";

/** Where `soracc toolchain install` puts libraries, each part in a folder of its own. */
export const toolchainFolder = (environment: NodeJS.ProcessEnv = process.env): string =>
  join(resolve(environment["SORACC_CACHE"] ?? defaultFolder(environment)), "toolchain");

/** @throws Diagnostic of kind `gpu` that tells every place where it looked */
export function findNvrtc(koffi: Koffi, environment: NodeJS.ProcessEnv = process.env): FoundLibrary {
  return find(koffi, NVRTC, environment, (path) => loadBuiltins(koffi, path));
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
  const tried: { readonly candidate: string; readonly reason: string }[] = [];
  for (const candidate of candidatesOf(wanted, environment)) {
    try {
      if (candidate.includes("/")) {
        if (!existsSync(candidate)) throw new Error("there is no such file");
        prepare(candidate);
      }
      const before = candidate.includes("/") ? undefined : mappedFiles();
      const library = koffi.load(candidate);
      const passedOver = tried.filter((one) => one.candidate.includes("/")).map(describe);
      return { library, from: before === undefined ? candidate : placeOf(candidate, before), passedOver };
    } catch (error) {
      tried.push({ candidate, reason: reasonOf(error, candidate) });
    }
  }
  const chosen = environment[wanted.variable];
  throw new Diagnostic({
    kind: "gpu",
    message: isSet(chosen)
      ? `${wanted.variable} names "${chosen}", which cannot be used`
      : `${wanted.what} was not found`,
    details: tried.map(describe),
    fix: isSet(chosen) ? `unset ${wanted.variable}, or point it at the library` : wanted.fix,
  });
}

const isSet = (text: string | undefined): text is string => text !== undefined && text.trim() !== "";

const describe = ({ candidate, reason }: { readonly candidate: string; readonly reason: string }): string =>
  `${candidate}: ${reason}`;

/** A variable decides alone; else every place in order. */
function candidatesOf({ variable, part, names, isNamed }: Wanted, environment: NodeJS.ProcessEnv): string[] {
  const chosen = environment[variable];
  if (isSet(chosen)) return [resolve(chosen)];
  const named = [environment["CUDA_HOME"], environment["CUDA_PATH"]].filter(isSet);
  const homes = named.length > 0 ? named : [USUAL_HOME];
  return [
    ...(part === undefined ? [] : within(join(toolchainFolder(environment), part), isNamed)),
    ...names,
    ...homes.flatMap(librariesOf).flatMap((folder) => within(folder, isNamed)),
  ];
}

/** The folders of a toolkit that may hold libraries. */
function librariesOf(home: string): readonly string[] {
  const targets = namesIn(join(home, "targets")).map((target) => join("targets", target, "lib"));
  return ["lib64", "lib", ...targets].map((folder) => join(home, folder));
}

/** Files of a folder, the longest name (the most exact version) first. */
const within = (folder: string, isNamed: (file: string) => boolean): string[] =>
  namesIn(folder)
    .filter(isNamed)
    .sort((a, b) => b.length - a.length || (a < b ? 1 : -1))
    .map((file) => join(folder, file));

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // no such folder
  }
}

/**
 * NVRTC looks for its builtins by name and has no path of its own to look in: they are there when it asks. Another major
 * version may lie in the same folder; its builtins do not serve.
 */
function loadBuiltins(koffi: Koffi, nvrtc: string): void {
  const major = /\.so\.(\d+)/.exec(basename(nvrtc))?.[1] ?? "\\d+";
  const isNamed = new RegExp(String.raw`^libnvrtc-builtins\.so\.${major}(\.\d+)*$`);
  for (const path of within(dirname(nvrtc), (file) => isNamed.test(file))) koffi.load(path, { global: true });
}

/** Where the system's loader found what it was asked for by name: of the files that came with it, the one of that name. */
function placeOf(name: string, before: ReadonlySet<string>): string {
  const stem = name.replace(/\.so.*$/, ".so");
  const came = [...mappedFiles()].filter((file) => !before.has(file) && basename(file).startsWith(stem));
  return came[0] ?? name;
}

/** Files that are mapped into this process; none where the system does not tell. */
function mappedFiles(): ReadonlySet<string> {
  try {
    return new Set(readFileSync("/proc/self/maps", "utf8").match(/\/.*$/gm) ?? []);
  } catch {
    return new Set();
  }
}

const reasonOf = (error: unknown, path: string): string => {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/^Failed to load shared library: /, "").replace(`${path}: `, "");
};
