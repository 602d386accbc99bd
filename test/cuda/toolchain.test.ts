// `soracc toolchain install` as a user types it. There is no network: wheels are made here, and their NVRTC is the
// stand-in of test/device/fake-cuda.cpp. pip is the system's where it is not asked, a script where it is.
import { chmodSync, existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { FAKES } from "../device/with-fake-cuda.ts";
import { repository, start } from "../training/tiny.ts";
import { writeWheel, type FakeWheel } from "./fake-wheel.ts";
import { temporaryFolder } from "./with-nvrtc.ts";

/** The variables of a machine without driver, toolkit and toolchain. */
interface Machine {
  readonly cache: string;
  readonly run: (...words: readonly string[]) => ReturnType<typeof start>;
}

function machine(more: Readonly<Record<string, string>> = {}): Machine {
  const folder = temporaryFolder();
  const cache = join(folder, "cache");
  const nothing = join(folder, "no-toolkit");
  const variables = {
    ...{ SORACC_CACHE: cache, SORACC_NVRTC: "", SORACC_CUDA_DRIVER: join(folder, "no-driver") },
    ...{ CUDA_HOME: nothing, LD_LIBRARY_PATH: "" },
    ...more,
  };
  const launcher = join(repository, "bin", "soracc.js");
  return { cache, run: (...words) => start(process.execPath, [launcher, ...words], folder, variables) };
}

const LIBRARIES = "nvidia/cuda_nvrtc/lib";
const nvrtcWheel = (): FakeWheel => {
  const library = readFileSync(FAKES.SORACC_NVRTC);
  return {
    ...{ distribution: "nvidia_cuda_nvrtc_cu12", version: "12.99.1" },
    files: {
      "nvidia/cuda_nvrtc/__init__.py": "",
      [`${LIBRARIES}/libnvrtc.so.12`]: library,
      [`${LIBRARIES}/libnvrtc.alt.so.12`]: library,
      [`${LIBRARIES}/libnvrtc-builtins.so.12.99`]: library,
    },
  };
};

/** A python3 that answers for pip: `script` is shell, `$last` the package, `$dest` the folder for the wheel. */
function pythonThat(script: string): string {
  const folder = temporaryFolder();
  const path = join(folder, "python3");
  const head = '#!/bin/sh\nfor word in "$@"; do [ "$before" = --dest ] && dest=$word; before=$word; last=$word; done\n';
  writeFileSync(path, `${head}${script}\n`);
  chmodSync(path, 0o755);
  return `${folder}:/usr/bin:/bin`;
}

/** The system's loader may know an NVRTC: then there is nothing to install, and nothing to test. */
const systemHasOne = !(await machine().run("toolchain", "install")).stderr.includes("--yes");

const skipped = systemHasOne ? " (skipped: this machine has a CUDA toolkit)" : "";

describe.skipIf(systemHasOne)(`soracc toolchain install${skipped}`, () => {
  test("takes NVRTC from a folder of wheels, tries it, and is done when asked again", async () => {
    const { cache, run } = machine();
    const wheels = temporaryFolder();
    writeWheel(wheels, nvrtcWheel());
    const folder = join(cache, "toolchain", "nvrtc");

    const before = await run("doctor");
    expect(before.exitCode).toBe(0);
    expect(before.stdout).toMatch(/^- +NVRTC +NVRTC, the compiler .* not found; needed for cuda alone\n +to add it: soracc toolchain install$/m); // prettier-ignore

    const first = await run("toolchain", "install", "--yes", "--wheel-dir", wheels);
    expect(first.stderr).toContain(`into ${join(cache, "toolchain")}; NVIDIA's license comes along and applies`);
    expect(first.stdout).toBe(`NVRTC is installed: nvidia-cuda-nvrtc-cu12 12.99.1 in ${folder}`);
    expect(first.exitCode).toBe(0);
    expect(readdirSync(folder).sort()).toEqual(["License.txt", "installed.json", "libnvrtc-builtins.so.12.99", "libnvrtc.so.12"]); // prettier-ignore
    expect(readdirSync(cache).filter((name) => name.startsWith("draft-"))).toEqual([]);

    const found = `12.99 (${join(folder, "libnvrtc.so.12")})`;
    const second = await run("toolchain", "install");
    expect(second).toMatchObject({ stdout: `NVRTC is there: ${found}`, exitCode: 0 });
    expect((await run("doctor")).stdout).toMatch(new RegExp(`^ok +NVRTC +${found.replace(/[()]/g, "\\$&")}$`, "m"));
  });

  test("asks first, where there is somebody to ask", async () => {
    const { cache, run } = machine();
    const { stdout, stderr, exitCode } = await run("toolchain", "install");
    expect(exitCode).toBe(1);
    expect(stdout).toBe("");
    expect(stderr).toBe(
      [
        "fetched with pip, from NVIDIA's Python packages:",
        "  nvidia-cuda-nvrtc  about 90 MB  NVRTC, which compiles CUDA kernels, for CUDA 13",
        `into ${join(cache, "toolchain")}; NVIDIA's license comes along and applies`,
        "toolchain: this needs your consent, and there is no terminal to ask on",
        "  fix: add --yes",
      ].join("\n"),
    );
    expect(existsSync(cache)).toBe(false);
  });

  test("fetches with pip, for the CUDA of the driver, and NCCL on demand", async () => {
    const ready = temporaryFolder();
    writeWheel(ready, nvrtcWheel());
    writeWheel(ready, {
      ...{ distribution: "nvidia_nccl_cu12", version: "2.99" },
      files: { "nvidia/nccl/lib/libnccl.so.2": "not looked at" },
    });
    const pip = 'case $last in *nvrtc*) kind=nvrtc;; *) kind=nccl;; esac; cp "$READY"/*$kind* "$dest"';
    const { SORACC_CUDA_DRIVER } = FAKES;
    const { cache, run } = machine({ PATH: pythonThat(pip), READY: ready, SORACC_CUDA_DRIVER });
    const { stdout, stderr, exitCode } = await run("toolchain", "install", "--yes", "--with", "nccl");
    expect(exitCode, stderr).toBe(0);
    expect(stderr).toContain("nvidia-cuda-nvrtc-cu12  about 90 MB  NVRTC, which compiles CUDA kernels, for CUDA 12\n");
    expect(stdout.split("\n")).toEqual([
      `NVRTC is installed: nvidia-cuda-nvrtc-cu12 12.99.1 in ${join(cache, "toolchain", "nvrtc")}`,
      `NCCL is installed: nvidia-nccl-cu12 2.99 in ${join(cache, "toolchain", "nccl")}`,
    ]);
  });

  test.each<[string, string, RegExp]>([
    [
      "no pip",
      "echo '/usr/bin/python3: No module named pip' >&2; exit 1",
      /^toolchain: nvidia-cuda-nvrtc was not fetched: python3 is there, and its pip is not\n[^]*fix: sudo apt-get install python3-pip/m,
    ],
    [
      "no network",
      "echo \"WARNING: Retrying: HTTPSConnectionPool(host='index.example', port=443): NewConnectionError: https://index.example/x\" >&2; echo 'ERROR: No matching distribution found' >&2; exit 1",
      /: pip does not reach its package index\n {2}pip: ERROR: No matching distribution found\n {2}fix: check the network [^]*--wheel-dir wheels$/m,
    ],
    ["a full disk", "echo 'OSError: [Errno 28] No space left on device' >&2; exit 1", /: the disk is full\n/],
    ["another trouble", "echo 'something odd at https://index.example/x' >&2; exit 2", /: pip fails\n {2}pip: something odd at \(address\)\n/], // prettier-ignore
  ])("says what stops pip: %s", async (_, script, expected) => {
    const { cache, run } = machine({ PATH: pythonThat(script) });
    const { stderr, exitCode } = await run("toolchain", "install", "--yes");
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(expected);
    expect(stderr).not.toContain("index.example");
    expect(readdirSync(cache)).toEqual([]);
  });

  test("says that Python is missing, and how to go on without it", async () => {
    const { stderr } = await machine({ PATH: temporaryFolder() }).run("toolchain", "install", "--yes");
    expect(stderr).toMatch(/^toolchain: nvidia-cuda-nvrtc is fetched by pip, and python3 is not installed\n/m);
    expect(stderr).toMatch(/fix: .*python3 -m pip download .* -d wheels nvidia-cuda-nvrtc; .*--wheel-dir wheels$/m);
  });

  test.each<[string, (wheels: string) => unknown, RegExp]>([
    ["no folder", () => undefined, /^toolchain: there is no folder \/.*\/wheels$/m],
    ["no wheel", (wheels) => writeWheel(wheels, { ...nvrtcWheel(), distribution: "numpy" }), /^toolchain: there is no wheel of nvidia-cuda-nvrtc in .*\n {2}it holds numpy-12\.99\.1-/m], // prettier-ignore
    [
      "another machine",
      (wheels) => writeWheel(wheels, { ...nvrtcWheel(), platform: "win_amd64" }),
      /^toolchain: the wheels of nvidia-cuda-nvrtc in .* are for other machines; this is linux \w+\n {2}nvidia_cuda_nvrtc_cu12-12\.99\.1-py3-none-win_amd64\.whl$/m,
    ],
    [
      "a file that was changed",
      (wheels) => writeWheel(wheels, { ...nvrtcWheel(), changed: [`${LIBRARIES}/libnvrtc.so.12`] }),
      /^toolchain: .*\.whl is damaged: nvidia\/cuda_nvrtc\/lib\/libnvrtc\.so\.12 does not match its checksum$/m,
    ],
    [
      "a download that was cut",
      (wheels) => truncateSync(writeWheel(wheels, nvrtcWheel()), 5000),
      /^toolchain: .*\.whl is damaged: it is no zip archive, or its end is missing$/m,
    ],
    [
      "a wheel of something else",
      (wheels) => writeWheel(wheels, { ...nvrtcWheel(), files: { "nvidia/README": "" } }),
      /^toolchain: nvidia_cuda_nvrtc_cu12-12\.99\.1-.*\.whl holds no NVRTC$/m,
    ],
    [
      "a library that cannot be loaded",
      (wheels) => writeWheel(wheels, { ...nvrtcWheel(), files: { [`${LIBRARIES}/libnvrtc.so.12`]: "text" } }),
      /^toolchain: the NVRTC that was fetched does not compile, and was not installed\n {2}gpu: SORACC_NVRTC names/m,
    ],
  ])("refuses %s", async (_, prepare, expected) => {
    const { cache, run } = machine();
    const wheels = join(temporaryFolder(), "wheels");
    prepare(wheels);
    const { stderr, exitCode } = await run("toolchain", "install", "--yes", "--wheel-dir", wheels);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(expected);
    expect(readdirSync(cache)).toEqual([]);
  });

  test("replaces what is there only when told to, and keeps it when the new one is no good", async () => {
    const { cache, run } = machine();
    const [good, bad, newer] = [temporaryFolder(), temporaryFolder(), temporaryFolder()];
    writeWheel(good, nvrtcWheel());
    writeWheel(bad, { ...nvrtcWheel(), files: { [`${LIBRARIES}/libnvrtc.so.12`]: "text" } });
    writeWheel(newer, { ...nvrtcWheel(), version: "12.100.0" });
    const installed = (): unknown =>
      JSON.parse(readFileSync(join(cache, "toolchain", "nvrtc", "installed.json"), "utf8"));
    await run("toolchain", "install", "--yes", "--wheel-dir", good);
    expect((await run("toolchain", "install", "--yes", "--force", "--wheel-dir", bad)).exitCode).toBe(1);
    expect(installed()).toMatchObject({ version: "12.99.1" });
    expect((await run("toolchain", "install", "--yes", "--force", "--wheel-dir", newer)).exitCode).toBe(0);
    expect(installed()).toEqual({ package: "nvidia-cuda-nvrtc-cu12", version: "12.100.0", cuda: 12, library: "libnvrtc.so.12" }); // prettier-ignore
  });

  test("says which folder it cannot write", async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "cache"), "a file");
    const wheels = temporaryFolder();
    writeWheel(wheels, nvrtcWheel());
    const { run } = machine({ SORACC_CACHE: join(folder, "cache") });
    const { stderr } = await run("toolchain", "install", "--yes", "--wheel-dir", wheels);
    expect(stderr).toMatch(
      /^toolchain: .*cache\/toolchain cannot be written \(E[A-Z]+\)\n[^]*fix: .* set SORACC_CACHE/m,
    );
  });
});

describe("a wheel's name", () => {
  test("tells for which machine it is", async () => {
    const { fitsMachine, parseWheelName } = await import("../../runtime/toolchain/wheel.ts");
    const [own, other] = process.arch === "arm64" ? ["aarch64", "x86_64"] : ["x86_64", "aarch64"];
    const tags = { [`manylinux2014_${own}`]: true, [`manylinux2014_${other}.manylinux_2_17_${own}`]: true, [`linux_${other}`]: false, win_amd64: false, any: true }; // prettier-ignore
    for (const [tag, fits] of Object.entries(tags)) {
      const name = parseWheelName(`folder/nvidia_nccl_cu13-2.27.7-py3-none-${tag}.whl`)!;
      expect(name).toEqual({ distribution: "nvidia_nccl_cu13", version: "2.27.7", platform: tag });
      expect(fitsMachine(name), tag).toBe(process.platform === "linux" ? fits : tag === "any");
    }
    expect(parseWheelName("notes.txt")).toBeUndefined();
  });
});
