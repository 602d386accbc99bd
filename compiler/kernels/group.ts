/**
 * Fusion: which values are computed in the same kernel. Every contraction, attention, reduction, random draw and
 * materialised scalar expression is a root. Roots are taken in order; each joins an earlier group when the two run over
 * the same axes and everything the root reads is ready before that group runs, or in its registers; else it opens a
 * group of its own. Groups run in the order they were opened.
 */
import { CompilerBug, Diagnostic } from "../../contract/diagnostic.ts";
import { staticValue, ONE, type Dim, multiply } from "../graph/dim.ts";
import { isRecomputed, type Edge, type Node } from "../graph/node.ts";
import { originOf } from "../graph/origin.ts";
import type { Shape } from "../graph/shape.ts";
import { literal } from "../notation/expression.ts";
import { batchAxes } from "../ops/attention.ts";
import { operatorOf } from "../ops/table.ts";
import { registerOf } from "../../contract/dtype.ts";
import { sourceOf, type Copy, type Homes } from "./homes.ts";
import type { Axis, ContractRole } from "./kernel.ts";
import type { Materialized } from "./materialize.ts";
import {
  along,
  coordinateKey,
  factorStrides,
  isView,
  ORIGIN,
  plus,
  scaled,
  type Coordinate,
  type Place,
} from "./place.ts";
import { merges } from "./uses.ts";
import { valuation } from "./value.ts";

export type Anchor = "map" | "rows" | "columns" | "contract" | "attention" | "attentionGradient";

export interface Group {
  readonly anchor: Anchor;
  readonly position: number;
  readonly axes: readonly Axis[];
  /** The loops of the domain in which roots are computed, by axis name. For a contraction: those of its result. */
  readonly loops: ReadonlyMap<string, number>;
  /** rows: how many axes count rows. */
  readonly outer: number;
  /** columns: which axes are summed over. */
  readonly reduced: readonly boolean[];
  readonly roles: readonly ContractRole[];
  /** The contraction, attention or attention gradient. */
  readonly node: Node | undefined;
  readonly roots: Root[];
}

/** A value that a group computes over its loops. */
export interface Root {
  readonly edge: Edge;
  /** What is evaluated at `at`: the edge itself, the input of a reduction, the source of a copy. */
  readonly value: Edge;
  readonly at: readonly Coordinate[];
  readonly kind: "element" | "reduction";
  /** For copies: where to, with strides along the loops; else the home of `edge`. */
  readonly to?: { readonly place: Place; readonly strides: readonly Dim[] } | undefined;
}

export interface Grouping {
  readonly groups: readonly Group[];
  /** The group that makes a value, if a kernel does. */
  readonly makerOf: (edge: Edge) => Group | undefined;
  /** Values that another group than their maker reads. */
  readonly isDemanded: (edge: Edge) => boolean;
  /** Values that a kernel reads rather than computes again: they are made by some kernel, or were there before. */
  readonly isLeaf: (edge: Edge) => boolean;
}

/** Rows up to this length are kept by one thread; longer ones are only summed. */
const LONGEST_ROW = 32768;
/** How many of the groups that read a value are tried, the latest first. */
const MOST_CANDIDATES = 24;

/** Something a root reads from memory or from another root; `aligned`: element by element, as the loops run. */
interface Leaf {
  readonly edge: Edge;
  readonly aligned: boolean;
}

export function group(materialized: Materialized, homes: Homes): Grouping {
  const { uses, isRoot } = materialized;
  const groups: Group[] = [];
  const makers = new Map<string, Group>();
  const demanded = new Set<string>();
  const positions = new Map<string, number>();

  const isLeaf = (edge: Edge): boolean => {
    const { operation } = edge.node;
    if (isRoot(edge)) return true;
    if (isView(operation)) return merges(edge.node);
    if (operation.op === "constant") return operation.values.length !== 1;
    return operatorOf(edge.node).traits.fuse !== "scalar";
  };

  /** The latest group that has to be over before an edge can be read from memory; -1 when it is there from the start. */
  const readyAfter = (edge: Edge): number => {
    const source = sourceOf(edge, isRoot);
    const known = positions.get(source.key);
    if (known !== undefined) return known;
    const { operation, inputs } = source.node;
    let after = makers.get(source.key)?.position ?? -1;
    if (operation.op === "concat") after = Math.max(after, ...inputs.map(readyAfter));
    positions.set(source.key, after);
    return after;
  };

  /** What the value of a root reads, over the loops of its own domain. */
  const leavesOf = (
    value: Edge,
    domain: Shape,
    self?: Edge,
    at: readonly Coordinate[] = identityIn(domain, value.shape),
  ): Leaf[] => {
    const found: Leaf[] = [];
    const valueAt = valuation({
      leaf: (edge, places) => {
        if (edge === self || !isLeaf(edge)) return undefined;
        found.push({ edge, aligned: isAligned(edge, places, domain) });
        return literal(0, registerOf(edge.dtype));
      },
      scalar: (type) => literal(0, type),
    });
    valueAt(value, at);
    return found;
  };

  const open = (
    anchor: Anchor,
    axes: readonly Axis[],
    facts: Partial<Pick<Group, "loops" | "outer" | "reduced" | "roles" | "node">>,
  ): Group => {
    const loops = facts.loops ?? new Map(axes.map((axis, i) => [axis.name, i]));
    const made: Group = {
      anchor,
      position: groups.length,
      axes,
      loops,
      outer: facts.outer ?? 0,
      reduced: facts.reduced ?? [],
      roles: facts.roles ?? [],
      node: facts.node,
      roots: [],
    };
    groups.push(made);
    return made;
  };
  const demand = (leaves: readonly Leaf[], by: Group): void => {
    for (const { edge } of leaves) {
      const source = sourceOf(edge, isRoot);
      if (makers.get(source.key) !== by) demanded.add(source.key);
    }
  };
  const identity = (shape: Shape, of: Group): Coordinate[] => shape.map((axis) => along(of.loops.get(axis.name) ?? -1));

  /** What is computed again stays behind the first group that was opened for it: earlier, it would have to be kept. */
  let earliest = 0;
  const firstOf = new Map<string, number>();
  const begin = ({ identity }: Node): void => {
    if (!firstOf.has(identity)) firstOf.set(identity, groups.length);
    earliest = isRecomputed(identity) ? firstOf.get(identity)! : 0;
  };

  /** Whether everything a root reads is ready before `candidate` runs, or in its registers. */
  const fits = (candidate: Group, leaves: readonly Leaf[]): boolean =>
    candidate.position >= earliest &&
    leaves.every((leaf) =>
      makers.get(leaf.edge.key) === candidate ? leaf.aligned : readyAfter(leaf.edge) < candidate.position,
    );

  /** Groups by what they make or read, and the axes over which others can be computed in them. */
  const touching = new Map<string, Group[]>();
  const domains = new Map<Group, string>();
  const kept = new Map<Group, string>();
  const touch = (by: Group, edge: Edge): void => {
    const known = listAt(touching, edge.key);
    if (known.at(-1) !== by) known.push(by);
  };

  /** Groups over the given axes that share memory traffic with a root, the latest first. */
  const candidates = (leaves: readonly Leaf[], over: ReadonlyMap<Group, string>, domain: Shape): Group[] => {
    const key = domainKey(domain);
    const found = new Set<Group>();
    for (const { edge } of leaves) {
      for (const each of (touching.get(edge.key) ?? []).slice(-MOST_CANDIDATES)) {
        if (over.get(each) === key) found.add(each);
      }
    }
    return [...found].sort((a, b) => b.position - a.position);
  };

  const add = (into: Group, root: Root, leaves: readonly Leaf[]): void => {
    into.roots.push(root);
    demand(leaves, into);
    for (const { edge } of leaves) if (edge.shape.length > 0) touch(into, edge);
    if (root.to !== undefined) return;
    makers.set(root.edge.key, into);
    touch(into, root.edge);
  };

  /** An attention whose result nobody reads but this cast: it stores the other type. */
  const storedBy = ({ node }: Edge): Group | undefined => {
    const [input] = node.inputs;
    if (node.operation.op !== "cast" || input === undefined || uses.of(input).length > 1) return undefined;
    const maker = makers.get(input.key);
    return maker?.anchor === "attention" || maker?.anchor === "attentionGradient" ? maker : undefined;
  };

  const placeElement = (edge: Edge): void => {
    const maker = storedBy(edge);
    if (maker !== undefined) {
      maker.roots.push({ edge, value: edge, at: [], kind: "element" });
      makers.set(edge.key, maker);
      touch(maker, edge);
      return;
    }
    const leaves = leavesOf(edge, edge.shape, edge);
    const isElementwise = ({ anchor }: Group): boolean => anchor === "map" || anchor === "contract";
    const host =
      candidates(leaves, domains, edge.shape).find(
        (candidate) => (isElementwise(candidate) || isShortRow(candidate)) && fits(candidate, leaves),
      ) ?? sumsHost(edge, leaves);
    const into = host ?? open("map", edge.shape, {});
    if (host === undefined) domains.set(into, domainKey(edge.shape));
    add(into, { edge, value: edge, at: identity(edge.shape, into), kind: "element" }, leaves);
  };

  /** A group that keeps exactly the axes of `edge`, and whose sums it reads: computed once per row or kept element. */
  const sumsHost = (edge: Edge, leaves: readonly Leaf[]): Group | undefined =>
    candidates(leaves, kept, edge.shape).find(
      (candidate) => leaves.some((leaf) => makers.get(leaf.edge.key) === candidate) && fits(candidate, leaves),
    );

  const placeReduction = (node: Node): void => {
    const [input] = node.inputs;
    const [edge] = node.results;
    if (input === undefined || edge === undefined || node.operation.op !== "reduce") return;
    const { axes } = node.operation;
    const reduced = input.shape.map((axis) => axes.includes(axis.name));
    const firstReduced = reduced.indexOf(true);
    const anchor = reduced.slice(firstReduced).every(Boolean) ? "rows" : "columns";
    const leaves = leavesOf(input, input.shape);
    const host = candidates(leaves, domains, input.shape).find((candidate) => {
      if (candidate.anchor !== anchor) return false;
      const sameAxes = candidate.axes.every(
        (axis, i) => axes.includes(axis.name) === (anchor === "rows" ? i >= candidate.outer : candidate.reduced[i]),
      );
      if (!sameAxes || !fits(candidate, leaves)) return false;
      // Columns and long rows are summed in pieces: sums may stand side by side, but none may wait for another.
      const waits = leaves.some((leaf) => makers.get(leaf.edge.key) === candidate);
      return !waits || (anchor === "rows" && isShortRow(candidate));
    });
    const facts = anchor === "rows" ? { outer: firstReduced } : { reduced };
    const into = host ?? open(anchor, input.shape, facts);
    if (host === undefined) {
      domains.set(into, domainKey(input.shape));
      kept.set(into, domainKey(edge.shape));
    }
    add(into, { edge, value: input, at: identity(input.shape, into), kind: "reduction" }, leaves);
  };

  const placeCopy = ({ edge, to }: Copy): void => {
    const into = open("map", edge.shape, {});
    const root: Root = {
      edge,
      value: edge,
      at: identity(edge.shape, into),
      kind: "element",
      to: { place: to, strides: to.strides },
    };
    add(into, root, leavesOf(edge, edge.shape));
  };

  const placeAnchor = (node: Node): void => {
    const { operation } = node;
    if (operation.op === "random") {
      const [edge] = node.results;
      if (edge === undefined) return;
      const into = open("map", edge.shape, {});
      domains.set(into, domainKey(edge.shape));
      add(
        into,
        { edge, value: edge, at: identity(edge.shape, into), kind: "element" },
        leavesOf(edge, edge.shape, edge),
      );
      return;
    }
    const into =
      operation.op === "contract"
        ? openContract(node, open)
        : open(node.operation.op as Anchor, attentionLoops(node), { node });
    const [result] = node.results;
    if (operation.op === "contract" && result !== undefined) domains.set(into, domainKey(result.shape));
    for (const edge of node.results) {
      makers.set(edge.key, into);
      touch(into, edge);
    }
    for (const edge of node.inputs) demand(leavesOf(edge, edge.shape), into);
  };

  for (const node of uses.nodes) {
    begin(node);
    const { operation } = node;
    const { fuse } = operatorOf(node).traits;
    if (operation.op === "reduce") placeReduction(node);
    else if (operation.op === "concat") {
      for (const edge of node.results) (homes.partCopies.get(edge.key) ?? []).forEach(placeCopy);
    } else if (fuse === "anchor") placeAnchor(node);
    else {
      for (const edge of node.results) {
        if (!isRoot(edge)) continue;
        if (isView(operation)) {
          const { axes, at, input } = mergedCopy(edge);
          const into = open("map", axes, {});
          add(into, { edge, value: input, at, kind: "element" }, leavesOf(input, axes, undefined, at));
        } else placeElement(edge);
      }
    }
  }
  earliest = 0;
  homes.finalCopies.forEach(placeCopy);
  return {
    groups,
    makerOf: (edge) => makers.get(edge.key),
    isDemanded: (edge) => demanded.has(edge.key),
    isLeaf,
  };
}

/** A view that merges axes which do not follow each other in memory becomes a copy that loops over the split axes. */
function mergedCopy(edge: Edge): { readonly axes: Axis[]; readonly at: Coordinate[]; readonly input: Edge } {
  const { operation } = edge.node;
  const [input] = edge.node.inputs;
  if (operation.op !== "rearrange" || input === undefined)
    throw new CompilerBug("fuse", "only rearrangements merge axes");
  const factors = operation.split.flat();
  const kept = operation.groups.flat().filter((factor) => factors[factor] !== ONE);
  let next = 0;
  const at = operation.split.map((parts) => {
    const own = parts.map((size) => ({ size, loop: kept.indexOf(next++) }));
    let stride = ONE;
    let sum = ORIGIN;
    for (const part of own.reverse()) {
      if (part.loop >= 0) sum = plus(sum, scaled(along(part.loop), stride));
      stride = multiply(stride, part.size);
    }
    return sum;
  });
  return { axes: kept.map((factor, i) => ({ name: `axis${String(i)}`, size: factors[factor] ?? ONE })), at, input };
}

/** The strides of a merged copy's loops, given those of the result. */
export function mergedCopyStrides(edge: Edge, place: Place): Dim[] {
  const { operation } = edge.node;
  if (operation.op !== "rearrange") return [...place.strides];
  const factors = operation.split.flat();
  const byGroup = factorStrides(
    operation.groups.map((members) => members.map((factor) => factors[factor] ?? ONE)),
    place.strides,
  );
  return operation.groups.flat().flatMap((factor, i) => (factors[factor] === ONE ? [] : [byGroup[i] ?? ONE]));
}

function openContract(
  node: Node,
  open: (anchor: Anchor, axes: readonly Axis[], facts: Partial<Group>) => Group,
): Group {
  const { operation } = node;
  const [left, right] = node.inputs;
  const [result] = node.results;
  if (operation.op !== "contract" || left === undefined || right === undefined || result === undefined) {
    throw new CompilerBug("fuse", "not a contraction");
  }
  const roleOf = (label: number): ContractRole => {
    if (!operation.result.includes(label)) return "k";
    if (!operation.left.includes(label)) return "n";
    return operation.right.includes(label) ? "batch" : "m";
  };
  const labels = [...new Set([...operation.result, ...operation.left])];
  const order: Readonly<Record<ContractRole, number>> = { batch: 0, m: 1, n: 2, k: 3 };
  labels.sort((a, b) => order[roleOf(a)] - order[roleOf(b)]);
  const loops = new Map<string, number>();
  const axes = labels.map((label, loop): Axis => {
    const at = operation.result.indexOf(label);
    const axis = at >= 0 ? result.shape[at] : left.shape[operation.left.indexOf(label)];
    if (axis === undefined) throw new CompilerBug("fuse", "a label without an axis");
    if (at >= 0) loops.set(axis.name, loop);
    return axis;
  });
  return open("contract", axes, { node, loops, roles: labels.map(roleOf) });
}

/** The loop of each label of a contraction, in the order `openContract` gives them. */
export function contractLoops(group: Group): (side: "left" | "right") => number[] {
  const operation = group.node?.operation;
  if (operation?.op !== "contract") throw new CompilerBug("fuse", "not a contraction");
  const labels = [...new Set([...operation.result, ...operation.left])];
  const role = (label: number): number => {
    if (!operation.result.includes(label)) return 3;
    if (!operation.left.includes(label)) return 2;
    return operation.right.includes(label) ? 0 : 1;
  };
  labels.sort((a, b) => role(a) - role(b));
  return (side) => operation[side].map((label) => labels.indexOf(label));
}

/** batch, heads, queries, keys, head: the five loops of attention. */
function attentionLoops(node: Node): Axis[] {
  const { operation } = node;
  const [q, k] = node.inputs;
  if ((operation.op !== "attention" && operation.op !== "attentionGradient") || q === undefined || k === undefined) {
    throw new CompilerBug("fuse", `${operation.op} is not an attention`);
  }
  const batch = batchAxes(q.shape, operation);
  if (batch.length > 1) {
    throw new Diagnostic({
      kind: "shape",
      message: `attention has ${String(batch.length)} batch axes: ${batch.map((axis) => axis.name).join(", ")}`,
      where: originOf(node)?.locate(),
      fix: 'merge them first, for example .rearrange("a b tokens width -> (a b) tokens width")',
    });
  }
  const named = (shape: Shape, name: string): Axis => shape.find((axis) => axis.name === name) ?? { name, size: ONE };
  return [
    batch[0] ?? { name: "batch", size: ONE },
    named(q.shape, operation.heads),
    named(q.shape, operation.queries),
    named(k.shape, operation.keys),
    named(q.shape, operation.head),
  ];
}

const domainKey = (shape: Shape): string =>
  shape
    .map((axis) => `${axis.name}=${axis.size.key}`)
    .sort()
    .join();

/** The coordinates at which a tensor with some of the domain's axes is read when nothing is moved. */
const identityIn = (domain: Shape, shape: Shape): Coordinate[] =>
  shape.map((axis) => along(domain.findIndex((each) => each.name === axis.name)));

const isAligned = (edge: Edge, at: readonly Coordinate[], domain: Shape): boolean =>
  identityIn(domain, edge.shape).every((own, i) => coordinateKey(own) === coordinateKey(at[i] ?? ORIGIN));

function listAt<T>(lists: Map<string, T[]>, key: string): T[] {
  const known = lists.get(key);
  if (known !== undefined) return known;
  const made: T[] = [];
  lists.set(key, made);
  return made;
}

/** Rows of which every thread keeps whole ones, so that what depends on their sums can follow in the same kernel. */
function isShortRow(candidate: Group): boolean {
  const inner = staticValue(multiply(ONE, ...candidate.axes.slice(candidate.outer).map((axis) => axis.size)));
  return candidate.outer > 0 && inner !== undefined && inner <= LONGEST_ROW;
}
