/**
 * NVRTC as typed functions: CUDA sources to cubins, with what ptxas says about them. No GPU is needed. Compilations run
 * on threads of koffi's own, several at a time; every length is checked here, before native code sees it.
 */
import { Diagnostic } from "../../../contract/diagnostic.ts";
import type { Arch } from "../../../contract/plan.ts";
import { loadKoffiFromModules, type LoadKoffi } from "../cpu/host.ts";
import { findNvrtc } from "./discover.ts";

export interface Nvrtc {
  readonly version: string;
  /** Where the library was found. */
  readonly from: string;
  compile(request: CompileRequest): Promise<Compiled>;
}

export interface CompileRequest {
  readonly source: string;
  /** Texts of what the source includes, by name. */
  readonly headers: Readonly<Record<string, string>>;
  readonly arch: Arch;
}

export interface Compiled {
  readonly cubin: Uint8Array;
  readonly entries: readonly EntryReport[];
  /** Complaints of the compiler that did not stop it. */
  readonly warnings: readonly string[];
}

/** What ptxas reports of one __global__ function. */
export interface EntryReport {
  readonly symbol: string;
  /** Registers of a thread. */
  readonly registers: number;
  /** Bytes of local memory of a thread, and those that hold spilled registers. */
  readonly stackBytes: number;
  readonly spillBytes: number;
}

/** A source that NVRTC refuses: its log. */
export class Rejected extends Error {
  readonly log: string;
  constructor(log: string) {
    super("NVRTC rejects the source");
    this.log = log;
  }
}

/** What every kernel is compiled with. -v makes ptxas report. */
export const OPTIONS: readonly string[] = ["-std=c++17", "--ptxas-options=-v", "--restrict"];

const RESULTS = [
  ...["SUCCESS", "OUT_OF_MEMORY", "PROGRAM_CREATION_FAILURE", "INVALID_INPUT", "INVALID_PROGRAM", "INVALID_OPTION"],
  ...["COMPILATION", "BUILTIN_OPERATION_FAILURE", "NO_NAME_EXPRESSIONS_AFTER_COMPILATION"],
  ...["NO_LOWERED_NAMES_BEFORE_COMPILATION", "NAME_EXPRESSION_NOT_VALID", "INTERNAL_ERROR", "TIME_FILE_WRITE_FAILED"],
] as const;
const COMPILATION_FAILED = 6;

type Native = (...args: unknown[]) => number;
type NativeLater = Native & { async(...args: [...unknown[], (error: Error | null, result: number) => void]): void };

/** @throws Diagnostic of kind `gpu` when the library is not found or too old */
export async function openNvrtc(
  loadKoffi: LoadKoffi = loadKoffiFromModules,
  environment: NodeJS.ProcessEnv = process.env,
): Promise<Nvrtc> {
  const koffi = await loadKoffi();
  const { library, from } = findNvrtc(koffi, environment);
  const bind = (declaration: string): NativeLater => library.func(declaration) as NativeLater;
  const native = {
    version: bind("int nvrtcVersion(_Out_ int *major, _Out_ int *minor)"),
    create: bind(
      "int nvrtcCreateProgram(_Out_ void **program, str source, str name, int headers, const str *texts, const str *names)",
    ),
    compile: bind("int nvrtcCompileProgram(void *program, int count, const str *options)"),
    logSize: bind("int nvrtcGetProgramLogSize(void *program, _Out_ size_t *bytes)"),
    log: bind("int nvrtcGetProgramLog(void *program, void *log)"),
    cubinSize: bind("int nvrtcGetCUBINSize(void *program, _Out_ size_t *bytes)"),
    cubin: bind("int nvrtcGetCUBIN(void *program, void *cubin)"),
    destroy: bind("int nvrtcDestroyProgram(_Inout_ void **program)"),
  };
  const check = (doing: string, result: number): void => {
    if (result === 0) return;
    throw new Diagnostic({
      kind: "gpu",
      message: `NVRTC fails when ${doing}: NVRTC_ERROR_${RESULTS[result] ?? `number ${result}`}`,
      fix: `another NVRTC may work: soracc toolchain install, or SORACC_NVRTC (this one is ${from})`,
    });
  };
  const [major, minor] = [[0], [0]];
  check("telling its version", native.version(major, minor));
  if (major[0]! < 12) {
    throw new Diagnostic({
      kind: "gpu",
      message: `NVRTC ${major[0]}.${minor[0]} is too old: kernels need version 12 or newer`,
      details: [`found in ${from}`],
      fix: "soracc toolchain install",
    });
  }

  const textOf = (program: unknown): string => {
    const size = [0];
    check("telling the length of its log", native.logSize(program, size));
    const bytes = Buffer.alloc(Math.max(1, Number(size[0])));
    check("giving its log", native.log(program, bytes));
    return bytes.toString("utf8", 0, Math.max(0, bytes.length - 1));
  };

  return {
    version: `${major[0]}.${minor[0]}`,
    from,
    async compile({ source, headers, arch }) {
      const names = Object.keys(headers);
      const handle: unknown[] = [null];
      const created = native.create(handle, source, "kernel.cu", names.length, Object.values(headers), names);
      check("taking the source", created);
      const [program] = handle;
      try {
        const options = [...OPTIONS, `--gpu-architecture=${arch}`];
        const result = await later(native.compile, program, options.length, options);
        if (result === COMPILATION_FAILED) throw new Rejected(textOf(program));
        check("compiling", result);
        const log = textOf(program);
        const size = [0];
        check("telling the size of the cubin", native.cubinSize(program, size));
        const cubin = Buffer.alloc(Number(size[0]));
        check("giving the cubin", native.cubin(program, cubin));
        return { cubin, ...readLog(log) };
      } finally {
        native.destroy([program]);
      }
    },
  };
}

const later = (call: NativeLater, ...args: unknown[]): Promise<number> =>
  new Promise((resolve, reject) => {
    call.async(...args, (error, result) => (error === null ? resolve(result) : reject(error)));
  });

/** What ptxas says about each entry, and the compiler's complaints. */
export function readLog(log: string): Pick<Compiled, "entries" | "warnings"> {
  const entries: EntryReport[] = [];
  const warnings: string[] = [];
  let symbol: string | undefined;
  let memory = { stackBytes: 0, spillBytes: 0 };
  for (const line of log.split("\n")) {
    const entry = /Compiling entry function '([^']+)'/.exec(line);
    if (entry !== null) {
      symbol = entry[1];
      memory = { stackBytes: 0, spillBytes: 0 };
    }
    const frame = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    if (frame !== null) {
      // Functions that were not inlined are reported by themselves: what an entry needs is the most of them.
      const [, stack, stores, loads] = frame.map(Number) as [number, number, number, number];
      memory = {
        stackBytes: Math.max(memory.stackBytes, stack),
        spillBytes: Math.max(memory.spillBytes, stores, loads),
      };
    }
    const used = /Used (\d+) registers/.exec(line);
    if (used !== null && symbol !== undefined) {
      entries.push({ symbol, registers: Number(used[1]), ...memory });
      symbol = undefined;
    }
    if (/\bwarning\b|\(C75\d\d\)/.test(line)) warnings.push(line.trim());
  }
  return { entries, warnings };
}
