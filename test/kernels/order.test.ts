// The order of launches: what leaves nothing in a temporary runs as soon as it can.
import { expect, test } from "vitest";
import { compilePlan } from "../../compiler/pipeline.ts";
import { transformer } from "../graph/transformer.ts";

test("gradients of weights are added to the state right behind what they read", () => {
  const program = transformer({ depth: 2, width: 8, heads: 2 });
  const facts = { name: "test", config: {}, preset: undefined, recipe: {} };
  const { plan, kernels } = compilePlan({ model: facts, parameters: [], programs: [program], precision: "bf16" });
  const { steps, buffers } = plan.programs[program.name]!;
  const touched = steps.map((step) => {
    const { operands } = kernels[step.kernel]!;
    const of = (role: "read" | "write"): Set<number> =>
      new Set(step.arguments.flatMap(({ buffer }, i) => (operands[i]?.role === role ? [buffer] : [])));
    return { reads: of("read"), writes: of("write") };
  });
  const meets = (a: ReadonlySet<number>, b: ReadonlySet<number>): boolean => [...a].some((each) => b.has(each));
  const isEnd = ({ writes }: (typeof touched)[number]): boolean =>
    [...writes].every((buffer) => buffers[buffer]!.kind !== "temporary");
  let ends = 0;
  touched.forEach(({ reads, writes }, i) => {
    if (!isEnd(touched[i]!)) return;
    ends++;
    // Others of its kind may come in between.
    const before = touched.slice(0, i).findLast((each) => !isEnd(each))!;
    const follows = meets(before.writes, reads) || meets(before.writes, writes) || meets(before.reads, writes);
    expect([i, follows]).toEqual([i, true]);
  });
  // Of each block six weights and their biases at least.
  expect(ends).toBeGreaterThan(24);
});
