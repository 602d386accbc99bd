// A program's text is the program: what is printed and read again is the same nodes.
import { describe, expect, it } from "vitest";
import { constant as dim, symbol } from "../../compiler/graph/dim.ts";
import { nodesOf, programEdges, type Program } from "../../compiler/graph/node.ts";
import { parseProgram } from "../../compiler/graph/parse.ts";
import { printProgram, printTrace } from "../../compiler/graph/print.ts";
import { verifyProgram } from "../../compiler/graph/verify.ts";
import { formula } from "../../compiler/ops/pointwise.ts";
import { constant, input } from "../../compiler/ops/source.ts";
import { OPERATORS } from "../../compiler/ops/table.ts";
import { everyOperation } from "./every-operation.ts";
import { transformer } from "./transformer.ts";

function expectSame(read: Program, program: Program): void {
  expect(read.name).toBe(program.name);
  expect(read.inputs.every((edge, i) => edge === program.inputs[i])).toBe(true);
  expect([...read.outputs.keys(), ...read.next.keys()]).toEqual([...program.outputs.keys(), ...program.next.keys()]);
  const edges = programEdges(program);
  programEdges(read).forEach((edge, i) => {
    if (edge !== edges[i]) throw new Error(`edge ${String(i)} is another one`);
  });
  expect(read.equalities).toEqual(program.equalities);
}

describe("text of programs", () => {
  it("prints and reads every operation", () => {
    const program = everyOperation();
    verifyProgram(program, "test");
    const used = new Set(nodesOf(programEdges(program)).map((node) => node.operation.op));
    expect([...used].sort()).toEqual(Object.keys(OPERATORS).sort());
    const text = printProgram(program);
    expectSame(parseProgram(text), program);
    expect(printProgram(parseProgram(text))).toBe(text);
  });

  it("reads a long transformer in reasonable time", () => {
    const program = transformer({ depth: 12, width: 16, heads: 4 });
    expectSame(parseProgram(printProgram(program)), program);
  });

  it("is readable", () => {
    const x = input("x", "f32", [
      { name: "batch", size: symbol("batch") },
      { name: "width", size: dim(1152) },
    ]);
    const y = formula("a * sigmoid(a)", { a: x });
    const program = { name: "silu", inputs: [x], outputs: new Map([["y", y]]), next: new Map(), equalities: [] };
    expect(printProgram(program)).toBe(
      [
        'program "silu"',
        '%0 = input "x" given : f32[batch, width=1152]',
        '%1 = pointwise(%0) "x0 * sigmoid(x0)" : f32[batch, width=1152]',
        "inputs %0",
        'output "y" = %1',
        "",
      ].join("\n"),
    );
  });

  it("shortens tables in traces", () => {
    const table = constant(
      Array.from({ length: 100 }, (_, i) => i),
      "f32",
      [{ name: "at", size: dim(100) }],
    );
    const program = { name: "t", inputs: [], outputs: new Map([["y", table]]), next: new Map(), equalities: [] };
    expect(printTrace(program)).toMatch(/^%0 = constant #[0-9a-f]{12} \(100 values\) : f32\[at=100\]$/m);
  });

  it.each([
    ['program "x"\n%0 = sorcery : f32[]', "there is no operation `sorcery`"],
    ['program "x"\n%0 = cast(%7) : f32[]', "%7 is not a result of an earlier line"],
    ['program "x"\n%0 = size : f32[]', "size: of is missing, or no size"],
    ['program "x"\n%0 = size of=4 : f33[]', "there is no type `f33`"],
    ['program "x"\n%0 = size of=4 : f32[n=3]', "size: the types are not those of the operation"],
    ['program "x"\n%0 = constant [1] : f32[]\n%1 = pointwise(%0) "x0 +" : f32[]', "expected a value, found the end"],
    ['program "x"\nwonder %0', "`wonder` begins no line"],
    ['program "x"\n%0 = size of=4 & 5 : f32[]', "`&` is not part of a graph"],
    ["%0 = size of=4 : f32[]", "expected a word, found `%0`"],
  ])("refuses %j", (text, message) => {
    expect(() => parseProgram(text)).toThrow(message);
  });
});
