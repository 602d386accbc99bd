/** Which C++ compiler this machine has, what processor it compiles for, and what to say when there is none. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { arch, cpus, platform } from "node:os";
import { Diagnostic } from "../../../contract/diagnostic.ts";
import { runChild } from "./child.ts";
import { chooseInstructions, type InstructionSet, type Processor } from "./isa.ts";

export interface Toolchain {
  /** The compiler and the arguments that always come first: `["g++"]`, `["ccache", "g++"]`. */
  readonly command: readonly [string, ...string[]];
  /** For people: `g++ 12.2.0`. */
  readonly name: string;
  /** The processor's model, for people. */
  readonly processor: string;
  /** What kernels are compiled for. */
  readonly instructions: InstructionSet;
  readonly kernelFlags: readonly string[];
  /** Hash of everything that decides what a compiled kernel is, apart from its source. */
  readonly fingerprint: string;
}

const CANDIDATES = ["g++", "clang++", "c++"];

/** No -ffast-math: NaN and infinity must behave. Reassociation is asked for where it is wanted, by `omp simd`. */
const KERNEL_FLAGS = [
  "-std=c++17",
  "-O3",
  "-fno-math-errno",
  "-fno-trapping-math",
  "-ffp-contract=fast",
  "-fopenmp-simd",
  "-fPIC",
  "-fvisibility=hidden",
];

/**
 * `SORACC_CXX` overrules the search, `SORACC_ISA` the choice of instructions.
 * @throws Diagnostic of kind `compiler` when no C++17 compiler answers, `instructions` when the processor lacks some
 */
export async function findToolchain(environment: NodeJS.ProcessEnv = process.env): Promise<Toolchain> {
  const machine = processor();
  const instructions = chooseInstructions(machine, environment["SORACC_ISA"]?.trim());
  const chosen = environment["SORACC_CXX"]?.trim();
  if (chosen !== undefined && chosen !== "") {
    const command = existsSync(chosen) ? [chosen] : chosen.split(/\s+/);
    const result = await probe(command, machine, instructions);
    if (typeof result !== "string") return result;
    throw new Diagnostic({
      kind: "compiler",
      message: `SORACC_CXX names "${chosen}", which ${result}`,
      fix: `unset SORACC_CXX or point it at g++ or clang++; ${howToInstall()}`,
    });
  }
  const tried: string[] = [];
  for (const candidate of CANDIDATES) {
    const result = await probe([candidate], machine, instructions);
    if (typeof result !== "string") return result;
    tried.push(`${candidate} ${result}`);
  }
  throw new Diagnostic({
    kind: "compiler",
    message: "running on the CPU needs a C++17 compiler, and there is none",
    details: tried,
    fix: howToInstall(),
  });
}

/** The toolchain, or what is wrong with this one. */
async function probe(
  words: readonly string[],
  machine: Processor,
  instructions: InstructionSet,
): Promise<Toolchain | string> {
  const [program, ...first] = words;
  if (program === undefined) return "is empty";
  const kernelFlags = [...KERNEL_FLAGS, ...instructions.flags];
  // The predefined macros tell the version and exactly which instructions "native" allows.
  const asked = [...first, ...kernelFlags, "-dM", "-E", "-x", "c++", "/dev/null"];
  const result = await runChild(program, asked);
  if (result.failure === "ENOENT") return "is not installed";
  if (result.failure !== undefined) return `cannot be run (${result.failure})`;
  if (result.code !== 0) return `does not accept our flags: ${result.stderr.trim().split("\n")[0] ?? ""}`;
  const macros = new Map(
    result.stdout.split("\n").map((line): [string, string] => {
      const [, name = "", value = ""] = /^#define (\S+) ?(.*)$/.exec(line) ?? [];
      return [name, value];
    }),
  );
  if (Number.parseInt(macros.get("__cplusplus") ?? "0") < 201703) return "does not know C++17";
  const number = (name: string): string => macros.get(name) ?? "0";
  const version = macros.has("__clang__")
    ? `clang++ ${number("__clang_major__")}.${number("__clang_minor__")}.${number("__clang_patchlevel__")}`
    : `g++ ${number("__GNUC__")}.${number("__GNUC_MINOR__")}.${number("__GNUC_PATCHLEVEL__")}`;
  const fingerprint = createHash("sha256")
    .update(JSON.stringify([program, first, kernelFlags, result.stdout, machine.arch, machine.flags]))
    .digest("hex")
    .slice(0, 32);
  return {
    command: [program, ...first],
    name: version,
    processor: machine.model,
    instructions,
    kernelFlags,
    fingerprint,
  };
}

/** Another processor must not meet an illegal instruction: what it can do is part of every cache key. */
function processor(): Processor {
  const model = cpus()[0]?.model.trim() ?? arch();
  try {
    const text = readFileSync("/proc/cpuinfo", "utf8");
    const [, flags = ""] = /^(?:flags|Features)\s*:\s*(.*)$/m.exec(text) ?? [];
    const [, vendor = ""] = /^vendor_id\s*:\s*(.*)$/m.exec(text) ?? [];
    return { arch: arch(), model, vendor, flags: flags.split(/\s+/).sort() };
  } catch {
    return { arch: arch(), model, vendor: "", flags: [model] }; // no /proc: the model stands for its instructions
  }
}

const howToInstall = (): string =>
  platform() === "darwin"
    ? "xcode-select --install"
    : "sudo apt-get install g++ (Debian, Ubuntu) or sudo dnf install gcc-c++ (Fedora, RHEL)";
