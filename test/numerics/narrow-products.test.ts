/**
 * Products of bfloat16, which a machine multiplies in pairs, in tiles, or widened to floats: on this machine, as one with
 * AVX2 alone does it, and as one with AMX does it, whose tiles are then plain C++.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { arch, tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { call } from "../../compiler/notation/functions.ts";
import { generate } from "../../compiler/targets/cpu/target.ts";
import { casesOf, narrowHead, ROUNDING } from "./attention-cases.ts";
import { acc, add, assemble, caseOf, read, recipes } from "./contract-cases.ts";
import { runChild } from "../../runtime/devices/cpu/child.ts";
import { findToolchain } from "../../runtime/devices/cpu/toolchain.ts";
import { mistakesOf, type Case, type Machine } from "./harness.ts";

const MACHINES: readonly (readonly [name: string, machine: Machine])[] = [
  ["this machine", {}],
  ["AVX2", { isa: "avx2" }],
  ["AMX in plain C++", { flags: ["-USORACC_VDPBF16PS", "-USORACC_AMX", "-DSORACC_AMX=2"] }],
];

const SHAPES: readonly (readonly [m: number, n: number, k: number])[] = [
  [1, 1, 1],
  [16, 32, 32],
  [17, 33, 31],
  [70, 100, 95],
  [33, 16, 401],
  [131, 290, 64],
];

/** Every way both sides may lie; sizes known or open; a side that is computed, and one that lies there. */
function products(): readonly Case[] {
  return SHAPES.flatMap(([m, n, k], i) =>
    [false, true].flatMap((leftByRows) =>
      [false, true].map((rightByRows) => {
        const fixed = (i + Number(leftByRows)) % 2 === 0;
        const made = assemble(`narrow_${i}_${Number(leftByRows)}${Number(rightByRows)}`, [
          { role: "m", size: m, fixed },
          { role: "n", size: n, fixed: true },
          { role: "k", size: k, fixed },
        ]);
        const left = read(made.tensor("read", "bf16", leftByRows ? [0, 2] : [2, 0]));
        const shift = read(made.tensor("read", "f32", [0]));
        const right = read(made.tensor("read", "bf16", rightByRows ? [1, 2] : [2, 1]));
        const y = made.tensor("write", i % 2 === 0 ? "f32" : "bf16", [0, 1]);
        const computed = call("bf16", [add(left, shift)]);
        return made.finish(rightByRows ? computed : left, right, [{ access: y, value: acc }]);
      }),
    ),
  );
}

/** Gradients of weights: k is long and open, and is cut into chunks. */
const chunked = (): readonly Case[] =>
  [false, true].map((byRows) => {
    const made = assemble(`narrow_chunks_${Number(byRows)}`, [
      { role: "m", size: 40, fixed: true },
      { role: "n", size: 72, fixed: true },
      { role: "k", size: 2101, fixed: false },
    ]);
    const left = read(made.tensor("read", "bf16", byRows ? [0, 2] : [2, 0]));
    const right = read(made.tensor("read", "bf16", byRows ? [1, 2] : [2, 1]));
    return made.finish(left, right, [{ access: made.tensor("write", "f32", [0, 1]), value: acc }]);
  });

const NARROW = { leftType: "bf16", rightType: "bf16" } as const;
const random = (): readonly Case[] =>
  fc.sample(recipes, { numRuns: 20, seed: 23 }).map((recipe, i) => caseOf({ ...recipe, ...NARROW }, i));

describe.skipIf(arch() !== "x64").each(MACHINES)("products of bf16 on %s", (_, machine) => {
  test("in every layout", async () => {
    const cases = products();
    expect(cases.every(({ kernel }) => generate(kernel).source.includes("tile::Narrow"))).toBe(true);
    expect(await mistakesOf(cases, { relative: 1e-5, absolute: 1e-4 }, machine)).toEqual([]);
  });

  test("cut into chunks", async () => {
    const cases = chunked();
    expect(generate(cases[0]!.kernel).phases.length).toBeGreaterThan(1);
    expect(await mistakesOf(cases, { relative: 1e-5, absolute: 5e-4 }, machine)).toEqual([]);
  });

  test("in attention and its gradient", async () => {
    const settings = [8, 40, 64, 72, 136].map((head) => narrowHead("bf16", head));
    const cases = settings.map(casesOf).flatMap(({ forward, backward }) => [forward, backward]);
    expect(await mistakesOf(cases, { relative: 2e-5, absolute: ROUNDING.bf16 }, machine)).toEqual([]);
  });

  test("of any axes, prologues and epilogues", async () => {
    expect(await mistakesOf(random(), { relative: 1e-5, absolute: 1e-4 }, machine)).toEqual([]);
  });
});

/** The instructions themselves run where this machine has them; elsewhere they have to be ones that exist. */
test.skipIf(arch() !== "x64")("kernels with AMX tiles compile and assemble", async () => {
  const folder = mkdtempSync(join(tmpdir(), "soracc-amx-"));
  try {
    const source = join(folder, "kernel.cpp");
    writeFileSync(source, generate(products()[0]!.kernel).source);
    const { command, kernelFlags } = await findToolchain({ ...process.env, SORACC_ISA: "portable" });
    const [program, ...first] = command;
    const flags = kernelFlags.filter((flag) => !flag.startsWith("-march"));
    const includes = ["templates/cpu/prelude", "templates/prelude"].map((path) => `-I${path}`);
    const words = [
      "-march=sapphirerapids",
      "-DSORACC_AMX=1",
      ...includes,
      "-c",
      source,
      "-o",
      join(folder, "kernel.o"),
    ];
    const { code, stderr } = await runChild(program, [...first, ...flags, ...words]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
