// A small diffusion transformer with its gradients, straight from operators: what passes meet in practice.
import { constant as dim, multiply, symbol } from "../../compiler/graph/dim.ts";
import type { Edge, Program } from "../../compiler/graph/node.ts";
import { takeUndecided, type Axis } from "../../compiler/graph/shape.ts";
import { attention } from "../../compiler/ops/attention.ts";
import { contract } from "../../compiler/ops/contract.ts";
import { rearrange, rename, split } from "../../compiler/ops/layout.ts";
import { formula } from "../../compiler/ops/pointwise.ts";
import { reduce } from "../../compiler/ops/reduce.ts";
import { input, parameter, size } from "../../compiler/ops/source.ts";
import { gradients } from "../../compiler/passes/differentiate.ts";

export interface TransformerSize {
  readonly depth: number;
  readonly width: number;
  readonly heads: number;
}

/** Inputs x, condition, target, lengths and the arena of parameters; outputs the loss and every gradient. */
export function transformer({ depth, width, heads }: TransformerSize): Program {
  takeUndecided();
  const batch: Axis = { name: "batch", size: symbol("batch") };
  const tokens: Axis = { name: "tokens", size: symbol("tokens") };
  const axis = (name: string, count: number): Axis => ({ name, size: dim(count) });
  const perBlock = 6 * width * width + 6 * width + 4 * (width * width + width) + 8 * width * width + 5 * width;
  const arena = input("parameters", "f32", [axis("arena", depth * perBlock)], "state");
  const x = input("x", "f32", [batch, tokens, axis("width", width)]);
  const condition = input("condition", "f32", [batch, axis("width", width)]);
  const target = input("target", "f32", [batch, tokens, axis("width", width)]);
  const lengths = input("lengths", "i32", [batch]);
  const parameters: Edge[] = [];
  let offset = 0;
  const weight = (name: string, ...axes: Axis[]): Edge => {
    const made = parameter(arena, name, offset, axes);
    offset += axes.reduce((total, { size: each }) => total * (each.terms[0]?.coefficient ?? 1), 1);
    parameters.push(made);
    return made;
  };
  const linear = (name: string, from: Edge, outputs: number): Edge => {
    const w = weight(
      `${name}.weight`,
      axis("out", outputs),
      axis("width", width * (from.shape.at(-1)?.name === "hidden" ? 4 : 1)),
    );
    const b = weight(`${name}.bias`, axis("width", outputs));
    const labels = from.shape.map((_, i) => i);
    const last = labels.length - 1;
    const names = [...from.shape.slice(0, -1).map((each) => each.name), "width"];
    const made = contract(from, w, { left: labels, right: [99, last], result: [...labels.slice(0, -1), 99] }, names);
    return formula("x + b", { x: made, b });
  };
  const normalise = (h: Edge): Edge => {
    const count = size(dim(width), "f32");
    const mean = formula("s / n", { s: reduce("sum", h, ["width"]), n: count });
    const centred = formula("x - m", { x: h, m: mean });
    const variance = formula("s / n", { s: reduce("sum", formula("c * c", { c: centred }), ["width"]), n: count });
    return formula("c * rsqrt(v + 0.000001)", { c: centred, v: variance });
  };
  const headDim = dim(width / heads);
  const heady = (h: Edge, tokenName: string): Edge =>
    rearrange(
      h,
      [[batch.size], [tokens.size], [dim(heads), headDim]],
      [[0], [2], [1], [3]],
      ["batch", "heads", tokenName, "head"],
    );
  let h = x;
  for (let block = 0; block < depth; block++) {
    const at = `blocks.${String(block)}`;
    const modulation = linear(`${at}.modulation`, formula("c * sigmoid(c)", { c: condition }), 6 * width);
    const parts = split(modulation, "width", new Array<ReturnType<typeof dim>>(6).fill(dim(width)));
    const modulate = (value: Edge, shift: Edge, scale: Edge): Edge =>
      formula("x * (1 + s) + t", { x: value, s: scale, t: shift });
    const normal = modulate(normalise(h), parts[0]!, parts[1]!);
    const [q, k, v] = ["q", "k", "v"].map((name) =>
      heady(linear(`${at}.${name}`, normal, width), name === "q" ? "tokens" : "keys"),
    );
    const { o } = attention(
      { q: q!, k: k!, v: v!, lengths: [lengths] },
      {
        heads: "heads",
        queries: "tokens",
        keys: "keys",
        head: "head",
        scale: 0.5,
        causal: false,
        segments: [tokens.size],
      },
    );
    const merged = rearrange(
      o,
      [[batch.size], [dim(heads)], [tokens.size], [headDim]],
      [[0], [2], [1, 3]],
      ["batch", "tokens", "width"],
    );
    h = formula("h + g * y", { h, g: parts[2]!, y: linear(`${at}.projection`, merged, width) });
    const fed = linear(`${at}.in`, modulate(normalise(h), parts[3]!, parts[4]!), 4 * width);
    const active = formula("0.5 * x * (1 + tanh(0.79788456 * (x + 0.044715 * x^3)))", { x: fed });
    const out = linear(`${at}.out`, rename(active, ["batch", "tokens", "hidden"]), width);
    h = formula("h + g * y", { h, g: parts[5]!, y: out });
  }
  const error = reduce("sum", formula("(h - t)^2", { h, t: target }), ["batch", "tokens", "width"]);
  const loss = formula("e / n", { e: error, n: size(multiply(batch.size, tokens.size, width), "f32") });
  const gradient = gradients(loss, parameters);
  const outputs = new Map<string, Edge>([
    ["loss", loss],
    ...gradient.map((edge, i) => [`gradient.${String(i)}`, edge] as const),
  ]);
  const inputs = [arena, x, condition, target, lengths];
  return { name: "train", inputs, outputs, next: new Map([["parameters", arena]]), equalities: takeUndecided() };
}
