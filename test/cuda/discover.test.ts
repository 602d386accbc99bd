// Where libraries are looked for, and in which order. The loader is a stand-in, no library is loaded.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Koffi } from "../../runtime/devices/cpu/host.ts";
import { findDriver, findNvrtc, toolchainFolder } from "../../runtime/devices/cuda/discover.ts";
import { diagnosticOf } from "../device/with-device.ts";
import { temporaryFolder } from "./with-nvrtc.ts";

interface Loaded {
  readonly path: string;
  readonly global: boolean;
}

/** Loads what `works` accepts, and remembers what it was asked for. */
function loader(works: (path: string) => boolean): { readonly koffi: Koffi; readonly asked: Loaded[] } {
  const asked: Loaded[] = [];
  const load = (path: string, options?: { readonly global?: boolean }): unknown => {
    asked.push({ path, global: options?.global === true });
    if (works(path)) return { func: () => () => 0 };
    throw new Error(`Failed to load shared library: ${path}: file too short`);
  };
  return { koffi: { load, view: () => new ArrayBuffer(0) } as unknown as Koffi, asked };
}

function filled(...files: readonly string[]): string {
  const folder = temporaryFolder();
  for (const file of files) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), "");
  }
  return folder;
}

const TOOLKIT = ["lib64/libnvrtc.so.12.8.93", "lib64/libnvrtc.so.12", "lib64/libnvrtc-builtins.so.12.8", "lib64/libnvrtc.alt.so.12"]; // prettier-ignore
const TOOLCHAIN = ["toolchain/nvrtc/libnvrtc.so.13", "toolchain/nvrtc/libnvrtc-builtins.so.13.0"];

const isPath = (path: string): boolean => path.includes("/");

describe("NVRTC is", () => {
  test("what the variable names, and nothing else", async () => {
    const cache = filled(...TOOLCHAIN);
    const own = filled("libnvrtc.so.12");
    const chosen = join(own, "libnvrtc.so.12");
    const { koffi, asked } = loader(() => true);
    expect(findNvrtc(koffi, { SORACC_CACHE: cache, SORACC_NVRTC: chosen }).from).toBe(chosen);
    expect(asked.map(({ path }) => path)).toEqual([chosen]);
    const { parts } = await diagnosticOf(() =>
      findNvrtc(koffi, { SORACC_CACHE: cache, SORACC_NVRTC: "/nonexistent/libnvrtc.so" }),
    );
    expect(parts).toEqual({
      kind: "gpu",
      message: 'SORACC_NVRTC names "/nonexistent/libnvrtc.so", which cannot be used',
      details: ["/nonexistent/libnvrtc.so: there is no such file"],
      fix: "unset SORACC_NVRTC, or point it at the library",
    });
  });

  test("else in the toolchain's folder, its builtins loaded first", () => {
    const cache = filled(...TOOLCHAIN);
    const home = filled(...TOOLKIT);
    const { koffi, asked } = loader(isPath);
    const { from, passedOver } = findNvrtc(koffi, { SORACC_CACHE: cache, CUDA_HOME: home });
    expect(from).toBe(join(toolchainFolder({ SORACC_CACHE: cache }), "nvrtc", "libnvrtc.so.13"));
    expect(passedOver).toEqual([]);
    expect(asked).toEqual([
      { path: join(cache, "toolchain/nvrtc/libnvrtc-builtins.so.13.0"), global: true },
      { path: from, global: false },
    ]);
  });

  test("else what the system's loader finds, the newest first", () => {
    const { koffi, asked } = loader((path) => path === "libnvrtc.so.12");
    const { from } = findNvrtc(koffi, { SORACC_CACHE: filled(), CUDA_HOME: filled(...TOOLKIT) });
    expect(from).toBe("libnvrtc.so.12");
    expect(asked.map(({ path }) => path)).toEqual(["libnvrtc.so.13", "libnvrtc.so.12"]);
  });

  test.each([
    ["CUDA_HOME", "lib64"],
    ["CUDA_PATH", "lib"],
    ["CUDA_HOME", "targets/sbsa-linux/lib"],
  ])("else below %s, in %s, with the builtins of its own version", (variable, folder) => {
    const names = ["libnvrtc.so.12.8.93", "libnvrtc.so.12", "libnvrtc-builtins.so.12.8", "libnvrtc-builtins.so.13.0"];
    const home = filled(...names.map((name) => join(folder, name)));
    const { koffi, asked } = loader(isPath);
    const { from } = findNvrtc(koffi, { SORACC_CACHE: filled(), [variable]: home });
    expect(from).toBe(join(home, folder, "libnvrtc.so.12.8.93"));
    const paths = asked.map(({ path }) => path).filter(isPath);
    expect(paths).toEqual([join(home, folder, "libnvrtc-builtins.so.12.8"), from]);
  });

  test("found behind one that cannot be loaded, which is remembered", () => {
    const cache = filled(...TOOLCHAIN);
    const { koffi } = loader((path) => path.includes("builtins") || path === "libnvrtc.so.13");
    const { from, passedOver } = findNvrtc(koffi, { SORACC_CACHE: cache });
    expect(from).toBe("libnvrtc.so.13");
    expect(passedOver).toEqual([`${join(cache, "toolchain/nvrtc/libnvrtc.so.13")}: file too short`]);
  });

  test("missed with every place that was looked at, and the command that brings it", async () => {
    const home = filled(...TOOLKIT);
    const { koffi } = loader((path) => path.includes("builtins"));
    const { parts } = await diagnosticOf(() => findNvrtc(koffi, { SORACC_CACHE: filled(), CUDA_HOME: home }));
    expect(parts.message).toBe("NVRTC, the compiler of CUDA kernels, was not found");
    expect(parts.details).toEqual([
      ...["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"].map((name) => `${name}: file too short`),
      `${join(home, "lib64/libnvrtc.so.12.8.93")}: file too short`,
      `${join(home, "lib64/libnvrtc.so.12")}: file too short`,
    ]);
    expect(parts.fix).toBe("soracc toolchain install");
  });
});

describe("the driver is", () => {
  test("never looked for in the toolchain's folder", async () => {
    const cache = filled(...TOOLCHAIN, "toolchain/nvrtc/libcuda.so.1");
    const { koffi, asked } = loader(() => false);
    const { parts } = await diagnosticOf(() => findDriver(koffi, { SORACC_CACHE: cache, CUDA_HOME: filled() }));
    expect(asked.map(({ path }) => path)).toEqual(["libcuda.so.1"]);
    expect(parts.message).toBe("the NVIDIA driver (libcuda.so.1) was not found");
    expect(parts.fix).toContain("docker run --gpus all");
  });
});
