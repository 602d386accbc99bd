// The training binary as a file: how it comes about, and that it runs wherever it lies.
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { compileTiny, repository, soracc, start, temporaryFolder, TINY } from "../training/tiny.ts";

const folder = temporaryFolder();
const model = join(repository, "models", "dit.sora.ts");
const settings = TINY.flatMap((setting) => ["--set", setting]);
let binary = "";

const at = (...parts: readonly string[]): string => join(folder.path, ...parts);

beforeAll(async () => {
  binary = await compileTiny(folder.path);
});
afterAll(folder.remove);

describe("the file", () => {
  test("is executable, small, and says what it is to whoever opens it", () => {
    const { mode, size } = statSync(binary);
    expect(mode & 0o111).not.toBe(0);
    expect(size).toBeLessThan(8e6);
    const [first, second, third] = readFileSync(binary, "utf8").split("\n");
    expect(first).toBe("#!/usr/bin/env node");
    expect(second).toMatch(/^\/\/ soracc training binary, written by soracc \d/);
    expect(third).toContain("dit");
    expect(readdirSync(folder.path)).toEqual(["tiny"]);
  });

  test.each(["module", "commonjs", undefined])("runs beside a package.json of type %s", async (type) => {
    const place = at(`package-${type ?? "none"}`);
    mkdirSync(place);
    writeFileSync(join(place, "package.json"), JSON.stringify(type === undefined ? {} : { type }));
    copyFileSync(binary, join(place, "tiny"));
    const { stdout, exitCode } = await start(join(place, "tiny"), ["info", "--json"]);
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ model: "dit", precision: "f32", text: "built-in hashed n-grams" });
  });

  test("runs through a symbolic link, under the link's name", async () => {
    symlinkSync(binary, at("linked"));
    const { stdout, exitCode } = await start(at("linked"), ["train", "--help"]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain("./linked train --data clips");
  });

  test.each(["module", "commonjs"])("runs in a worker under a package.json of type %s", async (type) => {
    const starter = at(`start-${type}.mjs`);
    const place = at(`worker-${type}`);
    mkdirSync(place);
    writeFileSync(join(place, "package.json"), JSON.stringify({ type }));
    copyFileSync(binary, join(place, "tiny"));
    writeFileSync(
      starter,
      'import { Worker } from "node:worker_threads";\n' +
        `const worker = new Worker(${JSON.stringify(join(place, "tiny"))}, { argv: ["info", "--json"] });\n` +
        'worker.on("exit", (code) => { process.exitCode = code; });\n',
    );
    const { stdout, exitCode } = await start(process.execPath, [starter], folder.path);
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ model: "dit" });
  });

  test("says so when it was damaged on the way", async () => {
    const text = readFileSync(binary, "utf8");
    const place = text.lastIndexOf('"plan": {"gzip":"') + 400;
    writeFileSync(at("damaged"), text.slice(0, place) + (text[place] === "A" ? "B" : "A") + text.slice(place + 1));
    chmodSync(at("damaged"), 0o755);
    const { exitCode, stderr } = await start(at("damaged"), ["info"]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("binary: this training binary is damaged");
  });
});

describe("its commands", () => {
  test.each(["train", "sample", "info", "bench", "doctor"])("%s --help shows examples", async (command) => {
    const { stdout, exitCode } = await start(binary, [command, "--help"]);
    expect(exitCode).toBe(0);
    expect(stdout).toContain(`Examples:\n  ./tiny ${command}`);
    expect(stdout).not.toMatch(/--(?:batch_size|cfg-scale|video_dir|ckpt)/);
  });

  test("without a command it shows the help and fails", async () => {
    const { stderr, exitCode } = await start(binary, []);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("train [options]");
  });

  test("doctor names the compiler and the video tools, and fails where there is no compiler", async () => {
    const whole = await start(binary, ["doctor", "--json"]);
    const { checks } = JSON.parse(whole.stdout) as { checks: { name: string; ok: boolean }[] };
    expect(checks.map(({ name }) => name)).toEqual(
      ["node", "C++ compiler", "threads", "memory", "kernel cache", "ffmpeg", "ffprobe"], // prettier-ignore
    );
    const lacking = await start(binary, ["doctor"], folder.path, { SORACC_CXX: "no-such-compiler" });
    expect(lacking.exitCode).toBe(1);
    expect(lacking.stdout).toMatch(/MISSING +C\+\+ compiler .*no-such-compiler[^]*fix: /);
  });

  test("a reader that stops early is no failure", async () => {
    const { exitCode, stdout, stderr } = await start(
      "/bin/bash",
      ["-c", "set -o pipefail; ./tiny info --kernels | head -n 1"],
      folder.path,
    );
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
    expect(stdout.split("\n")).toHaveLength(1);
  });

  test("info prints the source of a kernel", async () => {
    const list = await start(binary, ["info", "--kernels"]);
    const [first = ""] = list.stdout.split("\n");
    const { stdout } = await start(binary, ["info", "--kernel", first]);
    expect(stdout).toContain("#include");
  });
});

describe("soracc compile", () => {
  const compile = (...words: readonly string[]) => soracc(folder.path, "compile", model, ...settings, ...words);

  test("replaces its own binaries, and nothing else without --force", async () => {
    writeFileSync(at("notes"), "my notes");
    mkdirSync(at("folder"));
    const refused = await compile("-o", "notes");
    expect(refused.exitCode).toBe(1);
    expect(refused.stderr).toContain("exists and is not a training binary that soracc wrote");
    expect(readFileSync(at("notes"), "utf8")).toBe("my notes");
    expect((await compile("-o", "folder", "--force")).exitCode).toBe(1);
    expect((await compile("-o", "notes", "--force")).exitCode).toBe(0);
    expect((await compile("-o", "notes")).exitCode).toBe(0);
  });

  test("reports what it made, for programs too, and leaves a trace", async () => {
    const { stdout, exitCode } = await compile("--json", "--trace", "trace", "-o", "traced");
    expect(exitCode).toBe(0);
    const report = JSON.parse(stdout) as Record<string, unknown>;
    expect(report).toMatchObject({ model: "dit", output: "traced", preset: null });
    expect(report["parameters"]).toBeGreaterThan(30_000);
    expect(report["estimate"]).toMatchObject({ example: "4 clips of 16 frames of 64 x 64 (4096 tokens each)" });
    const files = readdirSync(at("trace", "accumulate"));
    expect(files[0]).toBe("00-traced.graph");
    expect(files.at(-1)).toMatch(/^\d+-steps\.txt$/);
    expect(readdirSync(at("trace", "sources"))).toHaveLength(report["kernels"] as number);
    expect((await compile("--trace", "trace", "-o", "traced")).exitCode).toBe(0);
    writeFileSync(at("folder", "mine.txt"), "mine");
    const refused = await compile("--trace", "folder", "-o", "traced");
    expect(refused.stderr).toContain("is not empty, and what is in it is not a trace");
    expect(existsSync(at("folder", "mine.txt"))).toBe(true);
  });

  test.each<[readonly string[], string]>([
    [["--target", "metal"], "target: this soracc compiles for cpu and cuda, not for metal"],
    [["--arch", "sm_80"], "target: --arch sm_80 chooses a GPU, and the kernels are for the CPU"],
    [["--target", "cuda", "--arch", "sm_70"], "target: there are no kernels for the GPU architecture sm_70"],
    [["--parallel", "data=2 zero=2"], 'parallel: this soracc compiles for one rank, and "data=2 zero=2" needs 2'],
    [["--parallel", "dat=2"], "mesh: "],
    [["--precision", "f8"], "precision: there is no precision f8\n  fix: choose --precision f32, bf16 or f16"],
    [["--preset", "XXL/2"], 'preset: model "dit" has no preset "XXL/2"'],
    [["--set", "hiden=3"], "hiden"],
  ])("refuses %j", async (words, message) => {
    const { exitCode, stderr } = await compile(...words, "-o", "refused");
    expect(exitCode).toBe(1);
    expect(stderr).toContain(message);
    expect(stderr).toContain("fix: ");
    expect(existsSync(at("refused"))).toBe(false);
  });
});
