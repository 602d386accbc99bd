// Attention under every mask: values against plain loops, gradients against central differences.
import { describe, expect, it } from "vitest";
import { constant as dim } from "../../compiler/graph/dim.ts";
import type { AttentionFacts } from "../../compiler/graph/node.ts";
import { attention } from "../../compiler/ops/attention.ts";
import { reduce } from "../../compiler/ops/reduce.ts";
import { gradients } from "../../compiler/passes/differentiate.ts";
import {
  at,
  draw,
  evaluate,
  expectEach,
  expectGradients,
  makeWorld,
  type Axes,
  type Drawn,
  type World,
} from "./tensors.ts";

interface Case {
  readonly title: string;
  readonly causal: boolean;
  readonly segments: readonly number[];
  /** For each segment, the lengths of the three samples. */
  readonly lengths: readonly (readonly number[])[];
}

const KEYS = 5;
const cases: readonly Case[] = [
  { title: "every key", causal: false, segments: [], lengths: [] },
  { title: "lengths, one of them 0", causal: false, segments: [5], lengths: [[5, 0, 2]] },
  {
    title: "padded text, then padded video",
    causal: false,
    segments: [2, 3],
    lengths: [
      [1, 2, 0],
      [3, 0, 0],
    ],
  },
  { title: "causal", causal: true, segments: [], lengths: [] },
  { title: "causal with lengths", causal: true, segments: [5], lengths: [[5, 1, 3]] },
  {
    title: "causal in two segments",
    causal: true,
    segments: [3, 2],
    lengths: [
      [0, 3, 2],
      [2, 1, 0],
    ],
  },
];

const facts = ({ causal, segments }: Case): AttentionFacts => ({
  heads: "heads",
  queries: "queries",
  keys: "keys",
  head: "head",
  scale: 0.6,
  causal,
  segments: segments.map(dim),
});

function build(world: World, each: Case, orders: { readonly q: Axes; readonly k: Axes; readonly v: Axes }) {
  const [q, k, v] = [draw(world, orders.q), draw(world, orders.k), draw(world, orders.v)];
  const lengths = each.lengths.map((values) => {
    const drawn = draw(world, { batch: "3" }, "i32");
    drawn.data.set(values);
    return drawn;
  });
  const inputs = { q: q.edge, k: k.edge, v: v.edge, lengths: lengths.map((tensor) => tensor.edge) };
  return { q, k, v, ...attention(inputs, facts(each)) };
}

/** The keys a query sees, straight from the definition. */
function visible(each: Case, batch: number, query: number): number[] {
  const segmentOf = (key: number): { readonly segment: number; readonly within: number } => {
    let within = key;
    for (const [segment, extent] of each.segments.entries()) {
      if (within < extent) return { segment, within };
      within -= extent;
    }
    throw new Error("beyond the last segment");
  };
  return Array.from({ length: KEYS }, (_, key) => key).filter((key) => {
    if (each.causal && key > query) return false;
    if (each.segments.length === 0) return true;
    const { segment, within } = segmentOf(key);
    return within < each.lengths[segment]![batch]!;
  });
}

const plain = {
  q: { batch: "3", queries: 4, heads: 2, head: 3 },
  k: { batch: "3", keys: 5, heads: 2, head: 3 },
  v: { batch: "3", keys: 5, heads: 2, head: 3 },
} as const;
const mixed = {
  q: { heads: 2, head: 3, batch: "3", queries: 4 },
  k: { keys: 5, batch: "3", heads: 2, head: 3 },
  v: { head: 3, heads: 2, keys: 5, batch: "3" },
} as const;

describe.each(cases)("attention with $title", (each) => {
  it.each([
    ["the usual order", plain],
    ["every operand in another order", mixed],
  ] as const)("is a softmax of the visible scores, %s", (_, orders) => {
    const world = makeWorld(31);
    const { q, k, v, o, lse } = build(world, each, orders);
    const score = (i: Readonly<Record<string, number>>, keys: number): number => {
      let sum = 0;
      for (let head = 0; head < 3; head++) sum += at(q, { ...i, head }) * at(k, { ...i, keys, head });
      return 0.6 * sum;
    };
    const total = (i: Readonly<Record<string, number>>): number =>
      visible(each, i["batch"]!, i["queries"]!).reduce((sum, key) => sum + Math.exp(score(i, key)), 0);
    expectEach(world, lse, (i) => Math.log(total(i)));
    expectEach(world, o, (i) => {
      const keys = visible(each, i["batch"]!, i["queries"]!);
      return keys.reduce((sum, key) => sum + (Math.exp(score(i, key)) / total(i)) * at(v, { ...i, keys: key }), 0);
    });
    expect(evaluate(world, o).data.some((value) => Number.isNaN(value))).toBe(false);
  });

  it("has the gradient of finite differences", () => {
    const world = makeWorld(32);
    const { q, k, v, o } = build(world, each, plain);
    expectGradients(world, [o], [q, k, v]);
    const other = makeWorld(33);
    const turned = build(other, each, mixed);
    expectGradients(other, [turned.o], [turned.q, turned.k, turned.v]);
  });
});

describe("attention", () => {
  it("takes several batch axes or none, and one tensor as keys and values", () => {
    const world = makeWorld(34);
    const only = cases[0]!;
    const q = draw(world, { queries: 2, heads: 1, head: 3 });
    const k = draw(world, { keys: 3, heads: 1, head: 3 });
    const made = attention({ q: q.edge, k: k.edge, v: k.edge, lengths: [] }, facts(only));
    expectGradients(world, [made.o], [q, k]);
    const frames = draw(world, { batch: "2", frames: 2, queries: 2, heads: 1, head: 2 });
    const keys = draw(world, { batch: "2", frames: 2, keys: 3, heads: 1, head: 2 });
    expectGradients(
      world,
      [attention({ q: frames.edge, k: keys.edge, v: keys.edge, lengths: [] }, facts(only)).o],
      [frames, keys],
    );
  });

  it("refuses lengths that are not whole numbers over the batch", () => {
    const world = makeWorld(35);
    const [q, k] = [draw(world, plain.q), draw(world, plain.k)];
    const refused =
      (lengths: Drawn): (() => unknown) =>
      () =>
        attention({ q: q.edge, k: k.edge, v: k.edge, lengths: [lengths.edge] }, facts(cases[1]!));
    expect(refused(draw(world, { batch: "3" }))).toThrow("the lengths of a mask are i32 over batch");
    expect(refused(draw(world, { keys: 5 }, "i32"))).toThrow("the lengths of a mask are i32 over batch");
  });

  it("has no gradient through the log-sum-exp", () => {
    const world = makeWorld(36);
    const { q, lse } = build(world, cases[0]!, plain);
    const loss = reduce("sum", lse, ["batch", "queries", "heads"]);
    expect(() => gradients(loss, [q.edge])).toThrow("the log-sum-exp of attention has no gradient");
  });
});
