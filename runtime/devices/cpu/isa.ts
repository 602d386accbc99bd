/**
 * Which instructions the kernels of this machine use: the best set it has, or what SORACC_ISA chooses.
 *
 *   portable  whatever every processor of this family has: 16-byte vectors, no fused multiply-add
 *   avx2      32-byte vectors with fused multiply-add
 *   avx512    64-byte vectors; products of bf16 by VDPBF16PS where the processor is fast at it
 *   amx       avx512, and products of bf16 by tiles of 16 rows of 64 bytes
 *
 * Processors that are not x86 have one set, their own.
 */
import { Diagnostic } from "../../../contract/diagnostic.ts";

export const ISAS = ["portable", "avx2", "avx512", "amx"] as const;
export type Isa = (typeof ISAS)[number];

export interface InstructionSet {
  readonly isa: Isa;
  /** For people: `avx512, bf16 by VDPBF16PS`. */
  readonly name: string;
  /** What the compiler is told. */
  readonly flags: readonly string[];
}

export interface Processor {
  /** As Node names it: `x64`, `arm64`. */
  readonly arch: string;
  readonly model: string;
  /** `GenuineIntel`, `AuthenticAMD`; empty elsewhere. */
  readonly vendor: string;
  /** Names of /proc/cpuinfo. */
  readonly flags: readonly string[];
}

const AVX2 = ["avx2", "fma", "bmi2", "f16c"];
const AVX512 = [...AVX2, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"];
const NEEDS: Readonly<Record<Isa, readonly string[]>> = {
  portable: [],
  avx2: AVX2,
  avx512: AVX512,
  amx: [...AVX512, "amx_tile", "amx_bf16"],
};

/** @throws Diagnostic of kind `instructions`: SORACC_ISA names no set, or one that the processor lacks */
export function chooseInstructions(processor: Processor, wanted: string | undefined): InstructionSet {
  const lacking = (isa: Isa): readonly string[] => NEEDS[isa].filter((flag) => !processor.flags.includes(flag));
  const there = ISAS.filter((isa) => lacking(isa).length === 0);
  if (wanted === undefined || wanted === "") return describe(there.at(-1)!, processor);
  const known = ISAS.find((isa) => isa === wanted);
  if (known === undefined) {
    throw new Diagnostic({
      kind: "instructions",
      message: `SORACC_ISA is "${wanted}", which is no set of instructions`,
      fix: `choose ${there.join(" or ")}, or unset SORACC_ISA: ${there.at(-1)!} is then chosen`,
    });
  }
  if (there.includes(known)) return describe(known, processor);
  throw new Diagnostic({
    kind: "instructions",
    message: `SORACC_ISA asks for ${known}, and this processor (${processor.model}) has no ${lacking(known).join(", ")}`,
    fix: `choose ${there.join(" or ")}, or unset SORACC_ISA: ${there.at(-1)!} is then chosen`,
  });
}

function describe(isa: Isa, processor: Processor): InstructionSet {
  if (processor.arch === "arm64") return { isa, name: "its own vectors", flags: ["-mcpu=native"] };
  if (processor.arch !== "x64") return { isa, name: "its own vectors", flags: ["-march=native"] };
  switch (isa) {
    case "portable":
      return { isa, name: "portable (SSE2)", flags: ["-march=x86-64"] };
    case "avx2":
      return { isa, name: "avx2", flags: ["-march=native", "-mno-avx512f"] };
    case "avx512":
      // Intel's take several cycles for one: there, bf16 is widened and multiplied as floats.
      return processor.vendor === "AuthenticAMD" && processor.flags.includes("avx512_bf16")
        ? { isa, name: "avx512, bf16 by VDPBF16PS", flags: ["-march=native", "-DSORACC_VDPBF16PS"] }
        : { isa, name: "avx512", flags: ["-march=native"] };
    case "amx":
      return { isa, name: "avx512, bf16 by AMX tiles", flags: ["-march=native", "-DSORACC_AMX=1"] };
  }
}
