/**
 * From kernel sources to one shared library. Each distinct kernel is compiled once per machine, as many at a time as
 * there are processors; the objects of a plan are linked into one library, which is cached as well.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Diagnostic } from "../../../contract/diagnostic.ts";
import type { PlanKernel } from "../../../contract/plan.ts";
import type { LoadProgress } from "../device.ts";
import { cached, hashOf, type CacheFolder } from "./cache-folder.ts";
import { runChild, type ChildResult } from "./child.ts";
import type { Toolchain } from "./toolchain.ts";

/** Texts by file name; kernels include `prelude.hpp`. */
export type Prelude = Readonly<Record<string, string>>;

export interface Workshop {
  readonly cache: CacheFolder;
  readonly toolchain: Toolchain;
  readonly prelude: Prelude;
  /** How many compilers run at a time. */
  readonly jobs: number;
}

export interface BuiltLibrary {
  readonly path: string;
  readonly compiled: number;
}

/** The library with all phases of `kernels`. Throws a Diagnostic of kind `compiler` for the first kernel that fails. */
export async function buildKernels(
  workshop: Workshop,
  kernels: readonly PlanKernel[],
  progress: (progress: LoadProgress) => void = () => undefined,
): Promise<BuiltLibrary> {
  const { cache, toolchain } = workshop;
  const preludeText = JSON.stringify(Object.entries(workshop.prelude).sort());
  const keys = kernels.map(({ source }) => hashOf("kernel", toolchain.fingerprint, preludeText, source));
  let ready = 0;
  let compiled = 0;
  const report = (doing: LoadProgress["doing"]): void => progress({ kernels: kernels.length, ready, compiled, doing });

  const library = await cached(cache, hashOf("library", ...[...keys].sort()), "kernels.so", async (folder) => {
    report("compiling kernels");
    const prelude = await writePrelude(workshop);
    const stop = new AbortController();
    const objects: string[] = [];
    let next = 0;
    let failure: unknown;
    const worker = async (): Promise<void> => {
      for (let index = next++; index < kernels.length && !stop.signal.aborted; index = next++) {
        try {
          const object = await cached(cache, keys[index]!, "kernel.o", (draft) =>
            compileKernel(workshop, kernels[index]!, prelude, draft, stop.signal),
          );
          objects[index] = object.path;
          ready++;
          if (object.built) compiled++;
          report("compiling kernels");
        } catch (error) {
          failure ??= error;
          stop.abort();
        }
      }
    };
    await Promise.all(Array.from({ length: Math.max(1, workshop.jobs) }, worker));
    if (failure !== undefined) throw failure as Error;
    report("linking");
    await writeFile(join(folder, "objects.txt"), [...new Set(objects)].map((path) => `"${path}"\n`).join(""));
    await link(workshop, folder, "kernels.so", ["@objects.txt"]);
  });
  ready = kernels.length;
  report("ready");
  return { path: library.path, compiled };
}

const HOST_FLAGS = [
  ...["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-pthread", "-I.", "executor.cpp", "-ldl"],
  // Stays mapped once loaded: its threads outlive every handle to it.
  ...(process.platform === "linux" ? ["-Wl,-z,nodelete"] : []),
];

/** The host library, from its source. */
export async function buildHost(workshop: Workshop, source: string): Promise<string> {
  const { cache, toolchain, prelude } = workshop;
  const launch = prelude["launch.hpp"] ?? "";
  const key = hashOf("host", toolchain.fingerprint, ...HOST_FLAGS, launch, source);
  const library = await cached(cache, key, "host.so", async (folder) => {
    await writeFile(join(folder, "launch.hpp"), launch);
    await writeFile(join(folder, "executor.cpp"), source);
    await link(workshop, folder, "host.so", HOST_FLAGS);
  });
  return library.path;
}

/** The prelude, written once; kernels find it with -I. */
async function writePrelude({ cache, prelude }: Workshop): Promise<string> {
  const files = Object.entries(prelude).sort();
  const entry = await cached(cache, hashOf("prelude", JSON.stringify(files)), "prelude.json", async (folder) => {
    await Promise.all(files.map(([name, text]) => writeFile(join(folder, name), text)));
    await writeFile(join(folder, "prelude.json"), JSON.stringify(files));
  });
  return dirname(entry.path);
}

/** The source stays beside the object: whoever wants to know what runs finds it there. */
async function compileKernel(
  workshop: Workshop,
  kernel: PlanKernel,
  prelude: string,
  folder: string,
  abort: AbortSignal,
): Promise<void> {
  await writeFile(join(folder, "kernel.cpp"), kernel.source);
  const [compiler, ...first] = workshop.toolchain.command;
  const flags = [...workshop.toolchain.kernelFlags, `-I${prelude}`, "-c", "kernel.cpp", "-o", "kernel.o"];
  const result = await runChild(compiler, [...first, ...flags], { cwd: folder, abort });
  if (result.code === 0) return;
  throw explain(result, workshop) ?? (await rejected(workshop, kernel, result));
}

async function link(workshop: Workshop, folder: string, output: string, inputs: readonly string[]): Promise<void> {
  const [compiler, ...first] = workshop.toolchain.command;
  const result = await runChild(compiler, [...first, "-shared", "-o", output, ...inputs], { cwd: folder });
  if (result.code === 0) return;
  throw (
    explain(result, workshop) ??
    new Diagnostic({
      kind: "compiler",
      message: `${workshop.toolchain.name} cannot build ${output}`,
      details: firstErrors(result.stderr),
      fix: "run soracc doctor; when the compiler is whole, please report this",
    })
  );
}

/** What the machine is to blame for. */
function explain(result: ChildResult, { toolchain, cache }: Workshop): Diagnostic | undefined {
  const killed = result.signal ?? /(?:Killed|Terminated) signal|killed by signal|SIGKILL/.exec(result.stderr)?.[0];
  if (killed !== undefined) {
    return new Diagnostic({
      kind: "compiler",
      message: `${toolchain.name} was killed (${killed}); most likely the machine ran out of memory`,
      fix: "free some memory, or compile fewer kernels at a time with SORACC_THREADS=1",
    });
  }
  if (result.failure !== undefined) {
    return new Diagnostic({
      kind: "compiler",
      message: `${toolchain.command[0]} cannot be started any more (${result.failure})`,
    });
  }
  if (/No space left on device|Disk quota exceeded/.test(result.stderr)) {
    return new Diagnostic({
      kind: "cache",
      message: `the compiler cannot write: the disk of ${cache.path} or of the folder for temporary files is full`,
      fix: "make room there, or set SORACC_CACHE and TMPDIR to folders on another disk",
    });
  }
  return undefined;
}

async function rejected({ cache, toolchain }: Workshop, kernel: PlanKernel, result: ChildResult): Promise<Diagnostic> {
  const kept = join(cache.path, "rejected", `${kernel.symbol}.cpp`);
  await mkdir(join(cache.path, "rejected"), { recursive: true }).catch(() => undefined);
  await writeFile(kept, kernel.source).catch(() => undefined);
  return new Diagnostic({
    kind: "compiler",
    message: `${toolchain.name} rejects kernel ${kernel.symbol}`,
    details: [`it computes: ${kernel.formula}`, ...firstErrors(result.stderr), `source: ${kept}`],
    fix: "this is not your mistake; please report it with that source and the compiler's version",
  });
}

function firstErrors(text: string): readonly string[] {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  const errors = lines.filter((line) => /\berror\b|undefined reference|cannot find/i.test(line));
  return (errors.length > 0 ? errors : lines).slice(0, 4);
}
