import { chmodSync, existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { findToolchain } from "../../runtime/devices/cpu/toolchain.ts";
import type { LoadProgress } from "../../runtime/devices/device.ts";
import { affine, kernel, plan, ramp, smallPlan } from "./small-plans.ts";
import { cpu, diagnosticOf, temporaryFolder, withEnvironment } from "./with-device.ts";

const broken = kernel("broken_map", "y = x / 0", "int x = undeclared_name; (void)task;");

/** All files under a folder, by path relative to it. */
const filesOf = (folder: string): readonly string[] =>
  readdirSync(folder, { recursive: true })
    .map(String)
    .filter((name) => statSync(join(folder, name)).isFile());

describe("the compiler", () => {
  test("is found, with what the processor can do", async () => {
    const toolchain = await findToolchain();
    expect(toolchain.name).toMatch(/^(g\+\+|clang\+\+) \d+\.\d+\.\d+$/);
    expect(toolchain.fingerprint).toMatch(/^[0-9a-f]{32}$/);
    expect((await findToolchain()).fingerprint).toBe(toolchain.fingerprint);
    expect((await cpu({ threads: 2 })).description).toMatch(/, 2 threads.*; (g|clang)\+\+/);
  });

  test("may be chosen, with words in front of it", async () => {
    const { command } = await findToolchain({ SORACC_CXX: "env LC_ALL=C g++" });
    expect(command).toEqual(["env", "LC_ALL=C", "g++"]);
  });

  test("is asked for by name when it is missing", async () => {
    const error = await withEnvironment({ SORACC_CXX: "/nonexistent" }, () => diagnosticOf(() => cpu()));
    expect(error.parts.kind).toBe("compiler");
    expect(error.parts.message).toBe('SORACC_CXX names "/nonexistent", which is not installed');
    expect(error.parts.fix).toMatch(/apt-get install g\+\+|xcode-select/);
    const nothing = await withEnvironment({ PATH: "/nonexistent" }, () => diagnosticOf(() => cpu()));
    expect(nothing.parts.message).toBe("running on the CPU needs a C++17 compiler, and there is none");
    expect(nothing.parts.details).toEqual(["g++ is not installed", "clang++ is not installed", "c++ is not installed"]);
  });

  test("that is no compiler is refused", async () => {
    const error = await diagnosticOf(() => findToolchain({ SORACC_CXX: "false" }));
    expect(error.parts.message).toMatch(/^SORACC_CXX names "false", which does not accept our flags/);
  });

  test("rejecting a kernel names it, its formula, the errors and the source", async () => {
    const cacheDir = temporaryFolder();
    const device = await cpu({ cacheDir });
    const error = await diagnosticOf(() => device.load(plan([affine, broken, ramp], {})));
    expect(error.parts.message).toMatch(/^(g|clang)\+\+ [\d.]+ rejects kernel broken_map$/);
    const [formula, first, ...rest] = error.parts.details ?? [];
    expect(formula).toBe("it computes: y = x / 0");
    expect(first).toMatch(/kernel\.cpp:\d+:\d+: error: .*undeclared_name/);
    expect(readFileSync(rest.at(-1)!.replace("source: ", ""), "utf8")).toBe(broken.source);
    expect(filesOf(cacheDir).filter((name) => name.startsWith("draft-"))).toEqual([]);
  });

  test("that is killed is reported as such", async () => {
    const folder = temporaryFolder();
    const victim = join(folder, "compiler");
    // Answers the first question like g++ and builds the host, then dies of a signal when a kernel comes.
    writeFileSync(victim, '#!/bin/sh\ncase "$*" in *kernel.cpp*) kill -9 $$ ;; *) exec g++ "$@" ;; esac\n');
    chmodSync(victim, 0o755);
    const error = await withEnvironment({ SORACC_CXX: victim }, async () => {
      const device = await cpu({ cacheDir: join(folder, "cache") });
      return diagnosticOf(() => device.load(plan([affine], {})));
    });
    expect(error.parts.message).toMatch(/was killed \(SIGKILL\); most likely the machine ran out of memory/);
    expect(error.parts.fix).toContain("SORACC_THREADS=1");
  });
});

describe("the cache of kernels", () => {
  test("compiles each kernel once, and reports progress", async () => {
    const device = await cpu({ cacheDir: temporaryFolder() });
    const seen: LoadProgress[] = [];
    const first = await device.load(smallPlan(), (progress) => seen.push(progress));
    expect(first.facts).toMatchObject({ kernels: 4, compiled: 4 });
    expect(seen.map(({ ready }) => ready)).toEqual([0, 1, 2, 3, 4, 4, 4]);
    expect(seen.at(-1)).toEqual({ kernels: 4, ready: 4, compiled: 4, doing: "ready" });
    expect((await device.load(smallPlan())).facts).toMatchObject({ compiled: 0 });
    // Another plan with one kernel more compiles that one alone.
    const more = kernel("more_map", "nothing", "(void)launch; (void)task;");
    expect((await device.load(plan([...smallPlan().kernels, more], {}))).facts).toMatchObject({ compiled: 1 });
  });

  test.each([
    ["a cut library", "kernels.so", (path: string) => truncateSync(path, 100)],
    ["a library with other content", "kernels.so", (path: string) => writeFileSync(path, readFileSync(path).fill(0))],
    ["a missing marker", "entry.json", (path: string) => writeFileSync(path, "")],
  ])("builds again what is damaged: %s", async (_, name, damage) => {
    const cacheDir = temporaryFolder();
    const device = await cpu({ cacheDir });
    await device.load(plan([affine], {}));
    await device.close(); // a file that is mapped must not be damaged
    for (const file of filesOf(cacheDir)) if (file.endsWith(name)) damage(join(cacheDir, file));
    await (await cpu({ cacheDir })).load(plan([affine], {}));
    expect(filesOf(cacheDir).filter((file) => file.includes("damaged"))).toEqual([]);
  });

  test("keeps the source beside what was made from it", async () => {
    const cacheDir = temporaryFolder();
    await (await cpu({ cacheDir })).load(plan([affine], {}));
    const source = filesOf(cacheDir).find((name) => name.endsWith("kernel.cpp"));
    expect(readFileSync(join(cacheDir, source!), "utf8")).toBe(affine.source);
  });

  test("goes to a folder for temporary files when it cannot be written, and says so", async () => {
    const file = join(temporaryFolder(), "a-file");
    writeFileSync(file, "");
    const notices: string[] = [];
    const temporary = temporaryFolder();
    const device = await withEnvironment({ TMPDIR: temporary }, () =>
      cpu({ cacheDir: join(file, "cache"), notify: (message) => notices.push(message) }),
    );
    await device.load(plan([affine], {}));
    expect(notices).toHaveLength(1);
    expect(notices[0]).toMatch(/^the cache folder .*a-file\/cache cannot be written \(.*\); compiled kernels go to /);
    expect(notices[0]).toContain(temporary);
  });

  test("follows SORACC_CACHE", async () => {
    const folder = join(temporaryFolder(), "chosen");
    await withEnvironment({ SORACC_CACHE: folder }, () => cpu({ cacheDir: undefined }));
    expect(existsSync(folder)).toBe(true);
  });
});
