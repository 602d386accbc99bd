/**
 * From kernel sources to cubins. Each distinct kernel is compiled once per machine and architecture, several at a time,
 * in processes of their own; what a plan needs is kept as one pack, so that a warm start reads two files.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { CompilerBug, Diagnostic } from "../../../contract/diagnostic.ts";
import type { Arch, PlanKernel } from "../../../contract/plan.ts";
import { cached, hashOf, type CacheFolder } from "../cpu/cache-folder.ts";
import type { LoadProgress } from "../device.ts";
import { Crashed, startCompileProcess, type CompileProcess } from "./compile-process.ts";
import type { LogReport } from "./nvrtc-log.ts";
import { OPTIONS, Rejected, SOURCE_NAME, type Nvrtc } from "./nvrtc.ts";

export interface CubinRequest {
  readonly cache: CacheFolder;
  readonly nvrtc: Pick<Nvrtc, "version" | "from" | "checkArch">;
  /** Texts of what kernels include, by name. */
  readonly headers: Readonly<Record<string, string>>;
  readonly arch: Arch;
  readonly kernels: readonly PlanKernel[];
  /** How many are compiled at a time. */
  readonly jobs: number;
  /** What Node starts to compile: the launcher of soracc or a training binary. Default: the launcher. */
  readonly script?: string | undefined;
  readonly progress?: (progress: LoadProgress) => void;
}

export interface Cubins {
  /** One per kernel, in order. */
  readonly cubins: readonly Uint8Array[];
  readonly reports: readonly LogReport[];
  /** How many were not in the cache. */
  readonly compiled: number;
}

/** A kernel's place in a pack, and what was reported when it was compiled. */
interface Packed extends LogReport {
  readonly offset: number;
  readonly bytes: number;
}

/** A process takes a fifth of a second to start and 200 MB: more of them gain nothing. */
const MOST_PROCESSES = 16;

/** Kernels on their way to cubins, each into the cache, as they become known. */
export interface KernelBuilds {
  /** From the cache, or made as soon as a process is free: those with long sources first. Equal sources are one. */
  build(kernel: PlanKernel): Promise<BuiltKernel>;
  /** Ends the processes; what is still waiting fails. */
  close(): void;
}

export interface BuiltKernel extends LogReport {
  readonly cubin: Uint8Array;
  /** False when it was in the cache. */
  readonly built: boolean;
}

/** What kernels are built with, whichever they are. */
export type BuildRequest = Omit<CubinRequest, "kernels" | "progress">;

interface Waiting {
  readonly kernel: PlanKernel;
  readonly key: string;
  readonly resolve: (entry: BuiltKernel) => void;
  readonly reject: (error: Error) => void;
}

/** `ahead`: whether processes start at once, because most of the kernels will be missing. */
export function openBuilds(request: BuildRequest, ahead = false): KernelBuilds {
  const common = commonKey(request);
  const known = new Map<string, Promise<BuiltKernel>>();
  const waiting: Waiting[] = [];
  const processes = new Set<CompileProcess>();
  const jobs = Math.max(1, Math.min(request.jobs, MOST_PROCESSES));
  let working = 0;
  let failure: Error | undefined;

  const start = async (): Promise<CompileProcess> => {
    const started = await startCompiler(request);
    processes.add(started);
    if (failure !== undefined) started.close();
    return started;
  };
  const idle: Promise<CompileProcess>[] = ahead ? Array.from({ length: jobs }, start) : [];
  for (const starting of idle) starting.catch(() => undefined); // whoever waits for it is told
  const fail = (error: unknown): void => {
    const first = (failure ??= error instanceof Error ? error : new Error(String(error)));
    processes.forEach((each) => each.close());
    for (const { reject } of waiting.splice(0)) reject(first);
  };

  /** Builds until nothing waits. Long sources take longest: they come first, so that no process ends alone with one. */
  const work = async (): Promise<void> => {
    let compiler: Promise<CompileProcess> | undefined;
    for (let next = takeLongest(waiting); next !== undefined; next = takeLongest(waiting)) {
      const { kernel, key, resolve, reject } = next;
      try {
        const entry = await cached(request.cache, key, "kernel.cubin", async (folder) => {
          compiler ??= idle.pop() ?? start();
          await compileKernel(request, await compiler, kernel, folder);
        });
        resolve({ ...(await readEntry(entry.path)), built: entry.built });
      } catch (error) {
        fail(error);
        reject(failure!);
      }
    }
    if (compiler !== undefined) idle.push(compiler);
  };

  return {
    build(kernel) {
      const key = hashOf(common, kernel.source);
      const before = known.get(key);
      if (before !== undefined) return before;
      const entry = new Promise<BuiltKernel>((resolve, reject) => {
        if (failure === undefined) waiting.push({ kernel, key, resolve, reject });
        else reject(failure);
      });
      known.set(key, entry);
      if (working < jobs) {
        working++;
        // Not before everything that comes in one go is there to choose from.
        void Promise.resolve()
          .then(work)
          .finally(() => working--);
      }
      return entry;
    },
    close: () => fail(new Error("the builds were closed")),
  };
}

/** What the keys of all kernels of a request have in common. */
const commonKey = ({ nvrtc, arch, headers }: BuildRequest): string =>
  hashOf("cubin", nvrtc.version, arch, ...OPTIONS, JSON.stringify(Object.entries(headers).sort()));

function takeLongest(waiting: Waiting[]): Waiting | undefined {
  const lengths = waiting.map(({ kernel }) => kernel.source.length);
  const at = lengths.indexOf(Math.max(...lengths));
  return at < 0 ? undefined : waiting.splice(at, 1)[0];
}

/**
 * All cubins of a plan.
 *
 * @param builds those that were begun before; they are closed in the end
 * @throws Diagnostic of kind `compiler` for the first kernel that fails, of kind `gpu` for an NVRTC that does not serve
 */
export async function buildCubins(request: CubinRequest, builds = openBuilds(request)): Promise<Cubins> {
  const { cache, kernels, progress = () => undefined } = request;
  const common = commonKey(request);
  let [compiled, ready] = [0, 0];
  const report = (doing: LoadProgress["doing"]): void => progress({ kernels: kernels.length, ready, compiled, doing });
  const watched = async (kernel: PlanKernel): Promise<BuiltKernel> => {
    const entry = await builds.build(kernel);
    ready++;
    if (entry.built) compiled++;
    report("compiling kernels");
    return entry;
  };
  try {
    const keys = kernels.map(({ source }) => hashOf(common, source));
    const pack = await cached(cache, hashOf("cubins", ...keys), "cubins.bin", async (folder) => {
      report("compiling kernels");
      const made = await Promise.all(kernels.map(watched));
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
  } finally {
    builds.close();
  }
}

async function startCompiler({ nvrtc, headers, arch, script }: BuildRequest): Promise<CompileProcess> {
  nvrtc.checkArch(arch);
  const started = await startCompileProcess({ library: nvrtc.from, headers, arch, script }).catch((error: unknown) => {
    if (!(error instanceof Crashed)) throw error;
    throw new Diagnostic({
      kind: "compiler",
      message: `the process that compiles kernels does not start (${error.how})`,
      details: [...error.lastWords.filter((line) => line !== ""), `NVRTC: ${nvrtc.from}`],
      fix: "run soracc doctor; when nothing is missing and memory is free, please report this",
    });
  });
  if (started.version === nvrtc.version) return started;
  started.close();
  throw new CompilerBug("NVRTC", `version ${nvrtc.version} was opened, and ${started.version} compiles`);
}

/** The source stays beside the cubin: whoever wants to know what runs finds it there. */
async function compileKernel(
  request: BuildRequest,
  compiler: CompileProcess,
  kernel: PlanKernel,
  folder: string,
): Promise<void> {
  await writeFile(join(folder, "kernel.cu"), kernel.source);
  try {
    const { cubin, entries, warnings } = await compiler.compile(kernel.source);
    await writeFile(join(folder, "report.json"), JSON.stringify({ entries, warnings } satisfies LogReport));
    await writeFile(join(folder, "kernel.cubin"), cubin);
  } catch (error) {
    if (error instanceof Rejected) throw await rejected(request, kernel, error.log);
    if (error instanceof Crashed) throw await crashed(request, kernel, error);
    throw error;
  }
}

async function readEntry(path: string): Promise<LogReport & { readonly cubin: Uint8Array }> {
  const [cubin, text] = await Promise.all([readFile(path), readFile(join(path, "..", "report.json"), "utf8")]);
  return { cubin, ...(JSON.parse(text) as LogReport) };
}

async function rejected(request: BuildRequest, kernel: PlanKernel, log: string): Promise<Diagnostic> {
  const { nvrtc, arch } = request;
  const lines = log.split("\n").filter((line) => line.trim() !== "");
  const errors = lines.filter((line) => /\berror\b/.test(line) && !/^\d+ errors? detected/.test(line));
  return new Diagnostic({
    kind: "compiler",
    message: `NVRTC ${nvrtc.version} rejects kernel ${kernel.symbol} for ${arch}`,
    details: [
      ...aboutKernel(kernel),
      ...(errors.length > 0 ? errors : lines).slice(0, 4).flatMap((line) => withSource(line.trim(), kernel.source)),
      `source: ${await keep(request, kernel)}`,
    ],
    fix: "this is not your mistake; please report it with that source and NVRTC's version",
  });
}

async function crashed(request: BuildRequest, kernel: PlanKernel, { how, lastWords }: Crashed): Promise<Diagnostic> {
  const { nvrtc, arch } = request;
  const killed = how === "SIGKILL";
  return new Diagnostic({
    kind: "compiler",
    message: killed
      ? `the process that compiles kernel ${kernel.symbol} was killed; most likely the machine ran out of memory`
      : `NVRTC ${nvrtc.version} crashes on kernel ${kernel.symbol} for ${arch} (${how})`,
    details: [
      ...aboutKernel(kernel),
      ...lastWords.filter((line) => line !== ""),
      `NVRTC: ${nvrtc.from}`,
      `source: ${await keep(request, kernel)}`,
    ],
    fix: killed
      ? "free some memory, or compile fewer kernels at a time with SORACC_THREADS=1"
      : "try another NVRTC (soracc toolchain install --force, or SORACC_NVRTC), and please report this with that source",
  });
}

const aboutKernel = ({ formula, from }: PlanKernel): readonly string[] => [
  `it computes: ${formula}`,
  ...(from === undefined ? [] : [`it comes from: ${from}`]),
];

/** The path where a source that failed can be found afterwards. */
async function keep({ cache }: BuildRequest, kernel: PlanKernel): Promise<string> {
  const kept = join(cache.path, "rejected", `${kernel.symbol}.cu`);
  await mkdir(join(cache.path, "rejected"), { recursive: true }).catch(() => undefined);
  await writeFile(kept, kernel.source).catch(() => undefined);
  return kept;
}

/** `kernel.cu(12): error: …`, and line 12 below it. */
function withSource(message: string, source: string): readonly string[] {
  const [, file, line] = /^([\w.]+)\((\d+)\)/.exec(message) ?? [];
  const text = file === SOURCE_NAME ? source.split("\n")[Number(line) - 1]?.trim() : undefined;
  return text === undefined ? [message] : [message, `  ${text}`];
}
