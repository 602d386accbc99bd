/**
 * Homes: where the values that lie in memory are written. An output goes straight to its buffer, the parts of a concat
 * straight to their range of the whole (so joining costs nothing), everything else to a dense buffer of its own.
 * What cannot be written in place (a part used twice, an input that is an output) is copied.
 */
import { CompilerBug } from "../../contract/diagnostic.ts";
import { add, multiply, ZERO } from "../graph/dim.ts";
import type { Edge, Program } from "../graph/node.ts";
import { axisNamed, positionOf } from "../graph/shape.ts";
import { operatorOf } from "../ops/table.ts";
import type { Materialized } from "./materialize.ts";
import { densePlace, isView, makeStorage, placeBehind, placeThrough, type Place, type Storage } from "./place.ts";
import { merges } from "./uses.ts";

export interface Copy {
  readonly edge: Edge;
  readonly to: Place;
}

export interface Homes {
  /** Where a value lies that is in memory: sources, results of kernels, and views on them. */
  readonly placeOf: (edge: Edge) => Place;
  /** Whether the value was promised a place that others rely on. */
  readonly isClaimed: (edge: Edge) => boolean;
  /** Parts that must be copied when their concat is due. */
  readonly partCopies: ReadonlyMap<string, readonly Copy[]>;
  /** Outputs and next states that are copies of something else. */
  readonly finalCopies: readonly Copy[];
  /** The buffer in which each next state is made. */
  readonly next: ReadonlyMap<string, Storage>;
}

export function assignHomes(program: Program, { uses, isRoot }: Materialized): Homes {
  const claimed = new Map<string, Place>();
  const places = new Map<string, Place>();
  const finalCopies: Copy[] = [];
  const next = new Map<string, Storage>();

  const mergedViews = new Map<string, Edge[]>();
  for (const node of uses.nodes) {
    const [view] = node.results;
    if (view === undefined || !merges(node) || isRoot(view)) continue;
    const source = sourceOf(view, isRoot);
    mergedViews.set(source.key, [...(mergedViews.get(source.key) ?? []), view]);
  }

  /** Lets the kernel that makes `edge` write to `place`; false when it cannot. */
  const claim = (edge: Edge, place: Place): boolean => {
    const { operation } = edge.node;
    if (isView(operation) && !isRoot(edge)) {
      const [input] = edge.node.inputs;
      const behind = operation.op === "rearrange" ? placeBehind(operation, place) : undefined;
      return input !== undefined && behind !== undefined && claim(input, behind);
    }
    const { fuse } = operatorOf(edge.node).traits;
    const isMade = isRoot(edge) || fuse === "anchor" || fuse === "reduce" || fuse === "join";
    const readable = (mergedViews.get(edge.key) ?? []).every((view) => viewPlace(view, edge, place) !== undefined);
    if (!isMade || claimed.has(edge.key) || !readable) return false;
    claimed.set(edge.key, place);
    return true;
  };

  for (const [name, edge] of program.next) {
    const storage = makeStorage(`next.${name}`, edge.dtype, edge.shape, { of: "temporary" });
    next.set(name, storage);
    const to = densePlace(storage, edge.shape);
    if (!claim(edge, to)) finalCopies.push({ edge, to });
  }
  for (const [name, edge] of program.outputs) {
    const to = densePlace(makeStorage(name, edge.dtype, edge.shape, { of: "output", name }), edge.shape);
    if (!claim(edge, to)) finalCopies.push({ edge, to });
  }

  const partCopies = new Map<string, Copy[]>();
  for (const node of [...uses.nodes].reverse()) {
    const [whole] = node.results;
    if (node.operation.op !== "concat" || whole === undefined) continue;
    const { axis } = node.operation;
    const own = claimed.get(whole.key) ?? freshPlace(whole);
    claimed.set(whole.key, own);
    const stride = own.strides[positionOf(whole.shape, axis)] ?? ZERO;
    let start = ZERO;
    const copies: Copy[] = [];
    for (const part of node.inputs) {
      const to: Place = { ...own, offset: add(own.offset, multiply(start, stride)) };
      if (!claim(part, to)) copies.push({ edge: part, to });
      start = add(start, axisNamed(part.shape, axis)?.size ?? ZERO);
    }
    partCopies.set(whole.key, copies);
  }

  const placeOf = (edge: Edge): Place => {
    const key = edge.key;
    const known = claimed.get(key) ?? places.get(key);
    if (known !== undefined) return known;
    const made = makePlace(edge, isRoot, placeOf);
    places.set(key, made);
    return made;
  };
  return { placeOf, isClaimed: (edge) => claimed.has(edge.key), partCopies, finalCopies, next };
}

function makePlace(edge: Edge, isRoot: (edge: Edge) => boolean, placeOf: (edge: Edge) => Place): Place {
  const { operation } = edge.node;
  const [input] = edge.node.inputs;
  if (operation.op === "input") {
    const of = operation.role === "state" ? "state" : "input";
    return densePlace(makeStorage(operation.name, edge.dtype, edge.shape, { of, name: operation.name }), edge.shape);
  }
  if (operation.op === "constant") {
    return densePlace(makeStorage("table", edge.dtype, edge.shape, { of: "constant", edge }), edge.shape);
  }
  if (operation.op === "parameter" && input !== undefined) {
    const arena = placeOf(input);
    return { ...densePlace(arena.storage, edge.shape), offset: add(arena.offset, operation.offset) };
  }
  if (isView(operation) && input !== undefined && !isRoot(edge)) {
    const place = placeThrough(operation, edge.result, input, edge.shape, placeOf(input));
    if (place === undefined) throw new CompilerBug("homes", `a view of ${operation.op} has no place`);
    return place;
  }
  return freshPlace(edge);
}

const freshPlace = (edge: Edge): Place =>
  densePlace(makeStorage(edge.node.operation.op, edge.dtype, edge.shape, { of: "temporary" }), edge.shape);

/** The value that a chain of views reads, down to what lies in memory. */
export function sourceOf(edge: Edge, isRoot: (edge: Edge) => boolean): Edge {
  const [input] = edge.node.inputs;
  return isView(edge.node.operation) && !isRoot(edge) && input !== undefined ? sourceOf(input, isRoot) : edge;
}

function viewPlace(view: Edge, source: Edge, place: Place): Place | undefined {
  if (view === source) return place;
  const { operation } = view.node;
  const [input] = view.node.inputs;
  if (!isView(operation) || input === undefined) return undefined;
  const inner = viewPlace(input, source, place);
  return inner === undefined ? undefined : placeThrough(operation, view.result, input, view.shape, inner);
}
