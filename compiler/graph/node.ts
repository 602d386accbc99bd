/**
 * The Graph language: a directed acyclic graph of tensor operations.
 *
 * Semantics
 *   - A node applies one operation to edges and has one or more results; an edge is one result of one node. Nodes are
 *     frozen and interned: the same operation on the same edges is the same object, so `===` is equality. Random draws
 *     and recomputed clones carry an identity of their own and are never merged with others.
 *   - Programs are pure: inputs in, outputs out. Persistent state enters as an input of role `state` and leaves as the
 *     program's `next` value of the same name. Nothing aliases; where memory is shared is decided later.
 *   - Shapes are lists of named axes with symbolic sizes. Tensors meet by axis names; broadcasting adds whole axes.
 *   - `f32` and 16-bit values follow IEEE 754 and round to nearest even when stored; sums and products accumulate in
 *     float32 (float64 for `f64`, wrapping for integers) in an order fixed by the sizes alone. NaN and infinity pass
 *     through every operation that reads them. `bool` is false or true.
 *   - Random values depend on (seed, step, path of the draw, row-major index) and on nothing else.
 *
 * The operations are the closed union below; what each one means, its gradient and its reference implementation stand
 * in `ops/`. Everything else (layer norm, GELU, Adam, losses) is written with these, in `language/composites/`.
 */
import { createHash } from "node:crypto";
import type { DType } from "../../contract/dtype.ts";
import type { Expression } from "../notation/expression.ts";
import type { Dim } from "./dim.ts";
import type { Shape } from "./shape.ts";

export type Operation =
  /** A tensor from outside: given with every run, or state that lives across runs. */
  | { readonly op: "input"; readonly name: string; readonly role: "given" | "state"; readonly type: TensorType }
  /** The part of a flat arena that holds one parameter, in the parameter's shape. Inputs: the arena. */
  | { readonly op: "parameter"; readonly name: string; readonly offset: number; readonly shape: Shape }
  /** A table known at compile time, row-major. */
  | { readonly op: "constant"; readonly type: TensorType; readonly values: readonly number[] }
  /** 0, 1, 2 … along one axis, as i32. */
  | { readonly op: "index"; readonly axis: { readonly name: string; readonly size: Dim } }
  /** A size as a scalar: what a mean divides by. */
  | { readonly op: "size"; readonly size: Dim; readonly dtype: DType }
  /** Independent draws. Inputs: seed (u32), step (u32). `path` names the draw and is part of its key. */
  | { readonly op: "random"; readonly distribution: "uniform" | "normal"; readonly path: string; readonly shape: Shape }
  /** A scalar expression over inputs x0, x1 …, which meet by axis names. */
  | { readonly op: "pointwise"; readonly expression: Expression; readonly dtype: DType }
  /** The sum, maximum or minimum over the named axes, which disappear. */
  | { readonly op: "reduce"; readonly operation: "sum" | "max" | "min"; readonly axes: readonly string[] }
  /** The same values along more axes. */
  | { readonly op: "expand"; readonly shape: Shape }
  /** Sum of products, einsum style. Labels are small numbers, one per axis of each operand; see `ops/contract.ts`. */
  | {
      readonly op: "contract";
      readonly left: readonly number[];
      readonly right: readonly number[];
      readonly result: readonly number[];
      readonly names: readonly string[];
    }
  /** softmax(scale * q k^T + mask) v. Inputs: q k v and the lengths of the mask's segments. Results: o, lse. */
  | ({ readonly op: "attention" } & AttentionFacts)
  /** Inputs: q k v o lse doutput and the lengths. Results: dq dk dv. */
  | ({ readonly op: "attentionGradient" } & AttentionFacts)
  /** Rows of a table. Inputs: table, indices (i32). The table's axis disappears, the axes of the indices come first. */
  | { readonly op: "gather"; readonly axis: string }
  /** Axes split, permuted, merged and renamed; see `ops/rearrange.ts`. */
  | {
      readonly op: "rearrange";
      readonly split: readonly (readonly Dim[])[];
      readonly groups: readonly (readonly number[])[];
      readonly names: readonly string[];
    }
  /** The part [start, start + size) of one axis. */
  | { readonly op: "slice"; readonly axis: string; readonly start: Dim; readonly size: Dim }
  /** One axis cut into consecutive parts; a result for each. */
  | { readonly op: "split"; readonly axis: string; readonly sizes: readonly Dim[] }
  /** Tensors joined one after the other along an axis. */
  | { readonly op: "concat"; readonly axis: string }
  /** Zeros before and after, along one axis. */
  | { readonly op: "pad"; readonly axis: string; readonly before: Dim; readonly after: Dim }
  /** The nearest value of another type. */
  | { readonly op: "cast"; readonly dtype: DType }
  /** The value itself; gradients stop here. */
  | { readonly op: "stopGradient" };

export type OperationName = Operation["op"];
export type OperationOf<Name extends OperationName> = Extract<Operation, { op: Name }>;

export interface TensorType {
  readonly dtype: DType;
  readonly shape: Shape;
}

/**
 * Axis names of attention. q and o have (batch, heads, queries, head) in any order, k and v (batch, heads, keys, head)
 * with the same names for the shared axes; `batch` may be several axes or none: all that q, k and v share besides heads
 * and head. lse has the axes of q without head.
 */
export interface AttentionFacts {
  readonly heads: string;
  readonly queries: string;
  readonly keys: string;
  readonly head: string;
  readonly scale: number;
  readonly causal: boolean;
  /** Extents of the parts of the key axis, each with its own lengths input (i32, over batch); none: all keys valid. */
  readonly segments: readonly Dim[];
}

export interface Node {
  readonly id: number;
  readonly operation: Operation;
  readonly inputs: readonly Edge[];
  readonly results: readonly Edge[];
  /** Keeps apart nodes that would be equal otherwise, such as recomputed clones; mostly empty. */
  readonly identity: string;
}

export interface Edge {
  readonly node: Node;
  readonly result: number;
  /** Different for different edges. */
  readonly key: string;
  readonly dtype: DType;
  readonly shape: Shape;
}

/** What a program computes. `next` holds the new values of state inputs, by their names. */
export interface Program {
  readonly name: string;
  readonly inputs: readonly Edge[];
  readonly outputs: ReadonlyMap<string, Edge>;
  readonly next: ReadonlyMap<string, Edge>;
  readonly equalities: readonly { readonly left: Dim; readonly right: Dim; readonly message: string }[];
}

const interned = new Map<string, WeakRef<Node>>();
let nextId = 0;

/**
 * The node for an operation on edges, made once. `types` are the results; `identity` keeps apart what must not merge.
 */
export function makeNode(
  operation: Operation,
  inputs: readonly Edge[],
  types: readonly TensorType[],
  identity = "",
): Node {
  let key = `${operationKey(operation)}(`;
  for (const input of inputs) key += `${input.key},`;
  key += `)${identity}`;
  const known = interned.get(key)?.deref();
  if (known !== undefined) return known;
  const results: Edge[] = [];
  const node: Node = Object.freeze({
    id: nextId++,
    operation: Object.freeze(operation),
    inputs: Object.freeze([...inputs]),
    results,
    identity,
  });
  types.forEach((type, result) => {
    const key = `${node.id}.${result}`;
    results.push(Object.freeze({ node, result, key, dtype: type.dtype, shape: type.shape }));
  });
  Object.freeze(results);
  interned.set(key, new WeakRef(node));
  return node;
}

/** The identity of nodes that compute again what a member of a stack computed. */
export const recomputedIdentity = (member: string): string => `again ${member}`;

export const isRecomputed = (identity: string): boolean => identity.startsWith("again ");

/** A text that is equal for equal operations, whatever the order of their fields. */
export const operationKey = (operation: Operation): string => keyOf(operation);

function keyOf(value: unknown): string {
  if (typeof value === "number") return numberKey(value);
  if (typeof value !== "object" || value === null)
    return typeof value === "string" ? JSON.stringify(value) : String(value);
  if (isTable(value)) return `#${tableDigest(value)}`;
  if (Array.isArray(value)) {
    let list = "[";
    for (const part of value) list += `${keyOf(part)},`;
    return `${list}]`;
  }
  if ("terms" in value && "key" in value) return `<${String((value as Dim).id)}>`;
  if ("kind" in value && "id" in value) return `e${String(value.id)}`;
  let fields = "{";
  for (const name of Object.keys(value).sort()) fields += `${name}:${keyOf((value as Record<string, unknown>)[name])},`;
  return `${fields}}`;
}

const numberKey = (value: number): string => (Object.is(value, -0) ? "-0" : String(value));

const isTable = (value: object): value is readonly number[] =>
  Array.isArray(value) && value.length > 64 && value.every((each) => typeof each === "number");

const digests = new WeakMap<readonly number[], string>();

/** The SHA-256 of a table's float64 bytes, computed once per array: tables are equal when their numbers are. */
export function tableDigest(values: readonly number[]): string {
  const known = digests.get(values);
  if (known !== undefined) return known;
  const digest = createHash("sha256").update(Float64Array.from(values)).digest("hex");
  digests.set(values, digest);
  return digest;
}

/** Every node that the edges depend on, in the order they were made: inputs before users, forward before backward. */
export function nodesOf(edges: Iterable<Edge>): Node[] {
  const seen = new Set<Node>();
  const stack = [...edges].map((edge) => edge.node);
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    for (const input of node.inputs) stack.push(input.node);
  }
  return [...seen].sort((a, b) => a.id - b.id);
}

export const programEdges = (program: Program): Edge[] => [
  ...program.inputs,
  ...program.outputs.values(),
  ...program.next.values(),
];
