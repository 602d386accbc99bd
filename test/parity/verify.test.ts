// Every recorded file on the float64 interpreter, and what makes a recording fail.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { verify, type VerifyReport } from "../../compiler/commands/verify.ts";
import { compare } from "../../compiler/commands/verify/agreement.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { openSafetensors, writeSafetensors, type TensorToWrite } from "../../contract/safetensors.ts";

const REFERENCE = { device: "reference", precision: "f32" } as const;
const folder = mkdtempSync(join(tmpdir(), "soracc-verify-"));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const filesOf = (kind: string): string[] =>
  readdirSync(`test/fixtures/${kind}`).map((name) => `test/fixtures/${kind}/${name}`);

describe("recordings of the published model", () => {
  test("are nine of programs and three of samplers", () => {
    expect([filesOf("dit").length, filesOf("sampling").length]).toEqual([9, 3]);
  });

  test.each([...filesOf("dit"), ...filesOf("sampling")])("%s", async (file) => {
    const report = await verify(file, REFERENCE);
    expect(report.tensors.filter((each) => !each.ok)).toEqual([]);
    expect(report).toMatchObject({ ok: true, launched: 0, model: "models/dit.sora.ts" });
    const names = report.tensors.map(({ name }) => name);
    const recorded = [...openSafetensors(file).tensors.keys()].filter((name) =>
      /\.(out|grad)\.|train\.param|^schedule/.test(name),
    );
    expect(names.sort()).toEqual(recorded.sort());
    // Not by luck: float64 is an order of magnitude nearer than float32 has to be.
    for (const { name, error, tolerance } of report.tensors) expect(error, name).toBeLessThan(0.3 * tolerance);
  });
});

const DIT = "test/fixtures/dit/h72d72-token-concat.safetensors";

let copies = 0;

/** A copy of a recording with some tensors changed (or removed, or added) and other metadata. */
function altered(
  file: string,
  change: (name: string, data: Float64Array) => Float64Array | undefined,
  metadata: Readonly<Record<string, string | undefined>> = {},
  added: readonly TensorToWrite[] = [],
): string {
  const source = openSafetensors(file);
  const tensors = [...source.tensors].flatMap(([name, { dtype, shape }]): TensorToWrite[] => {
    const data = change(name, source.readFloat64(name));
    if (data === undefined) return [];
    return [{ name, dtype, shape, data: dtype === "I32" ? Int32Array.from(data) : Float32Array.from(data) }];
  });
  const path = join(folder, `altered-${++copies}.safetensors`);
  const merged = Object.entries({ ...Object.fromEntries(source.metadata), ...metadata });
  const kept = merged.filter((entry): entry is [string, string] => entry[1] !== undefined);
  writeSafetensors(path, [...tensors, ...added], new Map(kept));
  source.close();
  return path;
}

const onlyDenoise = (name: string, data: Float64Array): Float64Array | undefined =>
  name.startsWith("param.") || name.startsWith("denoise.") ? data : undefined;

const changing =
  (which: string, change: (value: number, i: number) => number) =>
  (name: string, data: Float64Array): Float64Array | undefined =>
    onlyDenoise(name, name === which ? data.map(change) : data);

describe("what a recording can get wrong", () => {
  const failing = async (file: string): Promise<VerifyReport> => {
    const report = await verify(file, REFERENCE);
    expect(report.ok).toBe(false);
    return report;
  };

  test("one element that differs by more than the tolerance", async () => {
    const size = Math.max(...openSafetensors(DIT).readFloat64("denoise.out.prediction").map(Math.abs));
    const by = (share: number) =>
      altered(
        DIT,
        changing("denoise.out.prediction", (value, i) => (i === 3 ? value + share * size : value)),
      );
    expect((await verify(by(8e-6), REFERENCE)).ok).toBe(true);
    const { tensors } = await failing(by(1.2e-5));
    expect(tensors).toEqual([
      {
        name: "denoise.out.prediction",
        kind: "output",
        ok: false,
        error: expect.any(Number),
        tolerance: expect.closeTo(1e-5 * size, 7),
      },
    ]);
  });

  test("a parameter that is not the recorded one", async () => {
    await failing(
      altered(
        DIT,
        changing("param.blocks.0.attn.to_q.bias", (value) => value + 0.01),
      ),
    );
  });

  test("a NaN in what was computed or recorded", async () => {
    await failing(
      altered(
        DIT,
        changing("denoise.out.prediction", (value, i) => (i === 0 ? NaN : value)),
      ),
    );
    await failing(
      altered(
        DIT,
        changing("param.final_layer.linear.bias", () => NaN),
      ),
    );
  });

  test("entries of padding are not compared", async () => {
    const valid = openSafetensors(DIT).readFloat64("denoise.valid.prediction");
    const change = changing("denoise.out.prediction", (value, i) => (valid[Math.floor(i / 32)] === 0 ? 1e9 : value));
    expect(valid.includes(0)).toBe(true);
    expect((await verify(altered(DIT, change), REFERENCE)).ok).toBe(true);
  });

  const messageOf = async (file: string): Promise<string> => {
    try {
      await verify(file, REFERENCE);
    } catch (error) {
      if (error instanceof Diagnostic) return error.message.replaceAll(file, "FILE");
      throw error;
    }
    throw new Error("nothing was refused");
  };

  test("plain tables", async () => {
    expect(await messageOf("test/fixtures/patches/patchify.safetensors")).toBe(`\
FILE  recording: the file has no \`model\` in its metadata: these are plain tables, not a recorded model
  it holds even.patches, even.video, odd.patches, odd.video
  fix: record the model file's name under \`model\` and its configuration under \`config\``);
    expect(await messageOf("test/fixtures/diffusion/linear-1000.safetensors")).toContain("plain tables");
  });

  test("parameters that are missing, foreign or misshapen, all at once", async () => {
    const file = altered(
      DIT,
      (name, data) => (name === "param.t_embedder.mlp.0.bias" ? undefined : onlyDenoise(name, data)),
      {},
      [{ name: "param.pos_embed", dtype: "F32", shape: [2, 1], data: new Float32Array(2) }],
    );
    expect(await messageOf(file)).toBe(`\
FILE  recording: 2 of the recorded parameters are not those of model "dit"
  missing  t_embedder.mlp.0.bias [72]
  foreign  pos_embed [2, 1]
  fix: check \`config\` in the metadata: the names and sizes follow from it`);
    const config = JSON.stringify({ ...JSON.parse(openSafetensors(DIT).metadata.get("config")!), textDim: 23 });
    expect(await messageOf(altered(DIT, onlyDenoise, { config }))).toContain(
      "shape    text_embedder.proj.weight is [72, 24], the model has [72, 23]",
    );
  });

  test("a configuration key that the model does not have", async () => {
    const config = JSON.stringify({ ...JSON.parse(openSafetensors(DIT).metadata.get("config")!), hiden: 72 });
    expect(await messageOf(altered(DIT, onlyDenoise, { config }))).toBe(`\
FILE  config: there is no key "hiden"
  from  the metadata \`config\`
  keys  conditioning, patch, channels, textDim, hidden, depth, heads, maxPositions, mlpRatio, learnSigma, positions, process, predicts, timeShift, lossMean
  fix: did you mean "hidden"?`);
    expect(await messageOf(altered(DIT, onlyDenoise, { config: "{hidden" }))).toBe(`\
FILE  recording: the metadata "config" is not a JSON object
  fix: record it as JSON, such as {"hidden": 64}`);
  });

  test("a mask with a hole", async () => {
    const file = altered(
      DIT,
      changing("denoise.in.text_mask", (value, i) => (i === 1 ? 0 : value)),
    );
    expect(await messageOf(file)).toBe(`\
FILE  recording: denoise: mask "text_mask" is not ones, then zeros: row 0 has 1 at position 2
  fix: move the padding to the end of each sample`);
  });

  test("inputs that are missing, unknown, of the wrong type or shape", async () => {
    const without = altered(DIT, (name, data) => (name === "denoise.in.t" ? undefined : onlyDenoise(name, data)));
    expect(await messageOf(without)).toBe(`\
FILE  recording: denoise: there is no input "t" [batch]
  fix: record it as denoise.in.t`);
    const extra = (name: string, shape: number[], data: Float32Array): string =>
      altered(DIT, (each, old) => (each === name ? undefined : onlyDenoise(each, old)), {}, [
        { name, dtype: "F32", shape, data },
      ]);
    expect(await messageOf(extra("denoise.in.y", [1], new Float32Array(1)))).toContain(
      'denoise: the program has no input "y"',
    );
    expect(await messageOf(extra("denoise.in.t", [2], Float32Array.of(1, 2.5)))).toContain(
      'denoise: "t" holds 2.5, and the program takes whole numbers',
    );
    expect(await messageOf(extra("denoise.in.t", [3], new Float32Array(3)))).toContain(
      'denoise: "t" is recorded as [3], and batch is 2 in another input',
    );
    expect(await messageOf(extra("denoise.in.text", [2, 6, 5], new Float32Array(60)))).toContain(
      '"text" is recorded as [2, 6, 5], and the model takes [batch, textTokens, text=24]',
    );
  });

  test("programs and outputs that the model does not have", async () => {
    const added = (name: string): string =>
      altered(DIT, onlyDenoise, {}, [{ name, dtype: "F32", shape: [1], data: new Float32Array(1) }]);
    expect(await messageOf(added("encode.out.mean"))).toContain('model "dit" has no program "encode"');
    expect(await messageOf(added("denoise.out.hidden"))).toContain('the model computes no "denoise.out.hidden"');
    expect(await messageOf(added("denoise.after.table"))).toContain("no buffers after the run (table)");
    expect(await messageOf(added("something"))).toContain('the tensor name "something" says nothing to verify');
  });

  test("a model file that is nowhere", async () => {
    expect(await messageOf(altered(DIT, onlyDenoise, { model: "models/missing.sora.ts" }))).toContain(
      'FILE  recording: model file "models/missing.sora.ts" is nowhere to be found',
    );
  });

  test.each(["bf16", "f16"] as const)("a precision that the device does not have: %s", async (precision) => {
    await expect(verify(DIT, { device: "reference", precision })).rejects.toThrow(
      `device "reference" (the float64 interpreter) has no ${precision}`,
    );
  });
});

describe("tolerances", () => {
  const tensor = (...data: number[]) => ({ shape: [data.length], data: Float64Array.from(data) });
  const verdict = (kind: "output" | "gradient", recorded: number[], computed: number[], others: number[] = []) =>
    compare(
      [
        { name: "a", kind, recorded: tensor(...recorded), computed },
        { name: "b", kind, recorded: tensor(...others), computed: others },
      ],
      "f32",
    )[0]!;

  test("an output is measured by its own largest magnitude", () => {
    expect(verdict("output", [2, -4], [2, -4.00003], [1000])).toMatchObject({
      ok: true,
      tolerance: expect.closeTo(4e-5, 12),
    });
    expect(verdict("output", [2, -4], [2, -4.00005], [1000]).ok).toBe(false);
    expect(verdict("output", [0, 0], [0, 0]).ok).toBe(true);
    expect(verdict("output", [0, 0], [0, 1e-30]).ok).toBe(false);
  });

  test("a gradient by its own or a hundredth of the file's largest", () => {
    expect(verdict("gradient", [1e-9], [9e-5], [-100])).toMatchObject({
      ok: true,
      tolerance: expect.closeTo(1e-4, 12),
    });
    expect(verdict("gradient", [1e-9], [1.1e-4], [-100]).ok).toBe(false);
    expect(verdict("gradient", [50], [50.006], [-100]).ok).toBe(false);
  });

  test("what was not computed differs", () => {
    expect(verdict("output", [1, 2], [1])).toMatchObject({ ok: false, error: NaN });
  });

  test("in bfloat16, gradients by their norm, and no chains", () => {
    const recorded = { name: "g", kind: "gradient", recorded: tensor(3, 4) } as const;
    expect(compare([{ ...recorded, computed: [3.1, 4.1] }], "bf16")[0]).toMatchObject({
      ok: true,
      tolerance: expect.closeTo(0.2, 12),
    });
    expect(compare([{ ...recorded, computed: [3.15, 4.15] }], "bf16")[0]!.ok).toBe(false);
    const tiny = { name: "h", kind: "gradient", recorded: tensor(1e-9, 1e-9), computed: [1e-3, 1e-3] } as const;
    expect(compare([{ ...recorded, computed: [3, 4] }, tiny], "bf16")[1]).toMatchObject({
      ok: true,
      tolerance: expect.closeTo(4e-2 * 1e-2 * 4, 12),
    });
    const chain = { name: "s", kind: "sampled", recorded: tensor(1), computed: [1] } as const;
    expect(compare([chain, { ...chain, kind: "trained" }], "bf16")).toEqual([]);
  });

  test("in f16 by the measures of bfloat16, an eighth as much; chains too, trained parameters not", () => {
    const recorded = { name: "g", kind: "gradient", recorded: tensor(3, 4) } as const;
    const shareOf = (kind: "output" | "gradient" | "sampled"): number =>
      compare([{ ...recorded, kind, computed: [3, 4] }], "f16")[0]!.tolerance;
    expect([shareOf("output"), shareOf("sampled"), shareOf("gradient")]).toEqual([
      ...[expect.closeTo(4e-3 * 4, 12), expect.closeTo(4e-3 * 4, 12), expect.closeTo(5e-3 * 5, 12)],
    ]);
    expect(compare([{ ...recorded, kind: "trained", computed: [3, 4] }], "f16")).toEqual([]);
  });
});
