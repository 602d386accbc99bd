// Kernels to cubins: in processes of their own, once per machine, with messages that name the kernel.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import type { LoadProgress } from "../../runtime/devices/device.ts";
import { buildCubins } from "../../runtime/devices/cuda/cubins.ts";
import { Crashed, startCompileProcess } from "../../runtime/devices/cuda/compile-process.ts";
import { openNvrtc } from "../../runtime/devices/cuda/nvrtc.ts";
import { diagnosticOf } from "../device/with-device.ts";
import { onFakeMachine } from "../device/with-fake-cuda.ts";
import { build, describeWithNvrtc, kernelOf, temporaryFolder } from "./with-nvrtc.ts";

const some = [1, 2, 3].map((value) => kernelOf(`fill_${value}`, `x[threadIdx.x] = ${value};`));

describeWithNvrtc("cubins by NVRTC", () => {
  test("are made once, and come from the cache afterwards", async () => {
    const cache = { path: temporaryFolder() };
    const seen: LoadProgress[] = [];
    const cold = await build("sm_90a", some, { cache, progress: (progress) => seen.push(progress) });
    expect(cold.compiled).toBe(3);
    expect(cold.cubins.map((cubin) => Buffer.from(cubin.subarray(1, 4)).toString("latin1"))).toEqual(
      Array(3).fill("ELF"),
    );
    expect(cold.reports.map(({ entries }) => entries[0]!.symbol)).toEqual(["fill_1_0", "fill_2_0", "fill_3_0"]);
    expect(seen.map(({ ready, doing }) => `${ready} ${doing}`)).toEqual([
      ...["0 compiling kernels", "1 compiling kernels", "2 compiling kernels", "3 compiling kernels", "3 ready"],
    ]);
    const started = performance.now();
    const warm = await build("sm_90a", some, { cache });
    expect(performance.now() - started).toBeLessThan(100); // no process was started
    expect(warm).toEqual({ ...cold, compiled: 0 });
  });

  test("are shared between plans, and not between architectures", async () => {
    const cache = { path: temporaryFolder() };
    await build("sm_80", some.slice(0, 2), { cache });
    expect((await build("sm_80", some, { cache })).compiled).toBe(1);
    expect((await build("sm_90a", some.slice(2), { cache })).compiled).toBe(1);
  });

  test("that are damaged are made again", async () => {
    const cache = { path: temporaryFolder() };
    const [kernel] = some;
    const first = await build("sm_80", [kernel!], { cache });
    for (const path of readdirSync(cache.path, { recursive: true, encoding: "utf8" })) {
      if (/\.(cubin|bin)$/.test(path)) writeFileSync(join(cache.path, path), "cut");
    }
    expect(await build("sm_80", [kernel!], { cache })).toEqual(first);
  });

  test("an error names the kernel, what it computes, its place, the line, and where the source is kept", async () => {
    const cache = { path: temporaryFolder() };
    const wrong = { ...kernelOf("wrong", "x[0] = undeclared_name;"), from: "block.0, models/small.sora.ts:7:3" };
    const { parts } = await diagnosticOf(() => build("sm_90a", [...some, wrong], { cache }));
    const kept = join(cache.path, "rejected", "wrong.cu");
    expect(parts).toMatchObject({
      kind: "compiler",
      message: expect.stringMatching(/^NVRTC \d+\.\d+ rejects kernel wrong for sm_90a$/) as string,
      details: [
        "it computes: x := what the test wants",
        "it comes from: block.0, models/small.sora.ts:7:3",
        'kernel.cu(5): error: identifier "undeclared_name" is undefined',
        "  x[0] = undeclared_name;",
        `source: ${kept}`,
      ],
      fix: "this is not your mistake; please report it with that source and NVRTC's version",
    });
    expect(readFileSync(kept, "utf8")).toBe(wrong.source);
    expect(existsSync(join(cache.path, "rejected", "fill_1.cu"))).toBe(false);
  });
});

describe("the process that compiles", () => {
  const crashing = kernelOf("crashing", "crash_here();");

  test("crashes alone, and the kernel is named", async () => {
    await onFakeMachine({}, async () => {
      const cache = { path: temporaryFolder() };
      const nvrtc = await openNvrtc();
      const request = { cache, nvrtc, headers: {}, arch: "sm_80", kernels: [crashing], jobs: 2 } as const;
      const { parts } = await diagnosticOf(() => buildCubins(request));
      expect(parts.message).toBe("NVRTC 12.99 crashes on kernel crashing for sm_80 (SIGSEGV)");
      expect(parts.details).toContain(`source: ${join(cache.path, "rejected", "crashing.cu")}`);
      expect(parts.fix).toContain("please report this with that source");
    });
  });

  test("is ended when a kernel takes too long", async () => {
    await onFakeMachine({}, async () => {
      const { from } = await openNvrtc();
      const started = await startCompileProcess({ library: from, headers: {}, arch: "sm_80", patience: 200 });
      const { source } = kernelOf("endless", "never_ends();");
      await expect(started.compile(source)).rejects.toMatchObject({ how: "no end after 0.2 s" });
    });
  });

  test("says why it does not start", async () => {
    const folder = mkdtempSync(join(tmpdir(), "soracc-worker-"));
    const script = join(folder, "worker.js");
    writeFileSync(script, 'process.stderr.write("one\\ntwo words\\n"); process.exit(3);\n');
    const started = startCompileProcess({ library: "libnvrtc.so", headers: {}, arch: "sm_80", script });
    await expect(started).rejects.toThrow(Crashed);
    await expect(started).rejects.toMatchObject({ how: "exit code 3", lastWords: ["one", "two words"] });
    await onFakeMachine({}, async () => {
      const request = { cache: { path: temporaryFolder() }, nvrtc: await openNvrtc(), headers: {}, script } as const;
      const { message } = await diagnosticOf(() => buildCubins({ ...request, arch: "sm_80", kernels: some, jobs: 1 }));
      expect(message).toMatch(
        /^compiler: the process that compiles kernels does not start \(exit code 3\)\n {2}one\n {2}two words\n/,
      );
    });
    rmSync(dirname(script), { recursive: true });
  });

  test("tells what is wrong with its NVRTC", async () => {
    const library = "/nonexistent/libnvrtc.so";
    const { parts } = await diagnosticOf(() => startCompileProcess({ library, headers: {}, arch: "sm_80" }));
    expect(parts.message).toBe(`SORACC_NVRTC names "${library}", which cannot be used`);
  });
});
