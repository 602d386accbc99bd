/**
 * NVRTC as typed functions: CUDA sources to cubins, with what ptxas says about them. No GPU is needed. A compilation
 * takes 20 to 800 milliseconds on a thread of koffi's, and a fault of the compiler ends the process: kernels of a plan are
 * compiled in processes of their own (compile-process.ts). Every length is checked here, before native code sees it.
 */
import { CompilerBug, Diagnostic } from "../../../contract/diagnostic.ts";
import type { Arch } from "../../../contract/plan.ts";
import { loadKoffiFromModules, type LoadKoffi } from "../cpu/host.ts";
import { findNvrtc } from "./discover.ts";
import { readLog, type LogReport } from "./nvrtc-log.ts";

export interface Nvrtc {
  readonly version: string;
  /** Where the library was found. */
  readonly from: string;
  /** Libraries that come before it and could not be used, and why. */
  readonly passedOver: readonly string[];
  /** @throws Diagnostic of kind `gpu` when this NVRTC is older than the architecture */
  checkArch(arch: Arch): void;
  /** @throws Rejected for a source with errors; Diagnostic when NVRTC fails in another way */
  compile(request: CompileRequest): Promise<Compiled>;
}

export interface CompileRequest {
  readonly source: string;
  /** Texts of what the source includes, by name. */
  readonly headers: Readonly<Record<string, string>>;
  readonly arch: Arch;
  /** Beside OPTIONS. */
  readonly options?: readonly string[] | undefined;
}

export interface Compiled extends LogReport {
  readonly cubin: Uint8Array;
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

/** The name of a source in messages. */
export const SOURCE_NAME = "kernel.cu";

const OLDEST = 12;

/** nvrtcResult, by number. */
const RESULTS = [
  ...["SUCCESS", "OUT_OF_MEMORY", "PROGRAM_CREATION_FAILURE", "INVALID_INPUT", "INVALID_PROGRAM", "INVALID_OPTION"],
  ...["COMPILATION", "BUILTIN_OPERATION_FAILURE", "NO_NAME_EXPRESSIONS_AFTER_COMPILATION"],
  ...["NO_LOWERED_NAMES_BEFORE_COMPILATION", "NAME_EXPRESSION_NOT_VALID", "INTERNAL_ERROR", "TIME_FILE_WRITE_FAILED"],
  ...[
    "NO_PCH_CREATE_ATTEMPTED",
    "PCH_CREATE_HEAP_EXHAUSTED",
    "PCH_CREATE",
    "CANCELLED",
    "TIME_TRACE_FILE_WRITE_FAILED",
  ],
] as const;
const COMPILATION = 6;
const BUILTIN_OPERATION_FAILURE = 7;

type Native = (...args: unknown[]) => number;
type NativeLater = Native & { async(...args: [...unknown[], (error: Error | null, result: number) => void]): void };

/** @throws Diagnostic of kind `gpu` when the library is not found or too old */
export async function openNvrtc(
  loadKoffi: LoadKoffi = loadKoffiFromModules,
  environment: NodeJS.ProcessEnv = process.env,
): Promise<Nvrtc> {
  const koffi = await loadKoffi();
  const { library, from, passedOver } = findNvrtc(koffi, environment);
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
    const another = "another NVRTC may work: soracc toolchain install --force, or SORACC_NVRTC";
    throw new Diagnostic({
      kind: "gpu",
      message: `NVRTC fails when ${doing}: NVRTC_ERROR_${RESULTS[result] ?? `number ${result}`}`,
      details: [`NVRTC  ${from}`],
      fix: result === BUILTIN_OPERATION_FAILURE ? `put libnvrtc-builtins.so beside it; ${another}` : another,
    });
  };
  const sizeFrom = (doing: string, ask: (out: (number | bigint)[]) => number): number => {
    const out: (number | bigint)[] = [0];
    check(doing, ask(out));
    const size = Number(out[0]);
    if (Number.isSafeInteger(size) && size >= 0 && size < 2 ** 31) return size;
    throw new CompilerBug("NVRTC", `it gives ${size} bytes when ${doing}`);
  };

  const [major, minor] = [[0], [0]];
  check("telling its version", native.version(major, minor));
  const version = `${major[0]}.${minor[0]}`;
  if (major[0]! < OLDEST) {
    throw new Diagnostic({
      kind: "gpu",
      message: `NVRTC ${version} is too old: kernels need version ${OLDEST} or newer`,
      details: [`found in ${from}`],
      fix: "soracc toolchain install --force",
    });
  }

  const logOf = (program: unknown): string => {
    const bytes = sizeFrom("telling the length of its log", (out) => native.logSize(program, out));
    const log = Buffer.alloc(Math.max(1, bytes));
    check("giving its log", native.log(program, log));
    return log.toString("utf8").replace(/\0.*$/s, "");
  };

  return {
    version,
    from,
    passedOver,
    checkArch(arch) {
      const known = supportedBy(bind);
      if (known === undefined || known.includes(numberOf(arch))) return;
      throw new Diagnostic({
        kind: "gpu",
        message: `NVRTC ${version} compiles nothing for ${arch}`,
        details: [`it knows ${known.map((each) => `sm_${each}`).join(" ")}`, `found in ${from}`],
        fix: "soracc toolchain install --force fetches a newer one",
      });
    },
    async compile({ source, headers, arch, options: more = [] }) {
      const texts = Object.values(headers);
      if ([source, ...texts].some((text) => text.includes("\0"))) {
        throw new CompilerBug("code generation", "a source holds a zero character, at which NVRTC would stop");
      }
      const handle: unknown[] = [null];
      const created = native.create(handle, source, SOURCE_NAME, texts.length, texts, Object.keys(headers));
      check("taking the source", created);
      const [program] = handle;
      try {
        const options = [...OPTIONS, ...more, `--gpu-architecture=${arch}`];
        const result = await later(native.compile, program, options.length, options);
        if (result === COMPILATION) throw new Rejected(logOf(program));
        check(`compiling for ${arch}`, result);
        const bytes = sizeFrom("telling the size of the cubin", (out) => native.cubinSize(program, out));
        if (bytes === 0) throw new CompilerBug("NVRTC", `it makes an empty cubin for ${arch}`);
        const cubin = new Uint8Array(bytes);
        check("giving the cubin", native.cubin(program, cubin));
        return { cubin, ...readLog(logOf(program)) };
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

/** `sm_90a`: 90 */
const numberOf = (arch: Arch): number => Number(/\d+/.exec(arch)?.[0]);

/** Architectures without their letters; undefined when this NVRTC cannot tell. */
function supportedBy(bind: (declaration: string) => Native): readonly number[] | undefined {
  let countThem: Native;
  let listThem: Native;
  try {
    countThem = bind("int nvrtcGetNumSupportedArchs(_Out_ int *count)");
    listThem = bind("int nvrtcGetSupportedArchs(void *archs)");
  } catch {
    return undefined;
  }
  const [count] = [[0]];
  if (countThem(count) !== 0 || count[0]! <= 0 || count[0]! > 1024) return undefined;
  const archs = new Int32Array(count[0]!);
  return listThem(archs) === 0 ? [...archs] : undefined;
}
