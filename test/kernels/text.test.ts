// A kernel's text is the kernel, and a broken kernel is found: random ones, and those that a transformer makes.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { constant as dim, multiply, symbol, ZERO } from "../../compiler/graph/dim.ts";
import type { Program } from "../../compiler/graph/node.ts";
import type { ContractKernel, Kernel, MapKernel, RowsKernel } from "../../compiler/kernels/kernel.ts";
import { parseKernel } from "../../compiler/kernels/parse.ts";
import { printKernel } from "../../compiler/kernels/print.ts";
import { verifyKernel } from "../../compiler/kernels/verify.ts";
import { literal, variable } from "../../compiler/notation/expression.ts";
import { call } from "../../compiler/notation/functions.ts";
import { compilePlan, type Precision } from "../../compiler/pipeline.ts";
import { everyOperation } from "../graph/every-operation.ts";
import { transformer } from "../graph/transformer.ts";
import { randomCases, type Anchor } from "../numerics/random-kernels.ts";

function expectRoundTrip(kernel: Kernel): void {
  const text = printKernel(kernel);
  const read = parseKernel(text);
  expect(read, text).toEqual(kernel);
  expect(printKernel(read)).toBe(text);
}

describe("text of kernels", () => {
  it.each<Anchor>(["map", "rows", "columns"])("round trips random kernels: %s", (anchor) => {
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        for (const { kernel } of randomCases(anchor, 3, seed)) {
          verifyKernel(kernel, "test");
          expectRoundTrip(kernel);
        }
      }),
      { numRuns: 30, seed: 11 },
    );
  });

  it.each<readonly [string, () => Program, Precision]>([
    ["a transformer in f32", () => transformer({ depth: 1, width: 8, heads: 2 }), "f32"],
    ["a transformer in bf16", () => transformer({ depth: 1, width: 8, heads: 2 }), "bf16"],
    ["every operation", everyOperation, "f32"],
  ])("round trips the kernels of %s", (_, build, precision) => {
    const model = { name: "test", config: {}, preset: undefined, recipe: {} };
    const { kernels } = compilePlan({ model, parameters: [], programs: [build()], precision });
    expect(new Set(kernels.map((kernel) => kernel.anchor))).toContain("contract");
    for (const kernel of kernels) {
      verifyKernel(kernel, "lower");
      expectRoundTrip(kernel);
    }
  });

  it("is readable", () => {
    const kernel = softmax();
    const text = [
      'kernel rows softmax_rows "softmax along columns"',
      "symbols [batch]",
      "scalars []",
      "read x f32",
      "write y bf16",
      "axis rows size=12*batch outer",
      "axis columns size=64",
      "access a0 x strides=[64, 1]",
      "access a1 y strides=[64, 1]",
      'reduce r0 max "a0" stage=0',
      'reduce r1 sum "exp(a0 - r0)" stage=1',
      'store a1 "exp(a0 - r0) / r1"',
      "",
    ].join("\n");
    expect(printKernel(kernel)).toBe(text);
    expect(parseKernel(text)).toEqual(kernel);
  });

  it.each([
    ["kernel rows k", "there is no line `scalars`"],
    ['kernel rows k "f"\nwonder 1', "`wonder` begins no line of a kernel"],
    ['kernel heap k "f"\nscalars []\nsymbols []', "kernel: one of map, rows, columns"],
    ['kernel map k "f"\nscalars []\nsymbols []\nread x f33', "read: one of f64, f32"],
    ['kernel map k "f"\nscalars []\nsymbols []\nread x f32\naccess a0 z strides=[]', "access: there is no operand z"],
    ['kernel map k "f"\nscalars []\nsymbols []\nwrite y f32\naccess a0 y strides=[]\nstore a0 "a7"', "a7"],
  ])("refuses %j", (text, message) => {
    expect(() => parseKernel(`${text}\n`)).toThrow(message);
  });
});

function softmax(): RowsKernel {
  const [a0, r0, r1] = ["a0", "r0", "r1"].map((name) => variable(name, "f32")) as [never, never, never];
  const powers = call("exp", [call("sub", [a0, r0])]);
  return {
    anchor: "rows",
    name: "softmax_rows",
    formula: "softmax along columns",
    operands: [
      { name: "x", dtype: "f32", role: "read" },
      { name: "y", dtype: "bf16", role: "write" },
    ],
    scalars: [],
    symbols: ["batch"],
    axes: [
      { name: "rows", size: multiply(symbol("batch"), 12) },
      { name: "columns", size: dim(64) },
    ],
    accesses: [
      { operand: 0, strides: [dim(64), dim(1)], lookups: [] },
      { operand: 1, strides: [dim(64), dim(1)], lookups: [] },
    ],
    outer: 1,
    stages: [[{ operation: "max", value: a0 }], [{ operation: "sum", value: powers }]],
    stores: [{ access: 1, value: call("div", [powers, r1]) }],
    perRow: [false],
  };
}

describe("verifyKernel", () => {
  const a0 = variable("a0", "f32");
  const { anchor: _anchor, outer: _outer, stages: _stages, perRow: _perRow, ...shared } = softmax();
  const map: MapKernel = { ...shared, anchor: "map", stores: [{ access: 1, value: a0 }] };
  const product: ContractKernel = {
    ...shared,
    anchor: "contract",
    roles: ["m", "n"],
    left: literal(1, "f32"),
    right: literal(1, "f32"),
    stores: [{ access: 1, value: variable("acc", "f32") }],
  };

  it.each<readonly [string, Kernel, string]>([
    ["a name that no compiler takes", { ...map, name: "soft max" }, "its name is no C identifier"],
    ["symbols left out", { ...map, symbols: [] }, "symbol batch is not declared"],
    ["symbols out of order", { ...map, symbols: ["tokens", "batch"] }, "its symbols are not sorted"],
    [
      "two operands of one name",
      { ...map, operands: [map.operands[0]!, map.operands[0]!] },
      "two operands have one name",
    ],
    [
      "a missing stride",
      { ...map, accesses: [{ ...map.accesses[0]!, strides: [] }, map.accesses[1]!] },
      "a0 needs a stride",
    ],
    [
      "a store into what is read",
      { ...map, stores: [{ access: 0, value: a0 }] },
      "a store through a0 writes what is only read",
    ],
    [
      "a read of what is written",
      { ...map, stores: [{ access: 1, value: variable("a1", "f32") }] },
      "reads what is written",
    ],
    [
      "a wrong type",
      { ...map, stores: [{ access: 1, value: variable("a0", "i32") }] },
      "takes a0 for i32, and it is f32",
    ],
    [
      "an accumulator outside",
      { ...map, stores: [{ access: 1, value: variable("acc", "f32") }] },
      "uses acc, which has no value",
    ],
    ["a result before its stage", { ...softmax(), stages: [...softmax().stages].reverse() }, "a reduction uses r0"],
    ["a row that stores once too often", { ...softmax(), perRow: [true] }, "moves along the reduced axis 1"],
    ["a right side that varies over m", { ...product, right: a0 }, "right varies over an axis of m"],
    ["a store along k", { ...product, roles: ["m", "k"] }, "moves along the reduced axis 1"],
    [
      "a lookup by a fraction",
      {
        ...map,
        accesses: [{ ...map.accesses[0]!, lookups: [{ stride: ZERO, index: literal(1, "f32") }] }, map.accesses[1]!],
      },
      "a lookup of a0 is f32",
    ],
  ])("finds %s", (_, kernel, message) => {
    expect(() => verifyKernel(kernel, "fuse")).toThrow("compiler bug in fuse: kernel ");
    expect(() => verifyKernel(kernel, "fuse")).toThrow(message);
  });

  it("accepts what is right", () => {
    for (const kernel of [map, product, softmax()]) verifyKernel(kernel, "test");
  });
});
