/**
 * What a training binary carries beside the runtime: the plan and all it takes to build and call its kernels on the
 * machine that runs it. `compiler/emit` writes it, `runtime/entry.ts` receives it.
 */
export interface Payload {
  /** The version of soracc that compiled the model. */
  readonly soracc: string;
  /** The text of the plan, compressed. */
  readonly plan: Packed;
  /** Texts of what kernels include, by file name: for the CPU's compiler or for NVRTC, as the plan's target is. */
  readonly prelude: Readonly<Record<string, string>>;
  /** Text of templates/cpu/host/executor.cpp, with a plan for the CPU. */
  readonly hostSource?: string | undefined;
  /** koffi's native addon for the machines this binary runs on. */
  readonly addons: readonly Addon[];
}

/** Bytes as text: gzip, then base64. */
export interface Packed {
  readonly gzip: string;
  /** SHA-256 of the unpacked bytes, in hexadecimal. */
  readonly sha256: string;
}

export interface Addon extends Packed {
  readonly platform: string;
  readonly arch: string;
  readonly libc: "glibc" | "musl" | "system";
}

/** The second line of every training binary begins with this; the file is then ours to replace. */
export const BINARY_MARK = "// soracc training binary";
