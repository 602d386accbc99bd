// Both sides of every rule, on random inputs: what a rule builds has the type and the values of what it matched.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DTYPES, type DType } from "../../contract/dtype.ts";
import { evaluateSize } from "../../contract/size.ts";
import { constant as dim, subtract, symbol, toSize, type Dim } from "../../compiler/graph/dim.ts";
import { programEdges, nodesOf, type Edge, type Program } from "../../compiler/graph/node.ts";
import { verifyProgram } from "../../compiler/graph/verify.ts";
import { contract } from "../../compiler/ops/contract.ts";
import { concat, expand, permute, rearrange, rename, slice, split, zerosLike } from "../../compiler/ops/layout.ts";
import { cast, formula, stopGradient } from "../../compiler/ops/pointwise.ts";
import { reduce } from "../../compiler/ops/reduce.ts";
import { constant, input } from "../../compiler/ops/source.ts";
import { rewriteProgram, rule } from "../../compiler/passes/rewrite.ts";
import { RULES, simplify } from "../../compiler/passes/simplify.ts";
import { transformer } from "../graph/transformer.ts";
import { draw, evaluate, makeWorld, shapeOf, type World } from "../numerics/tensors.ts";

const pick = <Item>(world: World, items: readonly Item[]): Item => items[Math.floor(world.random() * items.length)]!;
const upTo = (world: World, count: number): number => 1 + Math.floor(world.random() * count);
const shuffled = <Item>(world: World, items: readonly Item[]): Item[] =>
  items
    .map((item) => [world.random(), item] as const)
    .sort(([a], [b]) => a - b)
    .map(([, item]) => item);

/** A tensor of sizes 2 to 4 (so that no axis is one element by chance), some of them symbols. */
function tensor(world: World, names: readonly string[], dtype: DType = "f32"): Edge {
  const axes = names.map((name) => [name, pick(world, [2, 3, 4, "2", "3", "4"] as const)] as const);
  return draw(world, Object.fromEntries(axes), dtype).edge;
}

/** Factors of the axes grouped at random, and a random choice of what stays together. */
function regroup(world: World, x: Edge, cuts: readonly (readonly Dim[])[], prefix: string): Edge {
  const order = shuffled(
    world,
    cuts.flat().map((_, factor) => factor),
  );
  const groups: number[][] = [[]];
  for (const factor of order) {
    if (world.random() < 0.5) groups.push([]);
    groups.at(-1)!.push(factor);
  }
  return rearrange(
    x,
    cuts,
    groups,
    groups.map((_, i) => `${prefix}${String(i)}`),
  );
}

/** A tensor for which a rule must apply at the root, for each rule. */
const examples: Readonly<Record<string, (world: World) => Edge | readonly Edge[]>> = {
  expandOfExpand: (world) => {
    const x = tensor(world, ["a"]);
    const wide = expand(x, [...shapeOf(world, { b: 2 }), ...x.shape]);
    return expand(wide, shuffled(world, [...wide.shape, ...shapeOf(world, { c: "3" })]));
  },
  rearrangeInPlace: (world) => {
    const x = draw(world, { a: "3", unit: 1, b: 6 }).edge;
    return rearrange(x, [[symbol("a")], [], [dim(2), dim(3)]], [[0], [], [1, 2]], ["a", "unit", "b"]);
  },
  rearrangeOfRearrange: (world) => {
    const x = draw(world, { a: 4, b: "3", c: 6, unit: 1 }).edge;
    const cut = pick(world, [[dim(6)], [dim(2), dim(3)], [dim(3), dim(2)], [dim(3), dim(1), dim(2)]]);
    const once = regroup(world, x, [[dim(2), dim(2)], [symbol("b")], cut, pick(world, [[], [dim(1)]])], "m");
    // Whole axes, or each axis in the factors it was made of: both cut through cleanly.
    const whole = world.random() < 0.5;
    const operation = once.node.operation;
    if (operation.op !== "rearrange") throw new Error("it moved nothing");
    const factors = operation.split.flat();
    const cuts = operation.groups.map((group, i) =>
      whole ? [once.shape[i]!.size] : group.map((factor) => factors[factor]!),
    );
    return regroup(world, once, cuts, "n");
  },
  rearrangeShorter: (world) => {
    const x = draw(world, { a: "3", b: 6 }).edge;
    return rearrange(x, [[symbol("a")], [dim(2), dim(1), dim(3)]], [[1, 2, 3], [], [0]], ["b", "unit", "a"]);
  },
  sliceOfSlice: (world) => {
    const x = draw(world, { a: "9", b: 3 }).edge;
    return slice(slice(x, "a", upTo(world, 3), dim(5)), "a", upTo(world, 2), upTo(world, 3));
  },
  splitOfConcat: (world) => {
    const [x, y] = [draw(world, { a: 2, b: "3" }).edge, draw(world, { b: "3", a: 4 }).edge];
    return split(concat([x, y, x], "a"), "a", [dim(2), dim(4), dim(2)]);
  },
  concatOfSplit: (world) => {
    const x = draw(world, { a: 2, b: "9" }).edge;
    const parts = split(x, "b", [dim(2), dim(3), dim(1), subtract(symbol("b"), 6)]);
    const from = pick(world, [0, 1, 2]);
    return concat(parts.slice(from, pick(world, [from + 2, 4])), "b");
  },
  contractOfPermute: (world) => {
    const x = draw(world, { batch: "2", m: 3, k: 4 }).edge;
    const y = draw(world, { n: 5, batch: "2", k: 4 }).edge;
    const turned = permute(x, shuffled(world, ["k", "batch", "m"]));
    const other = pick(world, [y, rename(permute(y, ["k", "n", "batch"]), ["one", "two", "three"])]);
    const labelsX = turned.shape.map(({ name }) => ({ batch: 0, m: 1, k: 2 })[name]!);
    const labelsY = other.shape.map(({ name }) => ({ n: 3, batch: 0, k: 2, one: 2, two: 3, three: 0 })[name]!);
    return contract(turned, other, { left: labelsX, right: labelsY, result: [1, 0, 3] }, ["m", "batch", "n"]);
  },
  castOfCast: (world) => {
    const from = pick(world, ["bf16", "f16", "u8", "bool", "f32"] as const);
    const through = { bf16: "f32", f16: "f64", u8: "bf16", bool: "u8", f32: "f64" } as const;
    const exact = cast(draw(world, { a: 5 }, "f32", -3, 300).edge, from);
    const x = from === "f32" ? draw(world, { a: 5 }).edge : exact;
    return cast(
      cast(x, through[from]),
      pick(
        world,
        DTYPES.filter((dtype) => dtype !== through[from]),
      ),
    );
  },
  stopGradientIsOver: (world) => stopGradient(tensor(world, ["a", "b"])),
  reduceOfReduce: (world) => {
    const operation = pick(world, ["sum", "max", "min"] as const);
    const [first, ...rest] = shuffled(world, ["a", "b", "c"]);
    return reduce(
      operation,
      reduce(operation, tensor(world, ["a", "b", "c"]), [first!]),
      rest.slice(0, upTo(world, 2)),
    );
  },
  reduceOfExpand: (world) => {
    const x = tensor(world, ["a", "b"]);
    const wide = expand(x, shuffled(world, [...x.shape, ...shapeOf(world, { c: "3", d: 2 })]));
    const axes = ["c", ...shuffled(world, ["a", "b", "d"]).slice(0, upTo(world, 3) - 1)];
    return reduce(pick(world, ["sum", "max", "min"] as const), wide, axes);
  },
  zerosAndOnes: (world) => {
    const x = tensor(world, ["a", "b"]);
    const one = constant([1], "f32", []);
    const text = pick(world, [
      "x + z",
      "z + x",
      "x * o",
      "z - x",
      "x - z * x",
      "o / x",
      "select(x > z, x * o, z)",
      "exp(z) * x - -z",
    ]);
    return formula(text, { x, z: zerosLike(x), o: pick(world, [one, expand(one, x.shape)]) });
  },
  pointwiseOfExpand: (world) => {
    const [x, y] = [draw(world, { a: 3, b: "2" }).edge, draw(world, { a: 3, c: 4 }).edge];
    const shape = shuffled(world, [...x.shape, y.shape[1]!]);
    const wide = draw(world, Object.fromEntries(shape.map(({ name, size }) => [name, sizeOf(world, size)]))).edge;
    const typed = input(inputNameOf(wide), "f32", shape);
    const others = pick(world, [{ z: typed }, { z: expand(y, shape) }, { z: expand(reduce("sum", x, ["b"]), shape) }]);
    return formula("x * 2 + z", { x: expand(x, shape), ...others });
  },
};

const sizeOf = (world: World, dim: Dim): number => evaluateSize(toSize(dim), world.symbols);

const inputNameOf = (edge: Edge): string => (edge.node.operation.op === "input" ? edge.node.operation.name : "");

const programOf = (edges: readonly Edge[]): Program => ({
  name: "p",
  inputs: nodesOf(edges).flatMap((node) => (node.operation.op === "input" ? node.results : [])),
  outputs: new Map(edges.map((edge, i) => [String(i), edge])),
  next: new Map(),
  equalities: [],
});

function expectSameValues(world: World, before: readonly Edge[], after: readonly Edge[]): void {
  before.forEach((edge, i) => {
    const other = after[i]!;
    expect([other.dtype, other.shape]).toEqual([edge.dtype, edge.shape]);
    const [want, found] = [evaluate(world, edge).data, evaluate(world, other).data];
    expect(found.length).toBe(want.length);
    found.forEach((value, at) => {
      if (!Object.is(value, want[at]) && !(Math.abs(value - want[at]!) <= 1e-9 * (1 + Math.abs(want[at]!)))) {
        throw new Error(`element ${String(at)}: ${String(value)}, not ${String(want[at])}`);
      }
    });
  });
}

describe("every rule", () => {
  it("has an example", () => {
    expect(Object.keys(examples).sort()).toEqual(RULES.map(({ name }) => name).sort());
  });

  it.each(RULES.map((each) => [each.name, each] as const))("%s keeps type and values", (name, each) => {
    let applied = 0;
    fc.assert(
      fc.property(fc.nat(), (seed) => {
        const world = makeWorld(seed);
        const made = examples[name]!(world);
        const before = "node" in made ? [made] : made;
        const node = before[0]!.node;
        if (node.operation.op !== each.root) return; // the constructors were quicker
        const alone = each.rewrite(node, () => false);
        if (alone !== undefined) {
          applied++;
          expectSameValues(world, node.results, alone);
        }
        const program = programOf(before);
        verifyProgram(program, "test");
        const all = simplify(program);
        verifyProgram(all, "simplify");
        expectSameValues(world, before, [...all.outputs.values()]);
        expect(nodesOf([...all.outputs.values()]).length).toBeLessThanOrEqual(nodesOf(before).length + 2);
      }),
      { numRuns: 60, seed: 7 },
    );
    expect(applied).toBeGreaterThan(30);
  });

  it("names the cycle of rules that undo each other", () => {
    const world = makeWorld(1);
    const x = tensor(world, ["a", "b"]);
    const turn = (name: string, order: readonly string[]) =>
      rule(name, "stopGradient", {
        because: "it is wrong",
        match: (_, [inner]) => inner,
        build: (inner) => stopGradient(formula(`x + ${String(order.length)}`, { x: inner })),
      });
    const program = programOf([stopGradient(x)]);
    expect(() => rewriteProgram(program, [turn("forth", ["a"])])).toThrow("rules undo each other: forth -> forth");
  });
});

describe("simplify", () => {
  it("keeps the values of a transformer and its gradients, and is idempotent", () => {
    const program = transformer({ depth: 2, width: 8, heads: 2 });
    const world = makeWorld(3);
    world.symbols.set("batch", 2).set("tokens", 3);
    for (const edge of program.inputs) {
      const count = edge.shape.reduce((total, { size }) => total * sizeOf(world, size), 1);
      const integer = edge.dtype === "i32";
      world.given.set(
        inputNameOf(edge),
        Float64Array.from({ length: count }, () => (integer ? upTo(world, 3) : world.random() - 0.5)),
      );
    }
    const simpler = simplify(program);
    verifyProgram(simpler, "simplify");
    expectSameValues(world, [...program.outputs.values()], [...simpler.outputs.values()]);
    expect(nodesOf(programEdges(simpler)).length).toBeLessThan(nodesOf(programEdges(program)).length);
    const again = simplify(simpler);
    programEdges(simpler).forEach((edge, i) => {
      if (programEdges(again)[i] !== edge) throw new Error(`edge ${String(i)} changed a second time`);
    });
  });
});
