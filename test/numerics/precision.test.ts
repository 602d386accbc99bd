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
  contract(x, w, { left: [0, 1], right: [2, 1], result: [0, 2] }, ["batch", "out"]);

describe("precision", () => {
  const world = makeWorld(1);
  const x = draw(world, { batch: "3", width: 5 });
  const arena = draw(world, { arena: 30 });
  const weight = parameter(arena.edge, "w", 4, shapeOf(world, { out: 2, width: 5 }));
  const before = program([x.edge, arena.edge], formula("y * 2", { y: matmul(x.edge, weight) }));

  it("leaves a program in f32 as it is", () => {
    expect(precision(before, "f32")).toBe(before);
  });

  it.each(["bf16", "f16"] as const)("casts what products read to %s, and nothing else", (wanted) => {
    const after = precision(before, wanted);
    verifyProgram(after, "precision");
    expect(printProgram(after)).toBe(
      [
        'program "p"',
        '%0 = input "t0" given : f32[batch, width=5]',
        '%1 = input "t1" given : f32[arena=30]',
        '%2 = parameter(%1) "w" offset=4 : f32[out=2, width=5]',
        `%3 = cast(%0) : ${wanted}[batch, width=5]`,
        `%4 = cast(%2) : ${wanted}[out=2, width=5]`,
        "%5 = contract(%3, %4) left=[0, 1] right=[2, 1] result=[0, 2] : f32[batch, out=2]",
        '%6 = pointwise(%5) "x0 * 2" : f32[batch, out=2]',
        "inputs %0 %1",
        'output "y" = %6',
        "",
      ].join("\n"),
    );
  });

  it.each([["bf16", roundToBf16] as const, ["f16", (value: number) => roundToF16(Math.fround(value))] as const])(
    "computes with operands rounded to %s and exact sums",
    (wanted, round) => {
      const after = precision(before, wanted);
      expectEach(world, after.outputs.get("y")!, (i) => {
        let sum = 0;
        for (let width = 0; width < 5; width++) {
          sum += round(at(x, { ...i, width })) * round(arena.data[4 + i["out"]! * 5 + width]!);
        }
        return 2 * sum;
      });
    },
  );

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
      }
      expect([...after.outputs.values()].every((edge) => edge.dtype === "f32")).toBe(true);
    },
  );
});
