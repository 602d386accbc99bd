/** A backward pass that computes again what blocks computed: the same numbers, in less memory. */
import { expect, test } from "vitest";
import { recompute, type Recomputation } from "../../compiler/passes/recompute.ts";
import { simplify } from "../../compiler/passes/simplify.ts";
import { isRecomputed, nodesOf, programEdges, type Program } from "../../compiler/graph/node.ts";
import { traceModel, type TracedModel } from "../../compiler/language/trace-model.ts";
import { loadModel } from "../../compiler/load-model.ts";
import { compilePlan } from "../../compiler/pipeline.ts";
import { elementsFrom } from "../../runtime/devices/elements.ts";
import { transformer } from "../graph/transformer.ts";
import { arenaFor, run, valuesFor, type Values } from "../language/models.ts";
import { cpu } from "./on-cpu.ts";
import { elementsOf } from "./tensors-of.ts";

const dit = await loadModel("models/dit.sora.ts");
const SMALL = {
  patch: 2,
  channels: 2,
  textDim: 6,
  hidden: 16,
  heads: 2,
  maxPositions: 9,
  mlpRatio: 2,
  learnSigma: false,
};
const CONDITIONINGS = ["adaln", "cross-attn", "token-concat", "self-cross"] as const;
const DEPTH = 6;

const modelOf = (conditioning: string, depth: number): TracedModel =>
  traceModel(dit, { config: { values: { ...SMALL, conditioning, depth }, source: { name: "this test" } } });

function valuesOf(model: TracedModel, program: Program, sizes: Readonly<Record<string, number>>): Values {
  const ones = (count: number): number[] => Array.from({ length: count }, () => 1);
  const all: Values = {
    ...{ parameters: arenaFor(model), step: [0], micro: [0], accumulation: [1], seed: [7] },
    ...{ video_mask: ones(sizes["batch"]! * sizes["tokens"]!), text_mask: ones(sizes["batch"]! * 3) },
  };
  const names = new Set(program.inputs.map(({ node }) => (node.operation.op === "input" ? node.operation.name : "")));
  const present = Object.fromEntries(Object.entries(all).filter(([name]) => names.has(name)));
  return valuesFor(program, sizes, present);
}

const sizesOf = (program: Program, tokens: number): Record<string, number> => ({
  ...{ batch: 2, tokens },
  ...(program.inputs.some(({ shape }) => shape.some(({ name }) => name === "textTokens")) ? { textTokens: 3 } : {}),
});

const PARTS: readonly (readonly [Recomputation, readonly string[]])[] = [
  [{ keepsDear: false, span: 1 }, ["blocks.0", "blocks.1", "blocks.2"]],
  [{ keepsDear: true, span: 1 }, ["blocks.0", "blocks.1", "blocks.2"]],
  // The third block is alone in its span, and nobody reads what it passes on but what comes after the stack.
  [{ keepsDear: false, span: 2 }, ["blocks.0", "blocks.0-1", "blocks.1", "blocks.2"]],
  [{ keepsDear: true, span: 5 }, ["blocks.0", "blocks.0-4", "blocks.1", "blocks.2"]],
];
const CASES = CONDITIONINGS.flatMap((conditioning) => PARTS.map((part) => [conditioning, ...part] as const));

test.each(CASES)("%s, %j: the same loss and gradient, bit by bit, in float64", (conditioning, how, parts) => {
  const model = modelOf(conditioning, 3);
  const kept = simplify(model.programs.get("accumulate")!());
  const again = recompute(kept, how);
  const clones = nodesOf(programEdges(again)).filter(({ identity }) => isRecomputed(identity));
  const identities = new Set(clones.map(({ identity }) => identity.replace(/^again | (of|but) .*/g, "")));
  expect([...identities].sort()).toEqual(parts);
  expect(clones.some(({ operation }) => operation.op === "attention")).toBe(!how.keepsDear);
  const sizes = sizesOf(kept, 5);
  const values = valuesOf(model, kept, sizes);
  expect(run(again, values, sizes)).toEqual(run(kept, values, sizes));
});

test("a loss without a stack is told what is missing", () => {
  const program = transformer({ depth: 1, width: 8, heads: 2 });
  expect(() => recompute(program, { keepsDear: false, span: 1 })).toThrow(
    "config: train.recompute is for the members of a stack, and the loss of this model depends on none\n" +
      "  fix: make its blocks with stack(…), or write train.recompute=none",
  );
});

test("a program without a loss is left alone", () => {
  const program = modelOf("adaln", 1).programs.get("update")!();
  expect(recompute(program, { keepsDear: false, span: 1 })).toBe(program);
});

test.each(CONDITIONINGS)(
  "%s: on the CPU, the gradient stays, and the more is computed again, the less memory it takes",
  async (conditioning) => {
    const memory = async (
      depth: number,
      recompute?: Recomputation,
    ): Promise<{ gradient: Float32Array; temporaries: number }> => {
      const model = modelOf(conditioning, depth);
      const program = model.programs.get("accumulate")!();
      const facts = { name: "test", config: {}, preset: undefined, recipe: {} };
      const { plan } = compilePlan({ model: facts, parameters: [], programs: [program], precision: "f32", recompute });
      const sizes = sizesOf(program, 150);
      const values = valuesOf(model, program, sizes);
      const loaded = await (await cpu()).load(plan);
      const ports = plan.programs["accumulate"]!;
      const state = new Map(
        ports.state.map((port) => {
          const buffer = loaded.createState(port.name, port.dtype, elementsOf(port, sizes));
          buffer.write(elementsFrom(port.dtype, values[port.name]!));
          return [port.name, buffer];
        }),
      );
      const bound = loaded.bind("accumulate", sizes, state);
      for (const port of ports.inputs) bound.write(port.name, elementsFrom(port.dtype, values[port.name]!));
      await bound.run();
      const result = { gradient: state.get("gradient")!.read() as Float32Array, temporaries: bound.memory.temporaries };
      await loaded.close();
      return result;
    };
    const ways: readonly (Recomputation | undefined)[] = [
      undefined,
      { keepsDear: true, span: 1 },
      { keepsDear: false, span: 1 },
      { keepsDear: false, span: 3 },
    ];
    const found: Awaited<ReturnType<typeof memory>>[] = [];
    for (const way of ways) found.push(await memory(DEPTH, way));
    const [kept, ...again] = found;
    const largest = kept!.gradient.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    expect(largest).toBeGreaterThan(0);
    for (const { gradient } of again) {
      gradient.forEach((value, i) => expect(Math.abs(value - kept!.gradient[i]!)).toBeLessThan(2e-6 * largest));
    }
    found.slice(1).forEach(({ temporaries }, i) => expect(temporaries).toBeLessThan(found[i]!.temporaries));
    // A block keeps about a dozen values of [batch, tokens, hidden]; with recomputation two: what goes in, what comes out.
    const [perBlock, perBlockAgain] = [
      (kept!.temporaries - (await memory(1)).temporaries) / (DEPTH - 1),
      (again[1]!.temporaries - (await memory(1, ways[2])).temporaries) / (DEPTH - 1),
    ];
    expect(perBlockAgain).toBeLessThan(perBlock / 3);
  },
);
