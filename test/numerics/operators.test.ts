// Every operator's reference against plain loops written here, on random inputs of odd sizes.
import { describe, expect, it } from "vitest";
import { philoxNormal, philoxUniform } from "../../contract/philox.ts";
import { roundToBf16, roundToF16 } from "../../contract/dtype.ts";
import { constant as dim, floorDiv, multiply, subtract, symbol } from "../../compiler/graph/dim.ts";
import { contract } from "../../compiler/ops/contract.ts";
import { gather } from "../../compiler/ops/gather.ts";
import { concat, expand, pad, permute, rearrange, rename, slice, split, zerosLike } from "../../compiler/ops/layout.ts";
import { cast, formula, stopGradient } from "../../compiler/ops/pointwise.ts";
import { reduce } from "../../compiler/ops/reduce.ts";
import { constant, index, parameter, pathKey, random, size } from "../../compiler/ops/source.ts";
import { at, draw, evaluate, expectEach, makeWorld, shapeOf } from "./tensors.ts";

describe("sources", () => {
  it("reads a parameter from its range of the arena", () => {
    const world = makeWorld(1);
    const arena = draw(world, { arena: 41 });
    const weight = parameter(arena.edge, "w", 7, shapeOf(world, { out: 3, in: 5 }));
    expectEach(world, weight, (i) => arena.data[7 + i["out"]! * 5 + i["in"]!]!);
  });

  it("rounds a table to its type", () => {
    const world = makeWorld(2);
    const shape = shapeOf(world, { row: 1, column: 3 });
    expect([...evaluate(world, constant([0.1, -1e-9, 70000], "f32", shape)).data]).toEqual(
      [0.1, -1e-9, 70000].map(Math.fround),
    );
    expect([...evaluate(world, constant([0.1, 3, -5], "bf16", shape)).data]).toEqual([0.1, 3, -5].map(roundToBf16));
    expect([...evaluate(world, constant([0.1, 3, -5], "f16", shape)).data]).toEqual([roundToF16(0.1), 3, -5]);
    expect([...evaluate(world, constant([1, 2, 3], "i32", shape)).data]).toEqual([1, 2, 3]);
  });

  it("counts along an axis and turns sizes into numbers", () => {
    const world = makeWorld(3);
    world.symbols.set("frames", 7);
    expect([...evaluate(world, index("frames", symbol("frames"))).data]).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect([...evaluate(world, size(floorDiv(symbol("frames"), 2), "f32")).data]).toEqual([3]);
  });

  it("draws by seed, step, path and index", () => {
    const world = makeWorld(4);
    const seed = draw(world, {}, "u32", 0, 1000);
    const step = draw(world, {}, "u32", 0, 1000);
    const shape = shapeOf(world, { batch: "3", width: 5 });
    for (const [distribution, draws] of [["uniform", philoxUniform] as const, ["normal", philoxNormal] as const]) {
      const made = random(distribution, "noise", shape, seed.edge, step.edge);
      expectEach(world, made, (i) =>
        draws(seed.data[0]!, step.data[0]!, pathKey("noise"), i["batch"]! * 5 + i["width"]!),
      );
    }
    expect(pathKey("")).toBe(0x811c9dc5);
    expect(pathKey("a")).toBe(0xe40c292c);
  });
});

describe("pointwise", () => {
  it("meets by names, in the order of the widest input", () => {
    const world = makeWorld(5);
    const row = draw(world, { width: 5 });
    const whole = draw(world, { batch: "3", width: 5, tokens: "7" });
    const turned = draw(world, { tokens: "7", batch: "3" });
    const made = formula("row * whole + sin(turned)", { row: row.edge, whole: whole.edge, turned: turned.edge });
    expectEach(world, made, (i) => at(row, i) * at(whole, i) + Math.sin(at(turned, i)));
  });

  it("takes the order of the first input that has every axis, wherever the formula mentions it", () => {
    const world = makeWorld(6);
    const a = draw(world, { batch: 2, tokens: 3 });
    const b = draw(world, { tokens: 3, batch: 2 });
    const made = formula("b - a", { a: a.edge, b: b.edge });
    expect(made.shape.map((axis) => axis.name)).toEqual(["batch", "tokens"]);
    expectEach(world, made, (i) => at(b, i) - at(a, i));
  });

  it("spreads over the axes of an input it does not read", () => {
    const world = makeWorld(7);
    const a = draw(world, { batch: 2 });
    const b = draw(world, { tokens: 3, batch: 2 });
    const made = formula("a * 2", { a: a.edge, b: b.edge });
    expectEach(world, made, (i) => at(a, i) * 2);
    expect(made.shape).toEqual(b.edge.shape);
  });

  it("makes one node of an input given twice", () => {
    const world = makeWorld(8);
    const a = draw(world, { batch: 2 });
    const made = formula("x * y", { x: a.edge, y: a.edge });
    expect(made.node.inputs).toHaveLength(1);
    expectEach(world, made, (i) => at(a, i) ** 2);
  });

  it("compares, chooses and computes with integers", () => {
    const world = makeWorld(9);
    const a = draw(world, { batch: 9 }, "i32", -20, 20);
    const b = draw(world, { batch: 9 }, "i32", 1, 6);
    expectEach(world, formula("a // b + a % b", { a: a.edge, b: b.edge }), (i) => {
      const quotient = Math.floor(at(a, i) / at(b, i));
      return quotient + at(a, i) - quotient * at(b, i);
    });
    const chosen = formula("select(a < b, 1.5, -a)", { a: a.edge, b: b.edge });
    expect(chosen.dtype).toBe("f32");
    expectEach(world, chosen, (i) => (at(a, i) < at(b, i) ? 1.5 : -at(a, i)));
    expect(formula("a < b", { a: a.edge, b: b.edge }).dtype).toBe("bool");
  });
});

describe("cast", () => {
  const world = makeWorld(10);
  const numbers = [0.1, -2.5, 3e9, -3e9, NaN, Infinity, -Infinity, 255.9, 300, 0.5, 1.5, -0.4];
  const whole = constant(numbers, "f64", shapeOf(world, { at: numbers.length }));

  it.each([
    ["bf16", roundToBf16],
    ["f16", (x: number) => roundToF16(Math.fround(x))],
    ["i32", (x: number) => (Number.isNaN(x) ? 0 : Math.min(Math.max(Math.trunc(x), -(2 ** 31)), 2 ** 31 - 1))],
    ["u32", (x: number) => (Number.isNaN(x) ? 0 : Math.min(Math.max(Math.trunc(x), 0), 2 ** 32 - 1))],
    ["bool", (x: number) => Number(x !== 0)],
  ] as const)("to %s", (dtype, want) => {
    expectEach(world, cast(whole, dtype), (i) => want(numbers[i["at"]!]!) + 0);
  });

  it("between integers keeps the bits", () => {
    const signed = constant([-1, 2 ** 31 - 1, 5], "i32", shapeOf(world, { at: 3 }));
    expect([...evaluate(world, cast(signed, "u32")).data]).toEqual([2 ** 32 - 1, 2 ** 31 - 1, 5]);
    expect([...evaluate(world, cast(cast(signed, "u32"), "i32")).data]).toEqual([-1, 2 ** 31 - 1, 5]);
    expect([...evaluate(world, cast(signed, "u8")).data]).toEqual([255, 255, 5]);
  });

  it("to the type a tensor has is the tensor", () => {
    expect(cast(whole, "f64")).toBe(whole);
  });
});

describe("reduce and expand", () => {
  it.each(["sum", "max", "min"] as const)("%s over axes anywhere", (operation) => {
    const world = makeWorld(11);
    const x = draw(world, { batch: "3", width: 5, tokens: "7", head: 2 });
    const made = reduce(operation, x.edge, ["tokens", "batch"]);
    const fold = { sum: (a: number, b: number) => a + b, max: Math.max, min: Math.min }[operation];
    expectEach(world, made, (i) => {
      let so = { sum: 0, max: -Infinity, min: Infinity }[operation];
      for (let batch = 0; batch < 3; batch++) {
        for (let tokens = 0; tokens < 7; tokens++) so = fold(so, at(x, { ...i, batch, tokens }));
      }
      return so;
    });
  });

  it("the same axes in another order are the same node", () => {
    const x = draw(makeWorld(12), { batch: "3", width: 5 }).edge;
    expect(reduce("sum", x, ["width", "batch"])).toBe(reduce("sum", x, ["batch", "width"]));
  });

  it("repeats along new axes, in any order", () => {
    const world = makeWorld(13);
    const x = draw(world, { tokens: "7", batch: 3 });
    const wide = expand(x.edge, shapeOf(world, { batch: 3, width: 5, tokens: "7" }));
    expectEach(world, wide, (i) => at(x, i));
    expect(() => expand(x.edge, shapeOf(world, { batch: 4, tokens: "7" }))).toThrow('expand axis "batch" from 3 to 4');
    expectEach(world, zerosLike(x.edge), () => 0);
  });
});

describe("contract", () => {
  it("sums products over batch, row, column and summed axes in any order", () => {
    const world = makeWorld(14);
    const left = draw(world, { rows: 3, batch: "2", depth: 5, inner: 3 });
    const right = draw(world, { inner: 3, columns: "4", batch: "2", depth: 5 });
    const labels = { left: [0, 1, 2, 3], right: [3, 4, 1, 2], result: [4, 1, 0] };
    const made = contract(left.edge, right.edge, labels, ["columns", "batch", "rows"]);
    expectEach(world, made, (i) => {
      let sum = 0;
      for (let depth = 0; depth < 5; depth++) {
        for (let inner = 0; inner < 3; inner++)
          sum += at(left, { ...i, depth, inner }) * at(right, { ...i, depth, inner });
      }
      return sum;
    });
  });

  it("multiplies outer, and element by element", () => {
    const world = makeWorld(15);
    const left = draw(world, { batch: 3, m: 2 });
    const right = draw(world, { batch: 3 });
    const other = draw(world, { n: 5 });
    expectEach(
      world,
      contract(left.edge, other.edge, { left: [0, 1], right: [2], result: [1, 2, 0] }, ["m", "n", "batch"]),
      (i) => at(left, i) * at(other, i),
    );
    expectEach(
      world,
      contract(left.edge, right.edge, { left: [0, 1], right: [0], result: [0, 1] }, ["batch", "m"]),
      (i) => at(left, i) * at(right, i),
    );
  });

  it("accumulates in f64 when an operand is f64", () => {
    const world = makeWorld(16);
    const a = draw(world, { k: 3 }, "f64");
    const b = draw(world, { k: 3 });
    const labels = { left: [0], right: [0], result: [] };
    expect(contract(a.edge, b.edge, labels, []).dtype).toBe("f64");
    expect(contract(b.edge, b.edge, labels, []).dtype).toBe("f32");
  });
});

describe("gather", () => {
  it("takes rows along any axis of the table", () => {
    const world = makeWorld(17);
    const table = draw(world, { width: 5, row: 7, part: 2 });
    const places = draw(world, { batch: "3", tokens: 4 }, "i32", 0, 7);
    const made = gather(table.edge, places.edge, "row");
    expect(made.shape.map((axis) => axis.name)).toEqual(["batch", "tokens", "width", "part"]);
    expectEach(world, made, (i) => at(table, { ...i, row: at(places, i) }));
  });

  it("takes one row by a scalar, and indices named like the axis they index", () => {
    const world = makeWorld(18);
    const table = draw(world, { row: 7, width: 5 });
    const place = draw(world, {}, "i32", 0, 7);
    expectEach(world, gather(table.edge, place.edge, "row"), (i) => at(table, { ...i, row: place.data[0]! }));
    const rows = draw(world, { row: 3 }, "i32", 0, 7);
    expectEach(world, gather(table.edge, rows.edge, "row"), (i) => at(table, { ...i, row: at(rows, i) }));
  });
});

describe("layout", () => {
  it("splits, permutes, merges and renames", () => {
    const world = makeWorld(19);
    const x = draw(world, { batch: "2", tokens: "5", both: 12 });
    world.symbols.set("tokens", 5);
    const made = rearrange(
      x.edge,
      [[symbol("batch")], [symbol("tokens")], [dim(3), dim(2), dim(2)]],
      [[3], [1, 2], [], [0, 4]],
      ["middle", "tokensOuter", "unit", "batchInner"],
    );
    expect(evaluate(world, made).sizes).toEqual([2, 15, 1, 4]);
    expectEach(world, made, (i) => {
      const both = (i["tokensOuter"]! % 3) * 4 + i["middle"]! * 2 + (i["batchInner"]! % 2);
      return at(x, { batch: Math.floor(i["batchInner"]! / 2), tokens: Math.floor(i["tokensOuter"]! / 3), both });
    });
  });

  it("drops unit axes, and keeps a tensor that would not change", () => {
    const world = makeWorld(20);
    const x = draw(world, { batch: 1, width: 5 });
    const flat = rearrange(x.edge, [[], [dim(5)]], [[0]], ["width"]);
    expectEach(world, flat, (i) => at(x, { ...i, batch: 0 }));
    expect(permute(x.edge, ["batch", "width"])).toBe(x.edge);
    expect(rename(x.edge, ["batch", "width"])).toBe(x.edge);
    expect(() => rearrange(x.edge, [[], [dim(2), dim(2)]], [[0, 1]], ["width"])).toThrow(
      "cannot be split in factors 2, 2",
    );
  });

  it("slices, splits, joins and pads, also by symbols", () => {
    const world = makeWorld(21);
    const x = draw(world, { batch: "2", tokens: "9", width: 3 });
    world.symbols.set("text", 4);
    const [text, tokens] = [symbol("text"), symbol("tokens")];
    const video = subtract(tokens, text);
    expectEach(world, slice(x.edge, "tokens", text, video), (i) => at(x, { ...i, tokens: i["tokens"]! + 4 }));
    const parts = split(x.edge, "tokens", [text, video]);
    expectEach(world, parts[0]!, (i) => at(x, i));
    expectEach(world, parts[1]!, (i) => at(x, { ...i, tokens: i["tokens"]! + 4 }));
    const turned = permute(parts[1]!, ["width", "tokens", "batch"]);
    const joined = concat([parts[0]!, turned, parts[0]!], "tokens");
    expectEach(world, joined, (i) => at(x, { ...i, tokens: i["tokens"]! % 9 }));
    const padded = pad(x.edge, "width", dim(2), dim(1));
    expectEach(world, padded, (i) =>
      i["width"]! < 2 || i["width"]! > 4 ? 0 : at(x, { ...i, width: i["width"]! - 2 }),
    );
    expect(slice(x.edge, "tokens", 0, tokens)).toBe(x.edge);
    expect(concat([x.edge], "tokens")).toBe(x.edge);
  });

  it("works on empty parts", () => {
    const world = makeWorld(22);
    const x = draw(world, { batch: 2, tokens: 3 });
    const parts = split(x.edge, "tokens", [dim(0), dim(3)]);
    expect(evaluate(world, parts[0]!).data).toHaveLength(0);
    expectEach(world, concat(parts, "tokens"), (i) => at(x, i));
    expectEach(world, reduce("sum", parts[0]!, ["tokens"]), () => 0);
  });

  it("refuses what can never fit", () => {
    const world = makeWorld(23);
    const x = draw(world, { tokens: "9", width: 3 });
    const tokens = symbol("tokens");
    expect(() => split(x.edge, "tokens", [tokens, dim(1)])).toThrow("cannot be split in parts of tokens, 1");
    expect(() => split(x.edge, "width", [dim(1), dim(1)])).toThrow("cannot be split in parts of 1, 1");
    expect(() => concat([x.edge, expand(x.edge, shapeOf(world, { tokens: "9", width: 3, head: 2 }))], "width")).toThrow(
      "give all parts the same axes",
    );
    expect(() => slice(x.edge, "heads", 0, multiply(tokens, 2))).toThrow('no axis "heads"');
  });
});

it("stopGradient is the value", () => {
  const world = makeWorld(24);
  const x = draw(world, { batch: 3 });
  expectEach(world, stopGradient(x.edge), (i) => at(x, i));
});
