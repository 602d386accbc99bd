// `soracc verify` as a user calls it: what it prints, and its exit code.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { main } from "../../compiler/cli.ts";
import { openSafetensors, writeSafetensors } from "../../contract/safetensors.ts";

const FILE = "test/fixtures/sampling/h32d16-adaln.safetensors";

let printed = { out: "", err: "" };
beforeEach(() => {
  printed = { out: "", err: "" };
  vi.spyOn(process.stdout, "write").mockImplementation((text) => ((printed.out += String(text)), true));
  vi.spyOn(process.stderr, "write").mockImplementation((text) => ((printed.err += String(text)), true));
});
afterEach(() => {
  vi.restoreAllMocks();
});

describe("soracc verify", () => {
  test("says what agrees, and how nearly", async () => {
    expect(await main(["verify", FILE, "--device", "reference"])).toBe(0);
    expect(printed.err).toBe("");
    const lines = printed.out.split("\n");
    expect(lines.slice(0, 3)).toEqual([
      FILE,
      "  model   models/dit.sora.ts",
      "  device  reference (the float64 interpreter), f32, 0 kernels launched",
    ]);
    expect(lines[3]).toMatch(/^ {2}outputs: 3 of 3 agree; nearest to its tolerance schedule\.\w+, at 0\.0 %$/);
    expect(lines[4]).toMatch(
      /^ {2}sampled videos: 2 of 2 agree; nearest to its tolerance sample\.out\.dd.m, at \d\.\d %$/,
    );
    expect(lines.slice(5)).toEqual(["agrees: all 5 tensors", ""]);
  });

  test("prints one JSON object for programs", async () => {
    expect(await main(["verify", "--json", "--device=reference", FILE])).toBe(0);
    const report = JSON.parse(printed.out) as Record<string, unknown> & { tensors: Record<string, unknown>[] };
    expect(Object.keys(report)).toEqual(["file", "model", "device", "precision", "launched", "ok", "tensors"]);
    const { tensors, ...facts } = report;
    const expected = { file: FILE, model: "models/dit.sora.ts", device: "reference", precision: "f32" };
    expect(facts).toEqual({ ...expected, launched: 0, ok: true });
    const kinds = Object.fromEntries(tensors.map(({ name, kind }) => [name, kind]));
    const schedule = ["schedule.betas", "schedule.posterior_variance", "schedule.timesteps"];
    expect(kinds).toEqual({
      ...Object.fromEntries(schedule.map((name) => [name, "output"])),
      ...{ "sample.out.ddim": "sampled", "sample.out.ddpm": "sampled" },
    });
    for (const tensor of tensors) {
      expect(Object.keys(tensor)).toEqual(["name", "kind", "error", "tolerance", "ok"]);
      expect([typeof tensor["error"], typeof tensor["tolerance"], tensor["ok"]]).toEqual(["number", "number", true]);
    }
  });

  test("exits with 1 when something differs, and says what", async () => {
    const folder = mkdtempSync(join(tmpdir(), "soracc-cli-"));
    try {
      const source = openSafetensors(FILE);
      const path = join(folder, "changed.safetensors");
      const tensors = [...source.tensors].map(([name, { dtype, shape }]) => {
        const data = source.read(name);
        if (name === "sample.out.ddpm" && data instanceof Float32Array) data[7]! += 10;
        return { name, dtype, shape, data };
      });
      writeSafetensors(path, tensors, source.metadata);
      expect(await main(["verify", path, "--device", "reference"])).toBe(1);
      expect(printed.out).toMatch(/\n {2}differs: sample\.out\.ddpm, error 1\.00e\+1, tolerance \d\.\d\de-\d\n/);
      expect(printed.out).toMatch(/\ndiffers: 1 of 5 tensors\n$/);
      printed.out = "";
      expect(await main(["verify", path, "--device", "reference", "--json"])).toBe(1);
      expect(JSON.parse(printed.out)).toMatchObject({ ok: false });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("simulates CUDA for the GPU of the user's choice", async () => {
    const words = ["verify", FILE, "--device", "sim", "--arch", "sm_80", "--schedule-seed", "7"];
    expect(await main(words)).toBe(0);
    expect(printed.err).toBe("");
    const [, , device] = printed.out.split("\n");
    expect(device).toMatch(
      /^ {2}device {2}sim \(generated CUDA for sm_80, simulated, schedule 7\), f32, \d+ kernels launched$/,
    );
    expect(printed.out).toMatch(/\nagrees: all 5 tensors\n$/);
  });

  test("refuses options that mean nothing to the device", async () => {
    expect(await main(["verify", FILE, "--arch", "sm_80"])).toBe(1);
    expect(printed.err).toBe(
      'option: --arch means nothing to device "cpu"\n  fix: leave it out, or choose --device cuda or sim\n',
    );
    printed.err = "";
    expect(await main(["verify", FILE, "--device", "cuda", "--schedule-seed", "3"])).toBe(1);
    expect(printed.err).toMatch(/^option: --schedule-seed means nothing to device "cuda"\n/);
    printed.err = "";
    expect(await main(["verify", FILE, "--device", "sim", "--arch", "sm_70"])).toBe(1);
    expect(printed.err).toContain("Allowed choices are sm_80, sm_90a, sm_100");
    printed.err = "";
    expect(await main(["verify", FILE, "--device", "sim", "--schedule-seed", "-1"])).toBe(1);
    expect(printed.err).toContain("A whole number below 2^32 is expected.");
  });

  test("says what a GPU needs where there is none", async () => {
    vi.stubEnv("SORACC_CUDA_DRIVER", "/nonexistent/libcuda.so.1");
    try {
      expect(await main(["verify", FILE, "--device", "cuda"])).toBe(1);
    } finally {
      vi.unstubAllEnvs();
    }
    expect(printed.err).toMatch(
      /^gpu: SORACC_CUDA_DRIVER names "\/nonexistent\/libcuda\.so\.1", which cannot be used\n/,
    );
  });

  test("tells a mistake on standard error, without a stack", async () => {
    expect(await main(["verify", "missing.safetensors"])).toBe(1);
    expect(printed).toEqual({
      out: "",
      err: "missing.safetensors  safetensors: there is no such file\n  fix: check the path and the file\n",
    });
    printed.err = "";
    expect(await main(["verify", FILE, "--device", "abacus"])).toBe(1);
    expect(printed.err).toContain("argument 'abacus' is invalid");
    printed.err = "";
    expect(await main(["verfy", FILE])).toBe(1);
    expect(printed.err).toContain("(Did you mean verify?)");
  });

  test("explains itself", async () => {
    expect(await main(["verify", "--help"])).toBe(0);
    expect(printed.out).toContain("soracc verify recorded.safetensors");
    printed.out = "";
    expect(await main(["--help"])).toBe(0);
    expect(printed.out).toMatch(/\n {2}verify .*compare a model/);
    printed.out = "";
    expect(await main(["--version"])).toBe(0);
    expect(printed.out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  test("a model of the user's choice takes the place of the recorded one", async () => {
    expect(await main(["verify", FILE, "--device", "reference", "--model", "models/none.sora.ts"])).toBe(1);
    expect(printed.err).toMatch(/^recording: model file "models\/none\.sora\.ts" is nowhere to be found\n/);
  });
});
