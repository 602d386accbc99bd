// NVRTC itself: cubins for every architecture, and what its log says of registers, spills and lost speed.
import { describe, expect, test } from "vitest";
import { CompilerBug } from "../../contract/diagnostic.ts";
import { ARCHS } from "../../contract/plan.ts";
import { readLog } from "../../runtime/devices/cuda/nvrtc-log.ts";
import { Rejected } from "../../runtime/devices/cuda/nvrtc.ts";
import { diagnosticOf } from "../device/with-device.ts";
import { describeWithNvrtc, headers, kernelOf, nvrtc } from "./with-nvrtc.ts";

/** Holds 60 values at once, where a block of 1024 threads, twice on a multiprocessor, leaves 32 registers. */
const SPILLING = `
  float v[60];
  #pragma unroll
  for (int i = 0; i < 60; ++i) v[i] = x[i * 7 + threadIdx.x];
  __syncthreads();
  #pragma unroll
  for (int i = 0; i < 60; ++i) {
    float sum = 0;
    #pragma unroll
    for (int j = 0; j < 60; ++j) sum += v[j] * v[(i + j) % 60];
    x[i * 1024 + threadIdx.x] = sum;
  }`;

/** Touches the sums while the tensor cores add to them: ptxas has to wait after each product. */
const SERIAL = `
  float sums[32];
  for (int i = 0; i < 32; ++i) sums[i] = x[i];
  const uint64_t a = reinterpret_cast<uint64_t>(x), b = a + 64;
  wgmma_fence();
  for (int k = 0; k < 4; ++k) {
    wgmma<bf16, 64, 0, 0>(sums, a + k, b + k, true);
    if (x[k] > 3) sums[3] += 1;
  }
  wgmma_commit();
  wgmma_wait<0>();
  for (int i = 0; i < 32; ++i) x[i * 128 + threadIdx.x] = sums[i];`;

describeWithNvrtc("NVRTC", () => {
  test.each(ARCHS)("compiles for %s", async (arch) => {
    nvrtc().checkArch(arch);
    const { source } = kernelOf("plain", "x[threadIdx.x] = 1;");
    const { cubin, entries, warnings } = await nvrtc().compile({ source, headers, arch });
    expect(Buffer.from(cubin.subarray(0, 4)).toString("latin1")).toBe("\u007fELF");
    expect(entries).toHaveLength(1);
    expect(entries[0]).toMatchObject({ symbol: "plain_0", sharedBytes: 0, spillStoreBytes: 0, spillLoadBytes: 0 });
    expect(entries[0]!.registers).toBeGreaterThan(0);
    expect(warnings).toEqual([]);
  });

  test("reports each function of a source, and shared memory that is declared", async () => {
    const one = kernelOf("one", "__shared__ float t[96]; t[threadIdx.x % 96] = x[0]; __syncthreads(); x[1] = t[5];");
    const two = kernelOf("two", "x[threadIdx.x] = 1;");
    const { entries } = await nvrtc().compile({ source: one.source + two.source, headers, arch: "sm_80" });
    const shared = Object.fromEntries(entries.map(({ symbol, sharedBytes }) => [symbol, sharedBytes]));
    expect(shared).toEqual({ one_0: 384, two_0: 0 });
  });

  test("reports registers that do not fit", async () => {
    const { source } = kernelOf("spilling", SPILLING, { bounds: "1024, 2" });
    const { entries } = await nvrtc().compile({ source, headers, arch: "sm_80" });
    const [entry] = entries;
    expect(entry!.registers).toBeLessThanOrEqual(32);
    expect(entry!.spillStoreBytes).toBeGreaterThan(0);
    expect(entry!.spillLoadBytes).toBeGreaterThanOrEqual(entry!.spillStoreBytes);
    expect(entry!.stackBytes).toBeGreaterThan(0);
  });

  test("options come beside ours: fewer registers", async () => {
    const source = kernelOf("spilling", SPILLING).source.replace(/__launch_bounds__\(\d+\) /, ""); // they come first
    const registers = async (options: readonly string[]): Promise<number> =>
      (await nvrtc().compile({ source, headers, arch: "sm_80", options })).entries[0]!.registers;
    expect(await registers([])).toBeGreaterThan(40);
    expect(await registers(["--maxrregcount=40"])).toBeLessThanOrEqual(40);
  });

  test("names products that wait for each other, and a request for registers that is ignored", async () => {
    const serial = kernelOf("serial", SERIAL, { include: "hopper.cuh" });
    const prelude = '#include "prelude.cuh"\n';
    const { warnings } = await nvrtc().compile({ source: prelude + serial.source, headers, arch: "sm_90a" });
    expect(warnings.map(({ about }) => about)).toContain("wgmma serialised");
    const ignored = kernelOf("ignored", "set_more_registers<240>(); x[threadIdx.x] = 1;", { include: "hopper.cuh" });
    const unbounded = ignored.source.replace(/__launch_bounds__\(\d+\) /, "");
    const other = await nvrtc().compile({ source: prelude + unbounded, headers, arch: "sm_90a" });
    expect(other.warnings).toEqual([{ about: "setmaxnreg ignored", text: expect.stringContaining("C7508") as string }]);
  });

  test("refuses a source with errors, with its log", async () => {
    const { source } = kernelOf("wrong", "x[0] = undeclared_name;");
    const error: unknown = await nvrtc()
      .compile({ source, headers, arch: "sm_80" })
      .catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(Rejected);
    expect((error as Rejected).log).toMatch(/^kernel\.cu\(5\): error: identifier "undeclared_name" is undefined\n/);
  });

  test("names what fails, and architectures that it does not know", async () => {
    const { source } = kernelOf("plain", "x[threadIdx.x] = 1;");
    const wrong = await diagnosticOf(() =>
      nvrtc().compile({ source, headers, arch: "sm_80", options: ["--nonsense"] }),
    );
    expect(wrong.parts.message).toBe("NVRTC fails when compiling for sm_80: NVRTC_ERROR_INVALID_OPTION");
    const old = await diagnosticOf(() => nvrtc().checkArch("sm_35" as never));
    expect(old.message).toMatch(/^gpu: NVRTC \d+\.\d+ compiles nothing for sm_35\n {2}it knows sm_.* sm_80 /);
    expect(old.parts.fix).toMatch(/^soracc toolchain install --force/);
  });

  test("a source that ends early for a C string is ours to find", async () => {
    await expect(nvrtc().compile({ source: "a\0b", headers: {}, arch: "sm_80" })).rejects.toThrow(CompilerBug);
  });
});

describe("the log of ptxas", () => {
  const LOG = `kernel.cu(15): warning #177-D: variable "unused" was declared but never referenced

ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to the presence of Extern calls in the function 'first'
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'second' for 'sm_90a'
ptxas info    : Function properties for second
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers, 360 bytes cmem[0]
ptxas info    : Compile time = 1.541 ms
ptxas info    : Compiling entry function 'first' for 'sm_90a'
ptxas info    : Function properties for first
ptxas         .     880 bytes stack frame, 343 bytes spill stores, 1004 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 880 bytes cumulative stack size, 256 bytes smem, 368 bytes cmem[0]
ptxas info    : Compile time = 1049.722 ms
`;

  test("is read function by function", () => {
    const nothing = { stackBytes: 0, spillStoreBytes: 0, spillLoadBytes: 0 };
    const { entries, warnings } = readLog(LOG);
    expect(entries).toEqual([
      { symbol: "second", registers: 8, sharedBytes: 0, ...nothing },
      { symbol: "first", registers: 32, sharedBytes: 256, stackBytes: 880, spillStoreBytes: 343, spillLoadBytes: 1004 },
    ]);
    expect(warnings.map(({ about }) => about)).toEqual(["other", "wgmma serialised"]);
  });

  test("charges every entry with a function that was not inlined", () => {
    const called =
      "ptxas info    : Function properties for _Z5otherf\nptxas         .     160 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads\n";
    const { entries } = readLog(LOG + called);
    expect(entries.map(({ stackBytes, spillStoreBytes }) => [stackBytes, spillStoreBytes])).toEqual([
      [160, 12],
      [880, 343],
    ]);
  });
});
