// One program with every operation in it, and with names, tables and sizes that are hard to write down.
import {
  add,
  ceilSqrt,
  constant as dim,
  floorDiv,
  max,
  min,
  mod,
  multiply,
  subtract,
  symbol,
} from "../../compiler/graph/dim.ts";
import { makeNode, type Edge, type Program } from "../../compiler/graph/node.ts";
import { gather } from "../../compiler/ops/gather.ts";
import { concat, expand, pad, slice } from "../../compiler/ops/layout.ts";
import { only } from "../../compiler/ops/only.ts";
import { cast, formula, stopGradient } from "../../compiler/ops/pointwise.ts";
import { reduce } from "../../compiler/ops/reduce.ts";
import { constant, index, input, random } from "../../compiler/ops/source.ts";
import { transformer } from "./transformer.ts";

/** One program with every operation in it. */
export function everyOperation(): Program {
  const block = transformer({ depth: 1, width: 4, heads: 2 });
  const seed = input("seed", "u32", []);
  const step = input("step", "u32", []);
  const n = symbol("n");
  const table = Array.from({ length: 600 }, (_, i) => Math.sin(i) * 10 ** ((i % 40) - 20));
  const odd = constant([0.1, -0, NaN, Infinity, -Infinity, 1e-30, 1 / 3, 5e21], "f64", [
    { name: 'odd\'s "axis"', size: dim(8) },
  ]);
  return { ...block, name: 'every "operation"', ...extras() };

  function extras() {
    const noise = ["a", "b"].map((path) => randomOf(path, seed, step, n));
    const long = constant(table, "f32", [
      { name: "row", size: dim(60) },
      { name: "width", size: dim(10) },
    ]);
    const outputs = new Map([
      ...block.outputs,
      ...noise.map((edge, i) => [`noise ${String(i)}`, edge] as const),
      ["odd", odd],
      ...moreEdges(long, n),
    ]);
    const inputs = [
      ...block.inputs,
      seed,
      step,
      input("places", "i32", [{ name: "n", size: n }]),
      input("never read", "u8", []),
    ];
    const equalities = [{ left: n, right: multiply(symbol("frames"), 3), message: 'n is "three" frames' }];
    return { inputs, outputs, equalities };
  }
}

const randomOf = (path: string, seed: Edge, step: Edge, n: ReturnType<typeof dim>): Edge =>
  random(path === "a" ? "normal" : "uniform", `draw ${path}`, [{ name: "n", size: n }], seed, step);

function moreEdges(long: Edge, n: ReturnType<typeof dim>): [string, Edge][] {
  const places = input("places", "i32", [{ name: "n", size: n }]);
  const taken = gather(long, places, "row");
  const clone = only(
    makeNode({ op: "stopGradient" }, [taken], [{ dtype: taken.dtype, shape: taken.shape }], "clone 1"),
  );
  const wide = expand(reduce("max", clone, ["width"]), [...taken.shape, { name: "copy", size: dim(2) }]);
  const odd = max(min(floorDiv(n, 2), ceilSqrt(add(n, 7))), mod(multiply(n, n, symbol("frames")), 5));
  const padded = pad(taken, "n", add(multiply(n, -1), multiply(n, symbol("frames"), 2), 3), odd);
  const whole = concat([padded, padded], "n");
  const numbers = formula("x // 3 + i32(y > 0.5) * -2", { x: index("n", n), y: reduce("min", taken, ["width"]) });
  return [
    ["wide", wide],
    ["stopped", stopGradient(taken)],
    ["whole", slice(whole, "n", 1, subtract(n, floorDiv(n, 3)))],
    ["numbers", numbers],
    ["narrow", cast(taken, "bf16")],
    ["flag", cast(numbers, "bool")],
  ];
}
