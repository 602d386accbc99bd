// Kernels in sizes of their own: which launches share one, and what the plan gives them.
import { describe, expect, test } from "vitest";
import { constant, multiply, ONE, printDim, symbol, ZERO, type Dim } from "../../compiler/graph/dim.ts";
import type { Access, Kernel, MapKernel } from "../../compiler/kernels/kernel.ts";
import { inProgram, inUnits } from "../../compiler/kernels/units.ts";
import { variable } from "../../compiler/notation/expression.ts";

const [batch, tokens] = [symbol("batch"), symbol("tokens")];
const access = (operand: number, ...strides: readonly Dim[]): Access => ({ operand, strides, lookups: [] });

function copy(sizes: Readonly<Record<string, Dim>>, more: Partial<MapKernel> = {}): MapKernel {
  const axes = Object.entries(sizes).map(([name, size]) => ({ name, size }));
  const dense = axes.map((_, axis) => multiply(ONE, ...axes.slice(axis + 1).map(({ size }) => size)));
  return {
    anchor: "map",
    name: "copy",
    formula: "",
    operands: [
      { name: "x0", dtype: "f32", role: "read" },
      { name: "y0", dtype: "bf16", role: "write" },
    ],
    scalars: [],
    symbols: ["batch", "tokens"],
    axes,
    accesses: [access(0, ...dense), access(1, ...dense)],
    stores: [{ access: 1, value: variable("a0", "f32") }],
    ...more,
  };
}

const spelled = (kernel: Kernel): readonly string[] => kernel.axes.map(({ name, size }) => `${name}=${printDim(size)}`);

describe("a map over everything it touches", () => {
  test("runs over elements, whatever they stand for", () => {
    const some = [
      { batch, tokens, width: constant(1152) },
      { tokens, width: constant(8) },
      { parameter: constant(2304) },
    ];
    const made = some.map((sizes) => inUnits(copy(sizes)));
    for (const { kernel } of made) expect(spelled(kernel)).toEqual(["elements=elements"]);
    expect(new Set(made.map(({ kernel }) => JSON.stringify(kernel))).size).toBe(1);
    expect(made.map(({ units }) => printDim(inProgram(symbol("elements"), units)))).toEqual([
      "1152*batch*tokens",
      "8*tokens",
      "2304",
    ]);
  });

  test("keeps its axes where an operand is walked in another way, or a value depends on an index", () => {
    const turned = copy(
      { batch, width: constant(8) },
      { accesses: [access(0, ONE, batch), access(1, constant(8), ONE)] },
    );
    const counting = copy({ tokens }, { stores: [{ access: 1, value: variable("i0", "i32") }] });
    const spread = copy(
      { batch, width: constant(8) },
      { accesses: [access(0, ZERO, ONE), access(1, constant(8), ONE)] },
    );
    for (const kernel of [turned, counting, spread]) expect(inUnits(kernel)).toEqual({ kernel, units: new Map() });
  });
});

describe("a symbol that is known as a multiple alone", () => {
  const rows = (sizes: Readonly<Record<string, Dim>>): Kernel => {
    const { axes, accesses, operands, symbols } = copy(sizes);
    const stores = [{ access: 1, value: variable("a0", "f32") }];
    const common = { name: "rows", formula: "", operands, scalars: [], symbols, axes, accesses, stores };
    return { anchor: "rows", ...common, outer: 1, stages: [], perRow: [false] };
  };

  test("takes the place of the multiple", () => {
    const twice = inUnits(rows({ batch: multiply(2, batch), tokens, width: constant(8) }));
    expect(spelled(twice.kernel)).toEqual(["batch=batch", "tokens=tokens", "width=8"]);
    expect(JSON.stringify(twice.kernel)).toBe(JSON.stringify(rows({ batch, tokens, width: constant(8) })));
    expect(printDim(inProgram(multiply(batch, tokens, 8), twice.units))).toBe("16*batch*tokens");
  });

  test("stays where strides depend on it, or another size has it in another way", () => {
    const inStrides = rows({ batch, tokens: multiply(2, tokens), width: constant(8) });
    const twoWays = rows({ batch: multiply(2, batch), other: batch, width: constant(8) });
    const mixed = rows({ batch: multiply(2, batch, tokens), width: constant(8) });
    for (const kernel of [inStrides, twoWays, mixed]) expect(inUnits(kernel)).toEqual({ kernel, units: new Map() });
  });
});
