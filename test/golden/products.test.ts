/** The C++ and the CUDA of products and attention as a small graph makes them. `npx vitest run -u test/golden` accepts a change. */
import { expect, test } from "vitest";
import type { Plan } from "../../contract/plan.ts";
import { constant as size, symbol } from "../../compiler/graph/dim.ts";
import type { Shape } from "../../compiler/graph/shape.ts";
import { attention } from "../../compiler/ops/attention.ts";
import { contract } from "../../compiler/ops/contract.ts";
import { formula } from "../../compiler/ops/pointwise.ts";
import { reduce } from "../../compiler/ops/reduce.ts";
import { input } from "../../compiler/ops/source.ts";
import { gradients } from "../../compiler/passes/differentiate.ts";
import { planOf, program } from "../numerics/on-cpu.ts";

const axis = (name: string, n: number): Shape[number] => ({ name, size: size(n) });
const batch = { name: "batch", size: symbol("batch") };
const tokens = { name: "tokens", size: symbol("tokens") };
const keys = { name: "keys", size: tokens.size };

const x = input("x", "f32", [batch, tokens, axis("width", 1152)]);
const weight = input("weight", "f32", [axis("out", 4608), axis("in", 1152)]);
const bias = input("bias", "f32", [axis("width", 4608)]);
const labels = { left: [0, 1, 2], right: [3, 2], result: [0, 1, 3] };
const product = formula("y + b", { y: contract(x, weight, labels, ["batch", "tokens", "width"]), b: bias });
const gelu = formula("0.5 * x * (1 + tanh(0.79788456 * (x + 0.044715 * x^3)))", { x: product });

const [heads, head] = [axis("heads", 16), axis("head", 72)];
const q = input("q", "f32", [batch, tokens, heads, head]);
const k = input("k", "f32", [batch, keys, heads, head]);
const v = input("v", "f32", [batch, keys, heads, head]);
const lengths = input("lengths", "i32", [batch]);
const names = { heads: "heads", queries: "tokens", keys: "keys", head: "head" };
const facts = { ...names, scale: 72 ** -0.5, causal: false, segments: [tokens.size] };
const { o } = attention({ q, k, v, lengths: [lengths] }, facts);
const loss = reduce("sum", formula("o * o", { o }), ["batch", "tokens", "heads", "head"]);
const [dq, dk, dv] = gradients(loss, [q, k, v]);

const cases = [
  ["linear_bias_gelu", program("p", [x, weight, bias], { gelu }), "acc = sum_k"],
  ["attention_head_72", program("p", [q, k, v, lengths], { o }), "o = softmax"],
  ["attention_gradient_head_72", program("p", [q, k, v, lengths], { dq: dq!, dk: dk!, dv: dv! }), "dv = p^T do"],
] as const;

test.each(cases)("%s", async (name, subject, formulaStart) => {
  const sourceOf = (plan: Plan): string => plan.kernels.find((each) => each.formula.startsWith(formulaStart))!.source;
  await expect(sourceOf(planOf([subject]))).toMatchFileSnapshot(`cpu/${name}.cpp`);
  const sm80 = planOf([subject], "bf16", { name: "cuda", arch: "sm_80" });
  await expect(sourceOf(sm80)).toMatchFileSnapshot(`cuda/${name}.cu`);
});
