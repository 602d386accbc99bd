// Every operator's gradient against central differences of the float64 reference.
import { describe, expect, it } from "vitest";
import { constant as dim, subtract, symbol } from "../../compiler/graph/dim.ts";
import { contract } from "../../compiler/ops/contract.ts";
import { gather } from "../../compiler/ops/gather.ts";
import { concat, expand, pad, permute, rearrange, rename, slice, split } from "../../compiler/ops/layout.ts";
import { cast, formula, stopGradient } from "../../compiler/ops/pointwise.ts";
import { reduce } from "../../compiler/ops/reduce.ts";
import { index } from "../../compiler/ops/source.ts";
import { gradients } from "../../compiler/passes/differentiate.ts";
import { draw, evaluate, expectGradients, makeWorld, shapeOf } from "./tensors.ts";

describe("gradients agree with finite differences", () => {
  it("pointwise, broadcast by names and in another order", () => {
    const world = makeWorld(1);
    const row = draw(world, { width: 5 });
    const whole = draw(world, { batch: "3", width: 5, tokens: "2" });
    const turned = draw(world, { tokens: "2", batch: "3" });
    const scalar = draw(world, {});
    const made = formula("tanh(row * whole) + sin(turned) * scalar / (1.5 + whole^2)", {
      row: row.edge,
      whole: whole.edge,
      turned: turned.edge,
      scalar: scalar.edge,
    });
    expectGradients(world, [made], [row, whole, turned, scalar]);
  });

  it("a tensor used twice, and one that the loss does not know", () => {
    const world = makeWorld(2);
    const a = draw(world, { batch: 3 });
    const b = draw(world, { batch: 3 });
    const sum = formula("x * y", { x: a.edge, y: a.edge });
    expectGradients(world, [formula("s * exp(a)", { s: sum, a: a.edge })], [a, b]);
  });

  it("select keeps what is infinite in the other arm out", () => {
    const world = makeWorld(3);
    const x = draw(world, { at: 9 });
    const made = formula("select(x > 0.3, sqrt(x - 0.3), x * 2)", { x: x.edge });
    expectGradients(world, [made], [x]);
    const loss = reduce("sum", formula("select(x < 10, x, exp(x * 1e6))", { x: x.edge }), ["at"]);
    expect([...evaluate(world, gradients(loss, [x.edge])[0]!).data]).toEqual(new Array(9).fill(1));
  });

  it.each(["sum", "max", "min"] as const)("reduce %s", (operation) => {
    const world = makeWorld(4);
    const x = draw(world, { batch: "3", width: 5, tokens: "2" });
    expectGradients(world, [reduce(operation, x.edge, ["tokens", "width"]), reduce(operation, x.edge, ["batch"])], [x]);
  });

  it("max shares its gradient among equals", () => {
    const world = makeWorld(5);
    const x = draw(world, { at: 4 });
    world.given.set("t0", Float64Array.of(1, 3, 3, 2));
    expect([...evaluate(world, gradients(reduce("max", x.edge, ["at"]), [x.edge])[0]!).data]).toEqual([0, 0.5, 0.5, 0]);
  });

  it("expand", () => {
    const world = makeWorld(6);
    const x = draw(world, { tokens: "2", batch: 3 });
    expectGradients(world, [expand(x.edge, shapeOf(world, { batch: 3, width: 5, tokens: "2", head: 2 }))], [x]);
  });

  it("contract with batch, row, column and summed axes", () => {
    const world = makeWorld(7);
    const left = draw(world, { rows: 3, batch: "2", depth: 4, inner: 3 });
    const right = draw(world, { inner: 3, columns: "5", batch: "2", depth: 4 });
    const labels = { left: [0, 1, 2, 3], right: [3, 4, 1, 2], result: [4, 1, 0] };
    expectGradients(world, [contract(left.edge, right.edge, labels, ["columns", "batch", "rows"])], [left, right]);
  });

  it("contract of a tensor with itself, and outer products", () => {
    const world = makeWorld(8);
    const x = draw(world, { rows: 3, depth: 4 });
    const y = draw(world, { columns: 2 });
    const square = contract(x.edge, x.edge, { left: [0, 2], right: [1, 2], result: [0, 1] }, ["rows", "others"]);
    const outer = contract(x.edge, y.edge, { left: [0, 1], right: [2], result: [2, 0, 1] }, [
      "columns",
      "rows",
      "depth",
    ]);
    expectGradients(world, [square, outer], [x, y]);
  });

  it("gather: the table, with rows taken often, once and never", () => {
    const world = makeWorld(9);
    const table = draw(world, { width: 3, row: 6, part: 2 });
    const places = draw(world, { batch: "3", tokens: 2 }, "i32", 0, 5);
    const one = draw(world, {}, "i32", 0, 5);
    const rows = draw(world, { row: 3 }, "i32", 0, 5);
    const taken = [places, one, rows].map((indices) => gather(table.edge, indices.edge, "row"));
    expectGradients(world, taken, [table]);
  });

  it("rearrange: split, permute, merge, unit axes", () => {
    const world = makeWorld(10);
    const x = draw(world, { batch: "2", unit: 1, both: 6 });
    const made = rearrange(
      x.edge,
      [[symbol("batch")], [], [dim(3), dim(2)]],
      [[2], [], [0, 1]],
      ["inner", "fresh", "outer"],
    );
    expectGradients(world, [made, permute(x.edge, ["both", "batch", "unit"]), rename(x.edge, ["a", "b", "c"])], [x]);
  });

  it("slice, split, concat and pad", () => {
    const world = makeWorld(11);
    const x = draw(world, { batch: "2", tokens: "5", width: 3 });
    const y = draw(world, { width: 3, tokens: "5", batch: "2" });
    world.symbols.set("text", 2);
    const parts = split(x.edge, "tokens", [symbol("text"), subtract(symbol("tokens"), symbol("text"))]);
    const joined = concat([x.edge, y.edge, parts[1]!], "tokens");
    const sliced = slice(y.edge, "tokens", 1, symbol("text"));
    // The first part is read by nobody: its gradient is zero.
    expectGradients(world, [formula("sin(x)", { x: joined }), sliced, pad(x.edge, "width", dim(2), dim(1))], [x, y]);
  });

  it("cast between floats, and stopGradient", () => {
    const world = makeWorld(12);
    const x = draw(world, { at: 4 }, "f64");
    const narrow = cast(x.edge, "f32");
    const made = formula("x * x + s", { x: narrow, s: formula("0 * s", { s: stopGradient(x.edge) }) });
    expectGradients(world, [made], [x]);
    const stopped = reduce("sum", stopGradient(formula("x * x", { x: x.edge })), ["at"]);
    expect([...evaluate(world, gradients(stopped, [x.edge])[0]!).data]).toEqual([0, 0, 0, 0]);
  });

  it("an integer on the way", () => {
    const world = makeWorld(13);
    const x = draw(world, { at: 4 });
    const place = index("at", dim(4));
    const flag = cast(formula("x > 0", { x: x.edge }), "f32");
    expectGradients(world, [formula("x * i + i + flag * x", { x: x.edge, i: place, flag })], [x]);
  });
});

describe("gradients", () => {
  it("reach a tensor and what it was made from, both in one call", () => {
    const world = makeWorld(14);
    const x = draw(world, { at: 3 });
    const y = formula("x * x", { x: x.edge });
    const loss = reduce("sum", formula("y * 3 + x", { y, x: x.edge }), ["at"]);
    const [dy, dx] = gradients(loss, [y, x.edge]);
    expect([...evaluate(world, dy!).data]).toEqual([3, 3, 3]);
    const found = evaluate(world, dx!).data;
    x.data.forEach((value, i) => expect(found[i]).toBeCloseTo(6 * value + 1, 10));
  });

  it("of a loss by itself is one", () => {
    const world = makeWorld(15);
    const x = draw(world, {});
    expect([...evaluate(world, gradients(x.edge, [x.edge])[0]!).data]).toEqual([1]);
  });

  it("refuse a loss with axes", () => {
    const x = draw(makeWorld(16), { at: 3 });
    expect(() => gradients(x.edge, [x.edge])).toThrow("only a scalar has a gradient, and the loss is [at=3]");
  });
});
