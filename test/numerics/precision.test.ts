// Mixed precision: what changes in the graph, and that the numbers are those of narrowed operands.
import { describe, expect, it } from "vitest";
import { roundToBf16, roundToF16 } from "../../contract/dtype.ts";
import { constant as dim, symbol } from "../../compiler/graph/dim.ts";
import { nodesOf, programEdges, type Edge, type Program } from "../../compiler/graph/node.ts";
import { printProgram } from "../../compiler/graph/print.ts";
import { verifyProgram } from "../../compiler/graph/verify.ts";
import { attention } from "../../compiler/ops/attention.ts";
import { contract } from "../../compiler/ops/contract.ts";
import { rearrange, split } from "../../compiler/ops/layout.ts";
import { cast, formula } from "../../compiler/ops/pointwise.ts";
import { reduce } from "../../compiler/ops/reduce.ts";
import { input, parameter } from "../../compiler/ops/source.ts";
import { operatorOf } from "../../compiler/ops/table.ts";
import { precision } from "../../compiler/passes/precision.ts";
import { transformer } from "../graph/transformer.ts";
import { at, draw, expectEach, makeWorld, shapeOf } from "./tensors.ts";

const program = (inputs: readonly Edge[], y: Edge): Program => ({
  name: "p",
  inputs,
  outputs: new Map([["y", y]]),
  next: new Map(),
  equalities: [],
});

const matmul = (x: Edge, w: Edge): Edge =>
  contract(x, w, { left: [0, 1, 2], right: [3, 2], result: [0, 1, 3] }, ["batch", "tokens", "out"]);

describe("precision", () => {
  const world = makeWorld(1);
  const x = draw(world, { batch: "3", tokens: 2, width: 5 });
  const arena = draw(world, { arena: 30 });
  const weight = parameter(arena.edge, "w", 4, shapeOf(world, { out: 2, width: 5 }));
  const before = program([x.edge, arena.edge], formula("y * 2", { y: matmul(x.edge, weight) }));

  it("leaves a program in f32 as it is", () => {
    expect(precision(before, "f32")).toBe(before);
  });

  it.each(["bf16", "f16"] as const)("casts what products read and give to %s, and nothing else", (wanted) => {
    const after = precision(before, wanted);
    verifyProgram(after, "precision");
    expect(printProgram(after)).toBe(
      [
        'program "p"',
        '%0 = input "t0" given : f32[batch, tokens=2, width=5]',
        '%1 = input "t1" given : f32[arena=30]',
        '%2 = parameter(%1) "w" offset=4 : f32[out=2, width=5]',
        `%3 = cast(%0) : ${wanted}[batch, tokens=2, width=5]`,
        `%4 = cast(%2) : ${wanted}[out=2, width=5]`,
        "%5 = contract(%3, %4) left=[0, 1, 2] right=[3, 2] result=[0, 1, 3] : f32[batch, tokens=2, out=2]",
        `%6 = cast(%5) : ${wanted}[batch, tokens=2, out=2]`,
        "%7 = cast(%6) : f32[batch, tokens=2, out=2]",
        '%8 = pointwise(%7) "x0 * 2" : f32[batch, tokens=2, out=2]',
        "inputs %0 %1",
        'output "y" = %8',
        "",
      ].join("\n"),
    );
  });

  it.each([["bf16", roundToBf16] as const, ["f16", (value: number) => roundToF16(Math.fround(value))] as const])(
    "computes with operands rounded to %s, exact sums, and rounds those",
    (wanted, round) => {
      const after = precision(before, wanted);
      expectEach(world, after.outputs.get("y")!, (i) => {
        let sum = 0;
        for (let width = 0; width < 5; width++) {
          sum += round(at(x, { ...i, width })) * round(arena.data[4 + i["out"]! * 5 + width]!);
        }
        return 2 * round(sum);
      });
    },
  );

  const casts = (after: Program): string[] =>
    printProgram(after)
      .split("\n")
      .filter((line) => / = (cast|contract|pointwise|rearrange|concat|reduce)\(/.test(line))
      .map((line) => line.trim());

  it("rounds a product after its bias, when that is added to nothing else", () => {
    const bias = parameter(arena.edge, "b", 20, shapeOf(world, { out: 2 }));
    const y = formula("x + b", { x: matmul(x.edge, weight), b: bias });
    expect(casts(precision(program([x.edge, arena.edge], formula("y * y", { y })), "bf16")).slice(2)).toEqual([
      "%5 = contract(%3, %4) left=[0, 1, 2] right=[3, 2] result=[0, 1, 3] : f32[batch, tokens=2, out=2]",
      '%7 = pointwise(%5, %6) "x0 + x1" : f32[batch, tokens=2, out=2]',
      "%8 = cast(%7) : bf16[batch, tokens=2, out=2]",
      "%9 = cast(%8) : f32[batch, tokens=2, out=2]",
      '%10 = pointwise(%9) "x0 * x0" : f32[batch, tokens=2, out=2]',
    ]);
  });

  it("rounds neither what the program gives nor what has the size of parameters", () => {
    const over = { left: [0, 1, 2], right: [0, 1, 3], result: [2, 3] };
    const gradient = contract(x.edge, x.edge, over, ["width", "in"]);
    for (const y of [matmul(x.edge, weight), formula("g * 2", { g: gradient })]) {
      const after = precision(program([x.edge, arena.edge], y), "bf16");
      const made = nodesOf(programEdges(after)).find((node) => node.operation.op === "contract")!.results[0]!;
      const rounding = nodesOf(programEdges(after)).filter(({ inputs }) => inputs[0] === made);
      expect(rounding.every((node) => node.operation.op !== "cast")).toBe(true);
    }
  });

  it("leaves what a sample has one row of", () => {
    const condition = draw(world, { batch: "3", width: 5 });
    const labels = { left: [0, 1], right: [2, 1], result: [0, 2] };
    const shift = contract(condition.edge, weight, labels, ["batch", "out"]);
    const after = precision(program([condition.edge, arena.edge], formula("s * 2", { s: shift })), "bf16");
    expect(casts(after).at(-1)).toBe('%6 = pointwise(%5) "x0 * 2" : f32[batch, out=2]');
    expect(casts(after).at(-2)).toContain("= contract(");
  });

  it("lets a product and the gradient of its bias read one rounded tensor, through views too", () => {
    const dy = formula("x * 3", { x: x.edge });
    const sizes = [[x.edge.shape[0]!.size], [dim(2)], [dim(5)]];
    const turned = rearrange(dy, sizes, [[2], [0], [1]], ["width", "batch", "tokens"]);
    const labels = { left: [2, 0, 1], right: [3, 2], result: [0, 1, 3] };
    const dx = contract(turned, weight, labels, ["batch", "tokens", "out"]);
    const both = program([x.edge, arena.edge], dx);
    const after = precision({ ...both, next: new Map([["bias", reduce("sum", dy, ["batch", "tokens"])]]) }, "bf16");
    verifyProgram(after, "precision");
    expect(casts(after).slice(1)).toEqual([
      '%4 = pointwise(%0) "x0 * 3" : f32[batch, tokens=2, width=5]',
      "%5 = cast(%4) : bf16[batch, tokens=2, width=5]",
      "%6 = cast(%5) : f32[batch, tokens=2, width=5]",
      "%7 = rearrange(%5) split=[[batch], [2], [5]] groups=[[2], [0], [1]] : bf16[width=5, batch, tokens=2]",
      "%8 = contract(%7, %3) left=[2, 0, 1] right=[3, 2] result=[0, 1, 3] : f32[batch, tokens=2, out=2]",
      "%9 = reduce(%6) sum axes=[batch, tokens] : f32[width=5]",
    ]);
  });

  it("leaves what others read as well, such as sums of residuals, in float32", () => {
    const h = formula("x * 3", { x: x.edge });
    const mean = reduce("sum", h, ["width"]);
    const y = formula("d + m + h", {
      d: reduce("sum", matmul(h, weight), ["out"]),
      m: mean,
      h: reduce("sum", formula("h * h", { h }), ["width"]),
    });
    const after = precision(program([x.edge, arena.edge], y), "bf16");
    const sums = nodesOf(programEdges(after)).filter((node) => node.operation.op === "reduce");
    expect(sums.some((node) => node.inputs[0]!.node.operation.op === "pointwise" && node.inputs[0] === h)).toBe(true);
  });

  it.each(["bf16", "f16"] as const)("casts to %s before views, once, and not what is narrow already", (wanted) => {
    const tokens = symbol("tokens");
    const axes = [
      { name: "tokens", size: tokens },
      { name: "width", size: dim(12) },
    ];
    const source = formula("x * 2", { x: input("x", "f32", axes) });
    const parts = split(source, "width", [dim(4), dim(4), dim(4)]);
    const [q, k] = parts.map((part, i) =>
      rearrange(part, [[tokens], [dim(2), dim(2)]], [[1], [0], [2]], ["heads", i === 0 ? "tokens" : "keys", "head"]),
    );
    const v = cast(input("v", wanted, k!.shape), "f32");
    const facts = {
      heads: "heads",
      queries: "tokens",
      keys: "keys",
      head: "head",
      scale: 1,
      causal: false,
      segments: [],
    };
    const { o } = attention({ q: q!, k: k!, v, lengths: [] }, facts);
    const after = precision(program([input("x", "f32", axes), v.node.inputs[0]!], o), wanted);
    verifyProgram(after, "precision");
    const operations = nodesOf(programEdges(after)).map((node) => node.operation.op);
    expect(operations.filter((op) => op === "cast")).toHaveLength(1);
    expect(operations.filter((op) => op === "split")).toHaveLength(1);
    const node = after.outputs.get("y")!.node;
    expect(node.inputs.map((edge) => edge.dtype)).toEqual([wanted, wanted, wanted]);
    expect(node.inputs[2]).toBe(v.node.inputs[0]);
  });

  it("rounds what was of the other 16-bit type", () => {
    const other = cast(input("x", "bf16", x.edge.shape), "f32");
    const after = precision(program([other.node.inputs[0]!, arena.edge], matmul(other, weight)), "f16");
    const read = after.outputs.get("y")!.node.inputs[0]!;
    expect([read.dtype, read.node.inputs[0]]).toEqual(["f16", other]);
  });

  it.each(["bf16", "f16"] as const)(
    "narrows to %s every product of a transformer and its gradients, and keeps whole numbers and results",
    (type) => {
      const after = precision(transformer({ depth: 2, width: 8, heads: 2 }), type);
      verifyProgram(after, "precision");
      for (const node of nodesOf(programEdges(after))) {
        const narrow = operatorOf(node).traits.narrow ?? [];
        node.inputs.forEach((edge, i) => {
          const wanted = narrow.includes(i) ? type : i === 6 || edge.dtype === "i32" ? "i32" : undefined;
          if (wanted !== undefined) expect([node.operation.op, i, edge.dtype]).toEqual([node.operation.op, i, wanted]);
        });
        if (narrow.length > 0) expect(node.results.every((edge) => edge.dtype === "f32")).toBe(true);
        const { narrowResults: rounded = [] } = operatorOf(node).traits;
        for (const i of rounded) {
          const edge = node.results[i]!;
          const readers = nodesOf(programEdges(after)).filter(({ inputs }) => inputs.includes(edge));
          const isActivation = edge.shape.some((axis) => axis.name === "batch") && edge.shape.length > 2;
          const types = readers.flatMap(({ results }) => results.map((result) => result.dtype));
          if (!isActivation || readers.length === 0) expect(types).not.toContain(type);
          else if (readers.every(({ operation }) => operation.op === "cast")) expect(types).toEqual([type]);
          else expect(readers.map(({ operation }) => operation.op)).toEqual(["pointwise"]);
        }
      }
      expect([...after.outputs.values()].every((edge) => edge.dtype === "f32")).toBe(true);
    },
  );
});
