// A broken graph is found, with the name of the pass that broke it.
import { describe, expect, it } from "vitest";
import { constant as dim, symbol } from "../../compiler/graph/dim.ts";
import { makeNode, type Edge, type Operation, type Program, type TensorType } from "../../compiler/graph/node.ts";
import { verifyProgram } from "../../compiler/graph/verify.ts";
import { only } from "../../compiler/ops/only.ts";
import { input, parameter, random } from "../../compiler/ops/source.ts";
import { transformer } from "./transformer.ts";

const f32 = (...names: string[]): TensorType => ({
  dtype: "f32",
  shape: names.map((name) => ({ name, size: symbol(name) })),
});
const x = input("x", "f32", f32("batch", "width").shape);

const program = (outputs: readonly Edge[], changes: Partial<Program> = {}): Program => ({
  name: "p",
  inputs: [x],
  outputs: new Map(outputs.map((edge, i) => [String(i), edge])),
  next: new Map(),
  equalities: [],
  ...changes,
});

const make = (operation: Operation, inputs: readonly Edge[], type: TensorType): Edge =>
  only(makeNode(operation, inputs, [type]));

describe("verifyProgram", () => {
  it.each<readonly [string, () => Program, string]>([
    [
      "a wrong type",
      () => program([make({ op: "reduce", operation: "sum", axes: ["width"] }, [x], f32("width"))]),
      "result 0 is f32[width], and should be f32[batch]",
    ],
    [
      "an axis that is not there",
      () => program([make({ op: "reduce", operation: "sum", axes: ["depth"] }, [x], f32("batch"))]),
      "(reduce): the axes are not the input's",
    ],
    ["a foreign result", () => program([{ ...x }]), "a result is not its own"],
    ["an input that is not listed", () => program([x], { inputs: [] }), 'input "x": the program does not list it'],
    [
      "two inputs of one name",
      () => {
        const other = input("x", "f32", []);
        return program([other], { inputs: [x, other] });
      },
      'input "x": two different ones have this name',
    ],
    [
      "two parameters of one name",
      () => {
        const arena = input("a", "f32", f32("arena").shape);
        const [one, two] = [parameter(arena, "w", 0, []), parameter(arena, "w", 4, [])];
        return program([one, two], { inputs: [x, arena] });
      },
      'parameter "w": two different ones',
    ],
    [
      "draws of one path and two shapes",
      () => {
        const word = input("word", "u32", []);
        const draws = [[], x.shape].map((shape) => random("normal", "path", shape, word, word));
        return program(draws, { inputs: [x, word] });
      },
      'random "path": two different ones',
    ],
    [
      "a next for what is given",
      () => program([], { next: new Map([["x", x]]) }),
      'next "x": the input of that name is given, and no state',
    ],
    [
      "a next of another type",
      () => {
        const state = input("s", "bf16", x.shape, "state");
        return program([state], { inputs: [x, state], next: new Map([["s", x]]) });
      },
      "f32[batch, width] cannot replace bf16[batch, width]",
    ],
    [
      "two axes of one name",
      () => {
        const groups = [[0], [1]];
        const split = x.shape.map((axis) => [axis.size]);
        const shape = x.shape.map(({ size }) => ({ name: "n", size }));
        return program([make({ op: "rearrange", split, groups, names: ["n", "n"] }, [x], { dtype: "f32", shape })]);
      },
      "result 0 has two axes of one name",
    ],
    [
      "parts that do not add up",
      () => program([make({ op: "slice", axis: "batch", start: dim(0), size: dim(2) }, [x], f32("batch", "width"))]),
      "should be f32[batch=2, width]",
    ],
  ])("finds %s", (_, build, message) => {
    expect(() => verifyProgram(build(), "shard")).toThrow('compiler bug in shard: program "p"');
    expect(() => verifyProgram(build(), "shard")).toThrow(message);
  });

  it("takes the first value of a state that the program does not read", () => {
    verifyProgram(program([], { next: new Map([["fresh", x]]) }), "test");
  });

  it("is quick, and quicker the second time", () => {
    const large = transformer({ depth: 28, width: 16, heads: 4 });
    const start = performance.now();
    verifyProgram(large, "test");
    const first = performance.now() - start;
    verifyProgram(large, "test");
    const second = performance.now() - start - first;
    expect(first).toBeLessThan(1000);
    expect(second).toBeLessThan(first);
  });
});
