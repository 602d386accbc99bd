/** Which instructions kernels use on which processor, and what SORACC_ISA may ask for. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { openCacheFolder } from "../../runtime/devices/cpu/cache-folder.ts";
import { openHost } from "../../runtime/devices/cpu/host.ts";
import { chooseInstructions, ISAS, type Processor } from "../../runtime/devices/cpu/isa.ts";
import { buildHost } from "../../runtime/devices/cpu/kernel-cache.ts";
import { findToolchain } from "../../runtime/devices/cpu/toolchain.ts";
import { hostSource, prelude } from "./small-plans.ts";
import { temporaryFolder } from "./with-device.ts";

const V3 = ["avx2", "bmi2", "f16c", "fma"];
const V4 = [...V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"];
const x86 = (vendor: string, flags: readonly string[]): Processor => ({ arch: "x64", model: "a test", vendor, flags });

const OLD = x86("GenuineIntel", ["sse2"]);
const HASWELL = x86("GenuineIntel", V3);
const SKYLAKE = x86("GenuineIntel", V4);
const COOPER_LAKE = x86("GenuineIntel", [...V4, "avx512_bf16"]);
const ZEN4 = x86("AuthenticAMD", [...V4, "avx512_bf16"]);
const SAPPHIRE_RAPIDS = x86("GenuineIntel", [...V4, "avx512_bf16", "amx_tile", "amx_bf16"]);
const GRAVITON: Processor = { arch: "arm64", model: "a test", vendor: "", flags: ["asimd", "sve"] };

test.each([
  [OLD, "portable (SSE2)"],
  [HASWELL, "avx2"],
  [SKYLAKE, "avx512"],
  [COOPER_LAKE, "avx512"],
  [ZEN4, "avx512, bf16 by VDPBF16PS"],
  [SAPPHIRE_RAPIDS, "avx512, bf16 by AMX tiles"],
  [GRAVITON, "its own vectors"],
])("the best set of a processor is the default", (processor, name) => {
  expect(chooseInstructions(processor, undefined).name).toBe(name);
  expect(chooseInstructions(processor, "").name).toBe(name);
});

test("a processor does all sets below its best", () => {
  expect(ISAS.map((isa) => chooseInstructions(SAPPHIRE_RAPIDS, isa).isa)).toEqual([...ISAS]);
  expect(chooseInstructions(SAPPHIRE_RAPIDS, "avx512").name).toBe("avx512");
  expect(chooseInstructions(SAPPHIRE_RAPIDS, "avx2").flags).toContain("-mno-avx512f");
});

describe("what cannot be had is refused", () => {
  const refusal = (processor: Processor, wanted: string): string => {
    try {
      chooseInstructions(processor, wanted);
    } catch (error) {
      if (error instanceof Diagnostic) return error.message;
      throw error;
    }
    return "nothing";
  };

  test("a set that the processor lacks, with what is missing and what there is", () => {
    expect(refusal(ZEN4, "amx")).toContain("this processor (a test) has no amx_tile, amx_bf16");
    expect(refusal(ZEN4, "amx")).toContain(
      "choose portable or avx2 or avx512, or unset SORACC_ISA: avx512 is then chosen",
    );
    expect(refusal(HASWELL, "avx512")).toContain("has no avx512f");
    expect(refusal(GRAVITON, "avx2")).toContain("has no avx2, fma");
  });

  test("a word that names no set", () => {
    expect(refusal(ZEN4, "sse9")).toContain('SORACC_ISA is "sse9", which is no set of instructions');
  });
});

test("the system is asked for tile registers, and grants them where the processor has some", async () => {
  const toolchain = await findToolchain();
  const cache = await openCacheFolder(temporaryFolder(), () => undefined);
  const host = await openHost(await buildHost({ cache, toolchain, prelude, jobs: 1 }, hostSource));
  const flags = /^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "";
  expect(host.permitTiles()).toBe(flags.split(" ").includes("amx_tile"));
});
