/**
 * Attention (Vaswani et al., 2017): every query reads the values whose keys it agrees with. Keys of padded samples are
 * left out by length, not by a matrix: a mask is a list of segments of the key axis, each with its valid length.
 */
import { Diagnostic } from "../../../contract/diagnostic.ts";
import { printDim, toDim, type Dim } from "../../graph/dim.ts";
import type { AttentionFacts } from "../../graph/node.ts";
import { attention as attentionEdges } from "../../ops/attention.ts";
import { build } from "../mistake.ts";
import { checkName, composite, entered, within } from "../place.ts";
import { Tensor } from "../tensor.ts";
import { linear } from "./linear.ts";
import type { Initialiser } from "../parameters.ts";

/** A part of the key axis: how long it is, and how many keys at its start are valid in each sample. */
export interface Segment {
  readonly extent: Dim;
  /** i32 over the batch axes. */
  readonly lengths: Tensor;
}

/** The segment that a 0/1 mask [batch, keys] describes: its ones come first. */
export const segment = composite("segment", (mask: Tensor): Segment => {
  const last = mask.axes.at(-1) ?? "";
  return { extent: mask.size(last), lengths: mask.sum(last) };
});

export interface AttentionShape {
  readonly width: number;
  readonly heads: number;
  /** The width of what keys and values are made from; `width` unless told. */
  readonly context?: number;
  /** How the map behind the heads starts; Xavier-uniform unless told. */
  readonly init?: Initialiser;
}

export interface Keys {
  /** What keys and values are made from: the queries' own tokens unless told. */
  readonly from?: Tensor;
  /** The valid parts of the key axis; without, all of it. */
  readonly segments?: readonly Segment[];
}

/**
 * Multi-head attention over the second-last axis: [..., tokens, width] to the same shape. Parameters `NAME.to_q`,
 * `NAME.to_k`, `NAME.to_v` and `NAME.to_out.0`, each a linear layer.
 */
export function attention(name: string, shape: AttentionShape): (x: Tensor, keys?: Keys) => Tensor {
  return entered("attention", () => {
    checkName("attention", name);
    const { width, heads, context = width, init } = shape;
    if (width % heads !== 0) throw unevenHeads(width, heads);
    const toQ = linear(`${name}.to_q`, width, width);
    const toK = linear(`${name}.to_k`, context, width);
    const toV = linear(`${name}.to_v`, context, width);
    const toOut = linear(`${name}.to_out.0`, width, width, init === undefined ? {} : { init });
    return composite(
      "attention",
      (x: Tensor, { from = x, segments = [] }: Keys = {}) => {
        const lead = x.axes.slice(0, -1).join(" ");
        const batch = x.axes.slice(0, -2).join(" ");
        const ofKeys = `${batch} keys (heads head) -> ${batch} keys heads head`;
        const q = toQ(x).rearrange(`${lead} (heads head) -> ${lead} heads head`, { heads });
        const k = toK(from).rearrange(ofKeys, { heads });
        const v = toV(from).rearrange(ofKeys, { heads });
        const o = attend(q, k, v, { scale: 1 / Math.sqrt(width / heads), segments });
        return toOut(o.rearrange(`${lead} heads head -> ${lead} (heads head)`).rename({ head: x.axes.at(-1) ?? "" }));
      },
      within(name),
    );
  });
}

export interface AttendOptions {
  /** What q k^T is multiplied by. */
  readonly scale: number;
  readonly segments?: readonly Segment[];
  /** Query i sees the keys up to i. */
  readonly causal?: boolean;
}

/** softmax(scale q k^T + mask) v for q [..., tokens, heads, head] and k, v [..., keys, heads, head]. */
export function attend(q: Tensor, k: Tensor, v: Tensor, options: AttendOptions): Tensor {
  const { scale, segments = [], causal = false } = options;
  const facts: AttentionFacts = {
    heads: "heads",
    queries: q.axes.at(-3) ?? "",
    keys: "keys",
    head: "head",
    scale,
    causal,
    segments: segments.map((each) => toDim(each.extent)),
  };
  return build("attention", { q, k, v }, () => {
    const lengths = segments.map((each) => each.lengths.edge);
    return new Tensor(attentionEdges({ q: q.edge, k: k.edge, v: v.edge, lengths }, facts).o);
  });
}

function unevenHeads(width: number, heads: number): Diagnostic {
  return new Diagnostic({
    kind: "shape",
    message: `${printDim(toDim(width))} values cannot be shared by ${heads} heads`,
    fix: "choose a number of heads that divides the width",
  });
}
