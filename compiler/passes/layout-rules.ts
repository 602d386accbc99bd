/** Rules about layout: views of views are one view, and what is taken apart and joined again was never apart. */
import { add, divideExactly, multiply, ONE, type Dim } from "../graph/dim.ts";
import type { Edge } from "../graph/node.ts";
import { axisNamed, sameShape } from "../graph/shape.ts";
import { contract } from "../ops/contract.ts";
import { expand, rearrange, slice } from "../ops/layout.ts";
import { madeBy, rule, type Rule } from "./rewrite.ts";

const expandOfExpand = rule("expandOfExpand", "expand", {
  because: "what is spread twice is spread once over all axes",
  match: ({ shape }, [x]) => {
    const inner = madeBy("expand", x);
    return inner === undefined ? undefined : { x: inner.x, shape };
  },
  build: ({ x, shape }) => expand(x, shape),
});

/** Axes cut in factors, and new axes made of them: the fields of a rearrange. */
interface Factors {
  readonly split: readonly (readonly Dim[])[];
  readonly groups: readonly (readonly number[])[];
}

/** The same rearrangement without factors of one element, and with factors that stay together as one. */
function shortest({ split, groups }: Factors): Factors {
  const sizes = split.flat();
  const axisOf = split.flatMap((parts, axis) => parts.map(() => axis));
  const kept = groups.map((group) => group.filter((factor) => sizes[factor] !== ONE));
  const runs = kept.map((group) => {
    const found: number[][] = [];
    for (const factor of group) {
      const run = found.at(-1);
      const last = run?.at(-1);
      if (run !== undefined && last !== undefined && follows(last, factor)) run.push(factor);
      else found.push([factor]);
    }
    return found;
  });
  /** Whether nothing but single elements lies between two factors of one axis. */
  function follows(before: number, factor: number): boolean {
    if (factor <= before || axisOf[before] !== axisOf[factor]) return false;
    return sizes.slice(before + 1, factor).every((size) => size === ONE);
  }
  const order = runs.flat().sort((a, b) => a[0]! - b[0]!);
  const cut = split.map((_, axis) =>
    order.filter((run) => axisOf[run[0]!] === axis).map((run) => product(run.map((factor) => sizes[factor]!))),
  );
  return { split: cut, groups: runs.map((group) => group.map((run) => order.indexOf(run))) };
}

const product = (sizes: readonly Dim[]): Dim => multiply(ONE, ...sizes);

const sameFactors = (a: Factors, b: Factors): boolean => keyOf(a) === keyOf(b);
const keyOf = ({ split, groups }: Factors): string =>
  `${split.map((parts) => parts.map((size) => size.key).join()).join(";")}|${groups.map((group) => group.join()).join(";")}`;

/** Every axis stays whole, in its place. */
const movesNothing = ({ split, groups }: Factors): boolean => {
  let next = 0;
  return split.every((parts, i) => {
    const group = groups[i] ?? [];
    return parts.length <= 1 && group.length === parts.length && (parts.length === 0 || group[0] === next++);
  });
};

const rearrangeInPlace = rule("rearrangeInPlace", "rearrange", {
  because: "axes that keep their order, their sizes and their names are the tensor itself",
  match: (operation, [x], [result]) =>
    x !== undefined && result !== undefined && sameShape(x.shape, result.shape) && movesNothing(shortest(operation))
      ? x
      : undefined,
  build: (x) => x,
});

const rearrangeOfRearrange = rule("rearrangeOfRearrange", "rearrange", {
  because: "two rearrangements are one when the factors of the second cut through those of the first",
  match: (operation, [x]) => {
    const inner = madeBy("rearrange", x);
    const factors = inner === undefined ? undefined : compose(inner.operation, operation);
    return inner === undefined || factors === undefined ? undefined : { x: inner.x, factors, names: operation.names };
  },
  build: ({ x, factors, names }) => rearrange(x, factors.split, factors.groups, names),
});

/** A piece of an axis between two rearrangements: a part of one factor of the first and of one of the second. */
interface Piece {
  readonly size: Dim;
  readonly first: number;
  readonly second: number;
}

function compose(first: Factors, second: Factors): Factors | undefined {
  const sizes = first.split.flat();
  const pieces: Piece[] = [];
  let start = 0;
  for (const [axis, parts] of second.split.entries()) {
    const group = first.groups[axis] ?? [];
    const cut = commonPieces(
      group.map((factor) => ({ factor, size: sizes[factor] ?? ONE })),
      parts.map((size, i) => ({ factor: start + i, size })),
    );
    if (cut === undefined) return undefined;
    pieces.push(...cut);
    start += parts.length;
  }
  const byFirst = sizes.map((_, factor) => pieces.filter((piece) => piece.first === factor));
  const order = byFirst.flat();
  let next = 0;
  const split = first.split.map((parts) => parts.flatMap(() => byFirst[next++]?.map((piece) => piece.size) ?? []));
  const groups = second.groups.map((group) =>
    group.flatMap((factor) => pieces.filter((piece) => piece.second === factor).map((piece) => order.indexOf(piece))),
  );
  return shortest({ split, groups });
}

interface Factor {
  readonly factor: number;
  readonly size: Dim;
}

/** One axis, cut by two lists of factors: the pieces that both are made of. Undefined when they cross. */
function commonPieces(first: readonly Factor[], second: readonly Factor[]): Piece[] | undefined {
  const [left, right] = [first, second].map((list) => list.filter((each) => each.size !== ONE)) as [Factor[], Factor[]];
  const pieces: Piece[] = [];
  let [a, b] = [left.shift(), right.shift()];
  while (a !== undefined && b !== undefined) {
    const [wider, narrower] = divideExactly(a.size, b.size) === undefined ? [b, a] : [a, b];
    const rest = divideExactly(wider.size, narrower.size);
    if (rest === undefined) return undefined;
    pieces.push({ size: narrower.size, first: a.factor, second: b.factor });
    const remaining: Factor | undefined = rest === ONE ? undefined : { factor: wider.factor, size: rest };
    const [wideA, done] = [wider === a, rest === ONE];
    if (wideA || done) b = right.shift();
    if (!wideA || done) a = left.shift();
    if (remaining !== undefined && wideA) a = remaining;
    else if (remaining !== undefined) b = remaining;
  }
  return a === undefined && b === undefined ? pieces : undefined;
}

const rearrangeShorter = rule("rearrangeShorter", "rearrange", {
  because: "one spelling for one rearrangement: equal ones are one node",
  match: (operation, [x]) => {
    const factors = shortest(operation);
    return x === undefined || sameFactors(factors, operation) ? undefined : { x, factors, names: operation.names };
  },
  build: ({ x, factors, names }) => rearrange(x, factors.split, factors.groups, names),
});

const sliceOfSlice = rule("sliceOfSlice", "slice", {
  because: "a range of a range is a range",
  match: ({ axis, start, size }, [x]) => {
    const inner = madeBy("slice", x);
    if (inner?.operation.axis !== axis) return undefined;
    return { x: inner.x, axis, start: add(inner.operation.start, start), size };
  },
  build: ({ x, axis, start, size }) => slice(x, axis, start, size),
});

const splitOfConcat = rule("splitOfConcat", "split", {
  because: "what was joined comes apart where it was joined",
  match: ({ axis, sizes }, [x]) => {
    const joined = madeBy("concat", x);
    const parts = joined?.node.inputs ?? [];
    const fits =
      joined?.operation.axis === axis &&
      parts.length === sizes.length &&
      parts.every((part, i) => axisNamed(part.shape, axis)?.size === sizes[i]);
    return fits ? parts : undefined;
  },
  build: (parts) => parts,
});

const concatOfSplit = rule("concatOfSplit", "concat", {
  because: "consecutive parts joined again are a range of what they were parts of",
  match: ({ axis }, parts) => {
    const first = parts[0];
    const cut = madeBy("split", first);
    if (first === undefined || cut?.operation.axis !== axis) return undefined;
    const consecutive = parts.every((part, i) => part.node === cut.node && part.result === first.result + i);
    if (!consecutive) return undefined;
    const { sizes } = cut.operation;
    const own = sizes.slice(first.result, first.result + parts.length);
    return { x: cut.x, axis, start: add(...sizes.slice(0, first.result)), own, all: own.length === sizes.length };
  },
  build: ({ x, axis, start, own, all }) => (all ? x : slice(x, axis, start, add(...own))),
});

const contractOfPermute = rule("contractOfPermute", "contract", {
  because: "a contraction reads its operands in any order of axes",
  match: ({ left, right, result, names }, [a, b]) => {
    if (a === undefined || b === undefined) return undefined;
    const [plainA, plainB] = [unpermuted(a, left), unpermuted(b, right)];
    if (plainA === undefined && plainB === undefined) return undefined;
    return { left: plainA ?? { x: a, labels: left }, right: plainB ?? { x: b, labels: right }, result, names };
  },
  build: ({ left, right, result, names }) =>
    contract(left.x, right.x, { left: left.labels, right: right.labels, result }, names),
});

/** What a mere permutation or renaming shows, with the labels in its order of axes. */
function unpermuted(
  edge: Edge,
  labels: readonly number[],
): { readonly x: Edge; readonly labels: number[] } | undefined {
  const view = madeBy("rearrange", edge);
  if (view === undefined) return undefined;
  const { split, groups } = view.operation;
  const whole = [...split, ...groups].every((list) => list.length === 1) && split.length === groups.length;
  if (!whole) return undefined;
  return { x: view.x, labels: view.x.shape.map((_, axis) => labels[groups.findIndex(([factor]) => factor === axis)]!) };
}

export const LAYOUT_RULES: readonly Rule[] = [
  expandOfExpand,
  rearrangeInPlace,
  rearrangeOfRearrange,
  rearrangeShorter,
  sliceOfSlice,
  splitOfConcat,
  concatOfSplit,
  contractOfPermute,
];
