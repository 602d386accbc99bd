// A training binary for a GPU: what it carries, what it says where there is no GPU, and that it drives one. The driver
// and NVRTC are test/device/fake-cuda.cpp, whose kernels compute nothing.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FAKES } from "../device/with-fake-cuda.ts";
import { repository, start, temporaryFolder, TINY } from "../training/tiny.ts";

const folder = temporaryFolder();
const model = join(repository, "models", "dit.sora.ts");
const binary = join(folder.path, "tiny");

beforeAll(async () => {
  const settings = TINY.flatMap((setting) => ["--set", setting]);
  const words = [model, ...settings, "--target", "cuda", "--arch", "sm_80", "-o", "tiny"];
  const launcher = join(repository, "bin", "soracc.js");
  const { exitCode, stderr } = await start(process.execPath, [launcher, "compile", ...words], folder.path, FAKES);
  if (exitCode !== 0) throw new Error(stderr);
});
afterAll(folder.remove);

describe("a training binary for a GPU", () => {
  test("carries what NVRTC includes, and nothing for the CPU", () => {
    const text = readFileSync(binary, "utf8");
    expect(text).toContain('"machine.cuh":');
    expect(text).toContain('"prelude.cuh":');
    expect(text).not.toContain('"hostSource"');
    expect(text).not.toContain('"launch.hpp":');
  });

  test("says in info what it is for, and looks for a GPU and NVRTC instead of a compiler", async () => {
    const { stdout } = await start(binary, ["info"], folder.path, FAKES);
    expect(stdout).toMatch(/^dit; compiled by soracc \S+ for cuda sm_80, bf16\n/);
    const json = await start(binary, ["info", "--json"], folder.path, { ...FAKES, FAKE_CUDA_CAPABILITY: "90" });
    const info = JSON.parse(json.stdout) as { readonly machine: readonly { readonly name: string }[] };
    expect(info).toMatchObject({ target: "cuda", arch: "sm_80" });
    expect(info.machine.map(({ name }) => name)).toEqual(
      ["node", "GPU", "NVRTC", "threads", "memory", "kernel cache", "ffmpeg", "ffprobe"], // prettier-ignore
    );
    expect(info.machine[1]).toMatchObject({
      ok: true,
      found: "NVIDIA Fake (sm_90a), 1.0 GiB free of 1.0 GiB; driver for CUDA 12.8",
    });
    expect(info.machine[2]).toMatchObject({ ok: true, found: `12.99 (${FAKES.SORACC_NVRTC})` });
  });

  test("says what is missing where there is no driver", async () => {
    const nothing = { ...FAKES, SORACC_CUDA_DRIVER: "/nonexistent/libcuda.so.1" };
    const bench = await start(binary, ["bench", "--steps", "1"], folder.path, nothing);
    expect(bench.exitCode).toBe(1);
    expect(bench.stderr).toMatch(/^gpu: SORACC_CUDA_DRIVER names .*, which cannot be used\n[^]*fix: /);
    const doctor = await start(binary, ["doctor"], folder.path, nothing);
    expect(doctor.exitCode).toBe(1);
    expect(doctor.stdout).toMatch(/MISSING +GPU +SORACC_CUDA_DRIVER names/);
  });

  test("runs its programs on a GPU", async () => {
    const words = ["bench", "--steps", "2", "--warmup", "1", "--profile", "--json"];
    const { stdout, stderr, exitCode } = await start(binary, words, folder.path, { ...FAKES, FAKE_CUDA_IDLE: "1" });
    expect(exitCode, stderr).toBe(0);
    const result = JSON.parse(stdout) as {
      readonly device: string;
      readonly kernels: readonly { milliseconds: number }[];
    };
    expect(result.device).toBe("NVIDIA Fake, 108 multiprocessors, 1.0 GiB; CUDA 12.8, NVRTC 12.99");
    expect(result.kernels.length).toBeGreaterThan(20);
    expect(result.kernels.every(({ milliseconds }) => milliseconds >= 0.25)).toBe(true);
  });

  test("compiles its kernels in processes of its own, from itself alone", async () => {
    const cache = join(folder.path, "cache");
    const words = ["bench", "--steps", "1", "--warmup", "0"];
    // Neither the package nor the launcher is there.
    const elsewhere = { ...FAKES, FAKE_CUDA_IDLE: "1", SORACC_CACHE: cache, SORACC_ROOT: "/nonexistent" };
    const { stderr, exitCode } = await start(binary, words, folder.path, elsewhere);
    expect(exitCode, stderr).toBe(0);
    const crashing = { ...elsewhere, SORACC_CACHE: join(folder.path, "other"), FAKE_NVRTC_CRASH: "1" };
    const failed = await start(binary, words, folder.path, crashing);
    expect(failed.stderr).toMatch(
      /^compiler: NVRTC 12\.99 crashes on kernel \w+ for sm_80 \(SIGSEGV\)\n {2}it computes: /m,
    );
    const [, kept] = /^ {2}source: (.*)$/m.exec(failed.stderr) ?? [];
    expect(existsSync(kept ?? "")).toBe(true);
  });
});
