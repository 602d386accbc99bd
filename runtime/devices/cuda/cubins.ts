/**
 * From kernel sources to cubins. Each distinct kernel is compiled once per machine and architecture, several at a time;
 * what a plan needs is kept as one pack, so that a warm start reads two files.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Diagnostic } from "../../../contract/diagnostic.ts";
import type { Arch, PlanKernel } from "../../../contract/plan.ts";
import { cached, hashOf, type CacheFolder } from "../cpu/cache-folder.ts";
import type { LoadProgress } from "../device.ts";
import { OPTIONS, Rejected, type EntryReport, type Nvrtc } from "./nvrtc.ts";

export interface CubinRequest {
  readonly cache: CacheFolder;
  readonly nvrtc: Nvrtc;
  /** Texts of what kernels include, by name. */
  readonly headers: Readonly<Record<string, string>>;
  readonly arch: Arch;
  readonly kernels: readonly PlanKernel[];
  /** How many are compiled at a time. */
  readonly jobs: number;
  readonly progress?: (progress: LoadProgress) => void;
  /** Where in the model a kernel comes from: its operator's path, and the line. For messages. */
  readonly originOf?: (kernel: PlanKernel) => string | undefined;
}

export interface KernelReport {
  readonly entries: readonly EntryReport[];
  readonly warnings: readonly string[];
}

export interface Cubins {
  /** One per kernel, in order. */
  readonly cubins: readonly Uint8Array[];
  readonly reports: readonly KernelReport[];
  /** How many were not in the cache. */
  readonly compiled: number;
}

/** A kernel's place in a pack, and what was reported when it was compiled. */
interface Packed extends KernelReport {
  readonly offset: number;
  readonly bytes: number;
}

/** @throws Diagnostic of kind `compiler` for the first kernel that fails */
export async function buildCubins(request: CubinRequest): Promise<Cubins> {
  const { cache, nvrtc, headers, arch, kernels, progress = () => undefined } = request;
  const common = hashOf("cubin", nvrtc.version, arch, ...OPTIONS, JSON.stringify(Object.entries(headers).sort()));
  const keys = kernels.map(({ source }) => hashOf(common, source));
  let ready = 0;
  let compiled = 0;
  const report = (doing: LoadProgress["doing"]): void => progress({ kernels: kernels.length, ready, compiled, doing });

  const pack = await cached(cache, hashOf("cubins", ...keys), "cubins.bin", async (folder) => {
    report("compiling kernels");
    const made: (KernelReport & { readonly cubin: Uint8Array })[] = [];
    let next = 0;
    let failure: unknown;
    const worker = async (): Promise<void> => {
      for (let index = next++; index < kernels.length && failure === undefined; index = next++) {
        try {
          const entry = await cached(cache, keys[index]!, "kernel.cubin", (draft) =>
            compileKernel(request, kernels[index]!, draft),
          );
          made[index] = await readEntry(entry.path);
          ready++;
          if (entry.built) compiled++;
          report("compiling kernels");
        } catch (error) {
          failure ??= error;
        }
      }
    };
    await Promise.all(Array.from({ length: Math.max(1, request.jobs) }, worker));
    if (failure !== undefined) throw failure as Error;
    let offset = 0;
    const index = made.map(({ cubin, entries, warnings }): Packed => {
      offset += cubin.length;
      return { offset: offset - cubin.length, bytes: cubin.length, entries, warnings };
    });
    await writeFile(join(folder, "cubins.json"), JSON.stringify(index));
    await writeFile(join(folder, "cubins.bin"), Buffer.concat(made.map(({ cubin }) => cubin)));
  });
  const [bytes, text] = await Promise.all([
    readFile(pack.path),
    readFile(pack.path.replace(/\.bin$/, ".json"), "utf8"),
  ]);
  const index = JSON.parse(text) as readonly Packed[];
  ready = kernels.length;
  report("ready");
  return {
    cubins: index.map(({ offset, bytes: length }) => bytes.subarray(offset, offset + length)),
    reports: index.map(({ entries, warnings }) => ({ entries, warnings })),
    compiled,
  };
}

/** The source stays beside the cubin: whoever wants to know what runs finds it there. */
async function compileKernel(request: CubinRequest, kernel: PlanKernel, folder: string): Promise<void> {
  const { nvrtc, headers, arch } = request;
  await writeFile(join(folder, "kernel.cu"), kernel.source);
  try {
    const { cubin, entries, warnings } = await nvrtc.compile({ source: kernel.source, headers, arch });
    await writeFile(join(folder, "report.json"), JSON.stringify({ entries, warnings } satisfies KernelReport));
    await writeFile(join(folder, "kernel.cubin"), cubin);
  } catch (error) {
    if (!(error instanceof Rejected)) throw error;
    throw await rejected(request, kernel, error.log);
  }
}

async function readEntry(path: string): Promise<KernelReport & { readonly cubin: Uint8Array }> {
  const [cubin, text] = await Promise.all([readFile(path), readFile(join(path, "..", "report.json"), "utf8")]);
  return { cubin, ...(JSON.parse(text) as KernelReport) };
}

async function rejected(request: CubinRequest, kernel: PlanKernel, log: string): Promise<Diagnostic> {
  const { cache, nvrtc, arch, originOf } = request;
  const kept = join(cache.path, "rejected", `${kernel.symbol}.cu`);
  await mkdir(join(cache.path, "rejected"), { recursive: true }).catch(() => undefined);
  await writeFile(kept, kernel.source).catch(() => undefined);
  const origin = originOf?.(kernel);
  const errors = log.split("\n").filter((line) => /\berror\b/.test(line));
  return new Diagnostic({
    kind: "compiler",
    message: `NVRTC ${nvrtc.version} rejects kernel ${kernel.symbol} for ${arch}`,
    details: [
      `it computes: ${kernel.formula}`,
      ...(origin === undefined ? [] : [`it comes from: ${origin}`]),
      ...(errors.length > 0 ? errors : log.split("\n"))
        .slice(0, 4)
        .map((line) => withSource(line.trim(), kernel.source)),
      `source: ${kept}`,
    ],
    fix: "this is not your mistake; please report it with that source and NVRTC's version",
  });
}

/** `kernel.cu(12): error: …` with line 12 behind it. */
function withSource(message: string, source: string): string {
  const line = /^kernel\.cu\((\d+)\)/.exec(message)?.[1];
  const text = line === undefined ? undefined : source.split("\n")[Number(line) - 1]?.trim();
  return text === undefined ? message : `${message}  |  ${text}`;
}
