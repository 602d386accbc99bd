/** Fused kernels against the unfused float64 interpreter: the same program, generated, compiled and run. */
import { afterAll, describe, expect, test } from "vitest";
import { constant as size, symbol } from "../../compiler/graph/dim.ts";
import type { Edge } from "../../compiler/graph/node.ts";
import type { Shape } from "../../compiler/graph/shape.ts";
import { concat, expand, pad, permute, rearrange, slice, split } from "../../compiler/ops/layout.ts";
import { cast, formula } from "../../compiler/ops/pointwise.ts";
import { attention } from "../../compiler/ops/attention.ts";
import { contract } from "../../compiler/ops/contract.ts";
import { reduce } from "../../compiler/ops/reduce.ts";
import { gather } from "../../compiler/ops/gather.ts";
import { constant, index, input, parameter, random, size as sizeOf } from "../../compiler/ops/source.ts";
import { gradients } from "../../compiler/passes/differentiate.ts";
import { cpu, program, relativeError, runBoth } from "./on-cpu.ts";

const batch = { name: "batch", size: symbol("batch") };
const tokens = { name: "tokens", size: symbol("tokens") };
const width = (n: number): Shape[number] => ({ name: "width", size: size(n) });

function noise(count: number, seed = 1): Float32Array {
  let state = seed * 2654435761;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

afterAll(async () => {
  await (await cpu()).close();
});

async function agrees(
  subject: ReturnType<typeof program>,
  given: Record<string, ArrayLike<number>>,
  symbols: Record<string, number> = {},
) {
  const { expected, got, plan } = await runBoth(subject, new Map(Object.entries(given)), symbols);
  for (const [name, values] of expected) expect(relativeError(values, got.get(name)!), name).toBeLessThan(2e-6);
  return plan;
}

function layerNorm(x: Edge): Edge {
  const count = sizeOf(x.shape.at(-1)!.size, "f32");
  const mean = formula("s / n", { s: reduce("sum", x, ["width"]), n: count });
  const centred = formula("x - m", { x, m: mean });
  const variance = formula("s / n", { s: reduce("sum", formula("c * c", { c: centred }), ["width"]), n: count });
  return formula("c * rsqrt(v + 1e-6)", { c: centred, v: variance });
}

describe("element-wise chains", () => {
  test("broadcast by names, in one kernel", async () => {
    const x = input("x", "f32", [batch, tokens, width(13)]);
    const gate = input("gate", "f32", [batch, width(13)]);
    const y = formula("a * b", { a: formula("x + 1.0", { x }), b: gate });
    const plan = await agrees(
      program("p", [x, gate], { y }),
      { x: noise(2 * 5 * 13), gate: noise(26, 2) },
      { batch: 2, tokens: 5 },
    );
    expect(plan.programs["p"]!.steps).toHaveLength(1);
  });

  test("slices, splits, permutations, pads and joins", async () => {
    const x = input("x", "f32", [batch, tokens, width(12)]);
    const [a, b] = split(x, "width", [size(5), size(7)]);
    const joined = concat(
      [formula("tanh(b)", { b: b! }), formula("a + 1.0", { a: a! }), slice(x, "width", 3, 2)],
      "width",
    );
    const turned = permute(joined, ["width", "tokens", "batch"]);
    const padded = pad(formula("x * 2.0", { x: turned }), "tokens", size(1), size(2));
    const flat = rearrange(turned, [[size(14)], [tokens.size], [batch.size]], [[2, 0], [1]], ["mixed", "tokens"]);
    await agrees(
      program("p", [x], { padded, flat: formula("f - 0.5", { f: flat }), joined }),
      { x: noise(3 * 4 * 12) },
      { batch: 3, tokens: 4 },
    );
  });

  test("gathered rows and index arithmetic", async () => {
    const table = input("table", "f32", [{ name: "row", size: size(9) }, width(6)]);
    const at = input("at", "i32", [batch]);
    const rows = gather(table, at, "row");
    const y = formula("r * f32(i)", { r: rows, i: expand(index("batch", batch.size), rows.shape) });
    await agrees(program("p", [table, at], { y }), { table: noise(54), at: Int32Array.of(8, 0, 3, 3) }, { batch: 4 });
  });

  test("random draws and their uses", async () => {
    const seed = input("seed", "u32", []);
    const step = input("step", "u32", []);
    const x = input("x", "f32", [batch, width(33)]);
    const draw = random("normal", "noise", x.shape, seed, step);
    const y = formula("x + 0.1 * d", { x, d: draw });
    await agrees(program("p", [seed, step, x], { y, draw }), { seed: [7], step: [11], x: noise(99) }, { batch: 3 });
  });
});

describe("rows and columns", () => {
  test("layer norm is one kernel, and so is its gradient", async () => {
    const x = input("x", "f32", [batch, tokens, width(37)]);
    const scale = input("scale", "f32", [batch, width(37)]);
    const normal = formula("n * (1.0 + s)", { n: layerNorm(x), s: scale });
    const loss = reduce("sum", formula("y * y * y", { y: normal }), ["batch", "tokens", "width"]);
    const [dx, dscale] = gradients(loss, [x, scale]);
    const given = { x: noise(2 * 7 * 37), scale: noise(74, 3) };
    const forward = await agrees(program("forward", [x, scale], { normal }), given, { batch: 2, tokens: 7 });
    expect(forward.programs["forward"]!.steps).toHaveLength(1);
    const plan = await agrees(program("p", [x, scale], { loss, dx: dx!, dscale: dscale! }), given, {
      batch: 2,
      tokens: 7,
    });
    expect(plan.programs["p"]!.steps.length).toBeLessThanOrEqual(5);
  });

  test("sums over everything, over columns, over both", async () => {
    const x = input("x", "f32", [batch, tokens, width(10)]);
    const total = reduce("sum", x, ["batch", "tokens", "width"]);
    const columns = reduce("sum", formula("x * x", { x }), ["batch", "tokens"]);
    const perBatch = reduce("max", x, ["tokens"]);
    const middle = reduce("sum", x, ["batch", "width"]);
    await agrees(
      program("p", [x], { total, columns, perBatch, middle }),
      { x: noise(3 * 41 * 10) },
      { batch: 3, tokens: 41 },
    );
  });
});

describe("state", () => {
  test("is replaced in place, and parameters are ranges of an arena", async () => {
    const arena = input("parameters", "f32", [{ name: "parameter", size: size(24) }], "state");
    const weight = parameter(arena, "w", 4, [
      { name: "out", size: size(4) },
      { name: "in", size: size(5) },
    ]);
    const rows = reduce("sum", weight, ["in"]);
    const next = formula("p * 0.5 + 1.0", { p: arena });
    const plan = await agrees(program("p", [arena], { rows }, { parameters: next }), { parameters: noise(24) });
    expect(plan.programs["p"]!.buffers.filter((buffer) => buffer.kind === "temporary")).toHaveLength(0);
  });

  test("is copied when another kernel still reads the old value", async () => {
    const a = input("a", "f32", [width(8)], "state");
    const b = input("b", "f32", [width(8)], "state");
    await agrees(program("p", [a, b], {}, { a: b, b: a }), { a: noise(8), b: noise(8, 5) });
  });
});

describe("a gradient that adds up over small batches", () => {
  test("is added where it is made, each range by the kernel of its parameter", async () => {
    const x = input("x", "f32", [batch, width(12)]);
    const weight = input("weight", "f32", [
      { name: "out", size: size(7) },
      { name: "in", size: size(12) },
    ]);
    const bias = input("bias", "f32", [width(7)]);
    const arena = input("gradient", "f32", [{ name: "parameter", size: size(91) }], "state");
    const micro = input("micro", "i32", []);
    const product = contract(x, weight, { left: [0, 1], right: [2, 1], result: [0, 2] }, ["batch", "width"]);
    const y = formula("tanh(y + b)", { y: product, b: bias });
    const found = gradients(reduce("sum", y, ["batch", "width"]), [weight, bias]);
    const parts = found.map((g, i) => {
      const before = parameter(arena, `p${i}`, i === 0 ? 0 : 84, g.shape);
      const sum = formula("select(micro == 0, 0, before) + g", { micro, before, g });
      const sizes = sum.shape.map((axis) => [axis.size]);
      return rearrange(sum, sizes, [sizes.map((_, axis) => axis)], ["parameter"]);
    });
    const subject = program("p", [x, weight, bias, arena, micro], {}, { gradient: concat(parts, "parameter") });
    const given = { x: noise(36), weight: noise(84, 2), bias: noise(7, 3), gradient: noise(91, 4) };
    for (const at of [0, 1]) {
      const plan = await agrees(subject, { ...given, micro: [at] }, { batch: 3 });
      // The forward product, dy and its sum, and the weight's gradient: nothing is copied, nothing added afterwards.
      expect(plan.programs["p"]!.steps.length).toBeLessThanOrEqual(3);
      const touched = plan.programs["p"]!.buffers.filter(({ name }) => name.startsWith("next."));
      expect(touched).toEqual([]);
    }
  });
});

describe("what depends on sizes alone", () => {
  test("is computed when a shape is bound", async () => {
    const x = input("x", "f32", [tokens, width(4)]);
    const angle = formula("f64(t) * f", {
      t: expand(index("tokens", tokens.size), [tokens, width(4)]),
      f: constant([1, 0.1, 0.01, 0.001], "f64", [width(4)]),
    });
    const table = cast(formula("sin(a)", { a: angle }), "f32");
    const y = formula("x + s", { x, s: reduce("sum", formula("t * t", { t: table }), ["tokens"]) });
    const plan = await agrees(program("p", [x], { y }), { x: noise(28) }, { tokens: 7 });
    expect(plan.programs["p"]!.steps.some((step) => step.once)).toBe(true);
  });
});

describe("a transformer block", () => {
  const axis = (name: string, n: number): Shape[number] => ({ name, size: size(n) });
  const linear = (x: Edge, weight: Edge, bias: Edge): Edge => {
    const lead = x.shape.slice(0, -1).map((_, i) => i);
    const labels = { left: [...lead, 90], right: [91, 90], result: [...lead, 91] };
    const y = contract(
      x,
      weight,
      labels,
      x.shape.map((each) => each.name),
    );
    return formula("y + b", { y, b: bias });
  };

  test("and its gradient, with masks and gates", async () => {
    const [D, H] = [24, 3];
    const x = input("x", "f32", [batch, tokens, width(D)]);
    const gate = input("gate", "f32", [batch, width(D)]);
    const lengths = input("lengths", "i32", [batch]);
    const weights = ["q", "k", "v", "o"].map((name) => input(name, "f32", [axis("out", D), axis("in", D)]));
    const bias = input("bias", "f32", [width(D)]);
    const up = input("up", "f32", [axis("out", 4 * D), axis("in", D)]);
    const upBias = input("upBias", "f32", [width(4 * D)]);
    const down = input("down", "f32", [axis("out", D), axis("in", 4 * D)]);
    const heads = (y: Edge, name: string): Edge =>
      rearrange(
        y,
        [[batch.size], [tokens.size], [size(H), size(D / H)]],
        [[0], [1], [2], [3]],
        ["batch", name, "heads", "head"],
      );
    const n = formula("n * (1.0 + g)", { n: layerNorm(x), g: gate });
    const [q, k, v] = weights.map((weight, i) => heads(linear(n, weight, bias), i === 0 ? "tokens" : "keys"));
    const { o } = attention(
      { q: q!, k: k!, v: v!, lengths: [lengths] },
      {
        heads: "heads",
        queries: "tokens",
        keys: "keys",
        head: "head",
        scale: (D / H) ** -0.5,
        causal: false,
        segments: [tokens.size],
      },
    );
    const merged = rearrange(
      o,
      o.shape.map((each) => [each.size]),
      [[0], [1], [2, 3]],
      ["batch", "tokens", "width"],
    );
    const h = formula("x + g * y", { x, g: gate, y: linear(merged, weights[3]!, bias) });
    const f = formula("0.5 * x * (1 + tanh(0.79788456 * (x + 0.044715 * x^3)))", {
      x: linear(layerNorm(h), up, upBias),
    });
    const y = formula("x + g * y", { x: h, g: gate, y: linear(f, down, bias) });
    const loss = reduce("sum", formula("y * y", { y }), ["batch", "tokens", "width"]);
    const wanted = { x, gate, q: weights[0]!, k: weights[1]!, v: weights[2]!, o: weights[3]!, bias, up, upBias, down };
    const found = gradients(loss, Object.values(wanted));
    const outputs = Object.fromEntries(Object.keys(wanted).map((name, i) => [`d${name}`, found[i]!]));
    const inputs = [...Object.values(wanted), lengths];
    const given = {
      x: noise(3 * 17 * D),
      gate: noise(3 * D, 2),
      lengths: Int32Array.of(17, 5, 9),
      ...Object.fromEntries(
        ["q", "k", "v", "o"].map((name, i) => [name, noise(D * D, 10 + i).map((each) => each * 0.3)]),
      ),
      bias: noise(D, 4),
      up: noise(4 * D * D, 5).map((each) => each * 0.2),
      upBias: noise(4 * D, 6),
      down: noise(4 * D * D, 7).map((each) => each * 0.2),
    };
    await agrees(program("p", inputs, { y, loss, ...outputs }), given, { batch: 3, tokens: 17 });
  });
});
