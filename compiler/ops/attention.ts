/**
 * Attention: `o = softmax(scale * q k^T + mask) v`, and its gradient. Neither ever exists as a `[queries, keys]` matrix
 * outside the reference. `lse` is the log of each row's sum of exponentials: what the gradient needs to rebuild a row.
 * A row without a single valid key gives o = 0 and lse = -infinity, and has no gradient.
 */
import { Diagnostic } from "../../contract/diagnostic.ts";
import { add, printDim, ZERO } from "../graph/dim.ts";
import { makeNode, type AttentionFacts, type Edge } from "../graph/node.ts";
import { remember } from "../graph/origin.ts";
import { axisNamed, printShape, requireEqual, without, type Shape } from "../graph/shape.ts";
import { stridesOf, walk, type Operator, type ReferenceCall, type ReferenceTensor } from "./operator.ts";

export interface AttentionInputs {
  readonly q: Edge;
  readonly k: Edge;
  readonly v: Edge;
  /** One per segment of the mask: how many of its keys are valid, i32 over the batch axes. */
  readonly lengths: readonly Edge[];
}

/** Results: o with the shape of q, and lse (f32) with the axes of q without `head`. */
export function attention(inputs: AttentionInputs, facts: AttentionFacts): { readonly o: Edge; readonly lse: Edge } {
  const { q, k, v, lengths } = inputs;
  check(inputs, facts);
  const node = remember(
    makeNode(
      { op: "attention", ...facts },
      [q, k, v, ...lengths],
      [
        { dtype: "f32", shape: q.shape },
        { dtype: "f32", shape: without(q.shape, [facts.head]) },
      ],
    ),
  );
  const [o, lse] = node.results;
  if (o === undefined || lse === undefined) throw new Error("attention has two results");
  return { o, lse };
}

function check({ q, k, v, lengths }: AttentionInputs, facts: AttentionFacts): void {
  const refuse = (message: string, fix: string): Diagnostic =>
    new Diagnostic({
      kind: "shape",
      message,
      details: [`q  ${printShape(q.shape)}`, `k  ${printShape(k.shape)}`, `v  ${printShape(v.shape)}`],
      fix,
    });
  const batch = without(q.shape, [facts.heads, facts.queries, facts.head]).map((axis) => axis.name);
  const wantedByQ = [...batch, facts.heads, facts.queries, facts.head];
  const wantedByK = [...batch, facts.heads, facts.keys, facts.head];
  for (const [edge, wanted] of [
    [q, wantedByQ],
    [k, wantedByK],
    [v, wantedByK],
  ] as const) {
    if (edge.shape.length !== wanted.length || wanted.some((name) => axisNamed(edge.shape, name) === undefined)) {
      throw refuse(
        `attention wants axes ${wanted.join(", ")}`,
        'split heads with .rearrange("batch tokens (heads head) -> batch tokens heads head")',
      );
    }
  }
  for (const name of [...batch, facts.heads, facts.head]) {
    const own = axisNamed(q.shape, name)?.size ?? ZERO;
    for (const other of [k, v]) {
      requireEqual(own, axisNamed(other.shape, name)?.size ?? ZERO, () =>
        refuse(`q and the keys differ along "${name}"`, "project q, k and v to the same heads"),
      );
    }
  }
  const lost = lengths.find((each) => each.dtype !== "i32" || each.shape.some((axis) => !batch.includes(axis.name)));
  if (lost !== undefined) {
    throw refuse(
      `the lengths of a mask are i32 over ${batch.join(", ") || "no axes"}, and one is ${lost.dtype} ${printShape(lost.shape)}`,
      "give one whole number per sample",
    );
  }
  if (lengths.length !== facts.segments.length) {
    throw refuse(
      `${String(facts.segments.length)} mask segments need as many lengths`,
      "give one lengths tensor per segment",
    );
  }
  if (facts.segments.length > 0) {
    const keys = axisNamed(k.shape, facts.keys)?.size ?? ZERO;
    requireEqual(keys, add(...facts.segments), () =>
      refuse(
        `the mask's segments cover ${printDim(add(...facts.segments))} of ${printDim(keys)} keys`,
        "let the extents of the segments add up to the number of keys",
      ),
    );
  }
}

export const attentionOperator: Operator<"attention"> = {
  name: "attention",
  words: "softmax(scale * q k^T + mask) v",
  traits: { fuse: "anchor", narrow: [0, 1, 2], dear: true },
  gradient: ({ operation, inputs, results, gradients }) => {
    const [q, k, v, ...lengths] = inputs;
    const [o, lse] = results;
    const [doutput, dlse] = gradients;
    if (q === undefined || k === undefined || v === undefined || o === undefined || lse === undefined) return [];
    if (dlse !== undefined) {
      throw new Diagnostic({
        kind: "gradient",
        message: "the log-sum-exp of attention has no gradient",
        fix: "use .stopGradient() on it",
      });
    }
    if (doutput === undefined) return inputs.map(() => undefined);
    const facts = { op: "attentionGradient", ...pickFacts(operation) } as const;
    const node = remember(
      makeNode(
        facts,
        [q, k, v, o, lse, doutput, ...lengths],
        [q, k, v].map((edge) => ({ dtype: "f32", shape: edge.shape })),
      ),
    );
    return [...node.results, ...lengths.map(() => undefined)];
  },
  reference: (call) => {
    const [q, k, v, ...lengths] = call.inputs;
    if (q === undefined || k === undefined || v === undefined) return [];
    const views = viewsOf(call, q, k, v);
    const o = new Float64Array(q.data.length);
    const lse = new Float64Array(views.groups * views.queries);
    const lseStrides = stridesOf(call.results[1]?.sizes ?? []);
    forEachRow(call, views, lengths, (row) => {
      const { scores, largest, total } = softmaxRow(call.operation.scale, q, k, views, row);
      lse[dot(lseStrides, row.index)] = total === 0 ? -Infinity : largest + Math.log(total);
      for (let d = 0; d < views.head; d++) {
        let sum = 0;
        for (const key of row.visible)
          sum += (scores[key] ?? 0) * (v.data[row.valueBase + key * views.value + d * views.valueHead] ?? NaN);
        o[row.queryBase + d * views.queryHead] = total === 0 ? 0 : sum;
      }
    });
    return [o, lse];
  },
};

export const attentionGradientOperator: Operator<"attentionGradient"> = {
  name: "attentionGradient",
  // dk is not rounded: over all keys it adds up to the gradient of their bias, which is zero but for rounding.
  words: "dv = p^T do, ds = p * (do v^T - rowsum(do * o)), dq = scale * ds k, dk = scale * ds^T q",
  traits: { fuse: "anchor", narrow: [0, 1, 2, 5], narrowResults: [0, 2] },
  reference: (call) => {
    const [q, k, v, o, , doutput, ...lengths] = call.inputs;
    if (q === undefined || k === undefined || v === undefined || o === undefined || doutput === undefined) return [];
    const { scale } = call.operation;
    const views = viewsOf(call, q, k, v);
    const dq = new Float64Array(q.data.length);
    const dk = new Float64Array(k.data.length);
    const dv = new Float64Array(v.data.length);
    forEachRow(call, views, lengths, (row) => {
      const { scores, total } = softmaxRow(scale, q, k, views, row);
      if (total === 0) return;
      const atQuery = (d: number): number => row.queryBase + d * views.queryHead;
      const atKey = (key: number, d: number): number => row.keyBase + key * views.key + d * views.keyHead;
      const atValue = (key: number, d: number): number => row.valueBase + key * views.value + d * views.valueHead;
      let delta = 0;
      for (let d = 0; d < views.head; d++) delta += (doutput.data[atQuery(d)] ?? 0) * (o.data[atQuery(d)] ?? 0);
      for (const key of row.visible) {
        const p = scores[key] ?? 0;
        let dp = 0;
        for (let d = 0; d < views.head; d++) dp += (doutput.data[atQuery(d)] ?? 0) * (v.data[atValue(key, d)] ?? 0);
        const ds = scale * p * (dp - delta);
        for (let d = 0; d < views.head; d++) {
          dv[atValue(key, d)] = (dv[atValue(key, d)] ?? 0) + p * (doutput.data[atQuery(d)] ?? 0);
          dq[atQuery(d)] = (dq[atQuery(d)] ?? 0) + ds * (k.data[atKey(key, d)] ?? 0);
          dk[atKey(key, d)] = (dk[atKey(key, d)] ?? 0) + ds * (q.data[atQuery(d)] ?? 0);
        }
      }
    });
    return [dq, dk, dv];
  },
};

const pickFacts = ({ heads, queries, keys, head, scale, causal, segments }: AttentionFacts): AttentionFacts => ({
  heads,
  queries,
  keys,
  head,
  scale,
  causal,
  segments,
});

interface Views {
  readonly groups: number;
  readonly queries: number;
  readonly keys: number;
  readonly head: number;
  readonly key: number;
  readonly keyHead: number;
  readonly queryHead: number;
  readonly queryNames: readonly string[];
  readonly queryStrides: readonly number[];
  readonly keyStrides: readonly number[];
  readonly value: number;
  readonly valueHead: number;
  readonly valueStrides: readonly number[];
}

interface Row {
  /** Indices along the axes of lse. */
  readonly index: readonly number[];
  readonly queryBase: number;
  readonly keyBase: number;
  readonly valueBase: number;
  readonly visible: readonly number[];
}

type Call = ReferenceCall<"attention"> | ReferenceCall<"attentionGradient">;

function viewsOf(call: Call, q: ReferenceTensor, k: ReferenceTensor, v: ReferenceTensor): Views {
  const { operation } = call;
  const size = (tensor: ReferenceTensor, name: string): number => tensor.sizes[tensor.names.indexOf(name)] ?? 1;
  const stride = (tensor: ReferenceTensor, name: string): number =>
    stridesOf(tensor.sizes)[tensor.names.indexOf(name)] ?? 0;
  const queryNames = q.names.filter((name) => name !== operation.head);
  const queries = size(q, operation.queries);
  const rows = queryNames.reduce((total, name) => total * size(q, name), 1);
  return {
    groups: rows / Math.max(queries, 1),
    queries,
    keys: size(k, operation.keys),
    head: size(q, operation.head),
    key: stride(k, operation.keys),
    keyHead: stride(k, operation.head),
    queryHead: stride(q, operation.head),
    queryNames,
    queryStrides: queryNames.map((name) => stride(q, name)),
    keyStrides: queryNames.map((name) => (name === operation.queries ? 0 : stride(k, name))),
    value: stride(v, operation.keys),
    valueHead: stride(v, operation.head),
    valueStrides: queryNames.map((name) => (name === operation.queries ? 0 : stride(v, name))),
  };
}

function forEachRow(call: Call, views: Views, lengths: readonly ReferenceTensor[], visit: (row: Row) => void): void {
  const { operation, sizeOf } = call;
  const q = call.inputs[0];
  if (q === undefined) return;
  const sizes = views.queryNames.map((name) => q.sizes[q.names.indexOf(name)] ?? 1);
  const lengthStrides = lengths.map((tensor) =>
    views.queryNames.map((name) => stridesOf(tensor.sizes)[tensor.names.indexOf(name)] ?? 0),
  );
  const dense = stridesOf(sizes);
  const query = views.queryNames.indexOf(operation.queries);
  walk(
    sizes,
    [views.queryStrides, views.keyStrides, views.valueStrides, ...lengthStrides],
    (position, [queryBase = 0, keyBase = 0, valueBase = 0, ...at]) => {
      const index = sizes.map((size, i) => Math.floor(position / (dense[i] ?? 1)) % size);
      const visible: number[] = [];
      let start = 0;
      const segments = operation.segments.length === 0 ? [views.keys] : operation.segments.map(sizeOf);
      segments.forEach((extent, s) => {
        const valid = operation.segments.length === 0 ? extent : Math.min(extent, lengths[s]?.data[at[s] ?? 0] ?? 0);
        for (let key = start; key < start + valid; key++) {
          if (!operation.causal || key <= (index[query] ?? 0)) visible.push(key);
        }
        start += extent;
      });
      visit({ index, queryBase, keyBase, valueBase, visible });
    },
  );
}

/** The probabilities of one row, at the positions of the visible keys; `total` is 0 when there is none. */
function softmaxRow(
  scale: number,
  q: ReferenceTensor,
  k: ReferenceTensor,
  views: Views,
  row: Row,
): { readonly scores: Float64Array; readonly largest: number; readonly total: number } {
  const scores = new Float64Array(views.keys);
  let largest = -Infinity;
  for (const key of row.visible) {
    let sum = 0;
    for (let d = 0; d < views.head; d++) {
      sum +=
        (q.data[row.queryBase + d * views.queryHead] ?? NaN) *
        (k.data[row.keyBase + key * views.key + d * views.keyHead] ?? NaN);
    }
    scores[key] = sum * scale;
    largest = Math.max(largest, sum * scale);
  }
  let total = 0;
  for (const key of row.visible) total += Math.exp((scores[key] ?? 0) - largest);
  for (const key of row.visible) scores[key] = Math.exp((scores[key] ?? 0) - largest) / total;
  return { scores, largest, total };
}

const dot = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((sum, value, i) => sum + value * (b[i] ?? 0), 0);

/** The axes of a batch: what q has besides heads, queries and head. */
export const batchAxes = (shape: Shape, facts: AttentionFacts): Shape =>
  without(shape, [facts.heads, facts.queries, facts.keys, facts.head]);
