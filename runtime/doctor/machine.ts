/** What this machine has of what training takes, and the command that fixes what it lacks. */
import { availableParallelism, totalmem } from "node:os";
import { formatBytes } from "../../contract/atomic-file.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { capabilitiesOf, describeProgram, findProgram, type ProgramName } from "../data/ffmpeg-find.ts";
import type { Plan } from "../../contract/plan.ts";
import { printBytes } from "../devices/bound/memory.ts";
import { openCacheFolder } from "../devices/cpu/cache-folder.ts";
import type { LoadKoffi } from "../devices/cpu/host.ts";
import { availableMemory } from "../devices/cpu/memory.ts";
import { findToolchain } from "../devices/cpu/toolchain.ts";
import { openDriver, printVersion } from "../devices/cuda/driver.ts";
import { archOf } from "../devices/cuda/engine.ts";
import { openNvrtc } from "../devices/cuda/nvrtc.ts";

export interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly found: string;
  /** The command that puts it right, or that adds what is absent. */
  readonly fix?: string | undefined;
  /** Not there, and not needed for what was asked. */
  readonly absent?: true;
}

type Examine = (loadKoffi: LoadKoffi | undefined) => Promise<Omit<Check, "name" | "ok">>;

interface Examined {
  readonly name: string;
  readonly examine: Examine;
  /** What needs it; left out: everything. */
  readonly target?: Plan["target"];
}

const EXAMINED: readonly Examined[] = [
  { name: "node", examine: examineNode },
  { name: "C++ compiler", examine: examineCompiler, target: "cpu" },
  { name: "GPU", examine: examineGpu, target: "cuda" },
  { name: "NVRTC", examine: examineNvrtc, target: "cuda" },
  { name: "threads", examine: examineThreads },
  { name: "memory", examine: examineMemory },
  { name: "kernel cache", examine: examineCache },
  { name: "ffmpeg", examine: () => examineProgram("ffmpeg") },
  { name: "ffprobe", examine: () => examineProgram("ffprobe") },
];

export interface ExamineOptions {
  /** What kernels run on. */
  readonly target: Plan["target"];
  /** How native libraries are reached. Default: from node_modules. */
  readonly loadKoffi?: LoadKoffi | undefined;
  /** Says what there is for the other target, too; it may be missing. */
  readonly both?: boolean | undefined;
}

/** Every check is made, whatever the others say. */
export async function examineMachine(options: ExamineOptions): Promise<readonly Check[]> {
  const { target: wanted, loadKoffi, both = false } = options;
  const chosen = EXAMINED.filter(({ target = wanted }) => both || target === wanted);
  return Promise.all(
    chosen.map(async ({ name, examine, target = wanted }) => {
      try {
        return { name, ok: true, ...(await examine(loadKoffi)) };
      } catch (error) {
        if (!(error instanceof Diagnostic)) throw error;
        const { message, details = [], fix } = error.parts;
        if (target !== wanted)
          return { name, ok: true, absent: true, found: `${message}; needed for ${target} alone`, fix };
        return { name, ok: false, found: [message, ...details].join("; "), fix };
      }
    }),
  );
}

/** One line per check, the fix below what is missing. */
export function describeChecks(checks: readonly Check[]): readonly string[] {
  const width = Math.max(...checks.map(({ name }) => name.length));
  return checks.flatMap(({ name, ok, absent, found, fix }) => [
    `${absent === true ? "-      " : ok ? "ok     " : "MISSING"}  ${name.padEnd(width)}  ${found}`,
    ...(fix === undefined ? [] : [`         ${" ".repeat(width)}  ${absent === true ? "to add it" : "fix"}: ${fix}`]),
  ]);
}

async function examineNode(): Promise<{ readonly found: string }> {
  const { node } = process.versions;
  const [major = 0, minor = 0] = node.split(".").map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return { found: node };
  throw new Diagnostic({
    kind: "node",
    message: `${node} is too old`,
    fix: "install Node 20.19 or newer from https://nodejs.org",
  });
}

async function examineCompiler(): Promise<{ readonly found: string }> {
  const { command, name, processor, instructions } = await findToolchain();
  return { found: `${name} (${command.join(" ")}) for ${processor}: ${instructions.name}` };
}

async function examineGpu(loadKoffi: LoadKoffi | undefined): Promise<{ readonly found: string }> {
  const driver = await openDriver(loadKoffi);
  try {
    const { name, memoryBytes } = driver.gpu;
    const free = `${printBytes(driver.freeMemory())} free of ${printBytes(memoryBytes)}`;
    return { found: `${name} (${archOf(driver.gpu)}), ${free}; driver for CUDA ${printVersion(driver.version)}` };
  } finally {
    driver.close();
  }
}

async function examineNvrtc(loadKoffi: LoadKoffi | undefined): Promise<{ readonly found: string }> {
  const { version, from, passedOver } = await openNvrtc(loadKoffi);
  return { found: [`${version} (${from})`, ...passedOver.map((reason) => `not used: ${reason}`)].join("; ") };
}

async function examineThreads(): Promise<{ readonly found: string }> {
  const chosen = process.env["SORACC_THREADS"];
  const there = `${availableParallelism()} available`;
  return { found: chosen === undefined || chosen === "" ? there : `${chosen} by SORACC_THREADS, ${there}` };
}

async function examineMemory(): Promise<{ readonly found: string }> {
  return { found: `${formatBytes(availableMemory())} free of ${formatBytes(totalmem())}` };
}

async function examineCache(): Promise<{ readonly found: string }> {
  let trouble: string | undefined;
  const { path } = await openCacheFolder(undefined, (message) => (trouble = message));
  if (trouble === undefined) return { found: path };
  throw new Diagnostic({ kind: "cache", message: trouble, fix: "set SORACC_CACHE to a folder this user can write to" });
}

async function examineProgram(name: ProgramName): Promise<{ readonly found: string }> {
  const program = findProgram(name);
  if (program === undefined) {
    throw new Diagnostic({
      kind: "ffmpeg",
      message: `not found; video cannot be ${name === "ffmpeg" ? "read or written" : "read"} without`,
      fix: process.platform === "darwin" ? "brew install ffmpeg" : "sudo apt-get install ffmpeg",
    });
  }
  if (name === "ffprobe") return { found: describeProgram(program) };
  const { version, encoder } = await capabilitiesOf(program);
  if (encoder === undefined) {
    throw new Diagnostic({
      kind: "ffmpeg",
      message: `${describeProgram(program)} cannot write .mp4: it has neither libx264 nor mpeg4`,
      fix: "install an ffmpeg with libx264, or write .gif",
    });
  }
  const [, number = version] = /version (\S+)/.exec(version) ?? [];
  return { found: `${describeProgram(program)}, ${number}, writes ${encoder}` };
}
