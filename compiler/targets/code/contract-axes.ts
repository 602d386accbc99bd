/**
 * How a contraction lies in memory: its axes by role with as few of them as possible, which side is `left`, and along
 * which axis each side is read.
 *
 * The micro-kernel reads `left` element by element and `right` in vectors along n, so the two sides are not alike. The
 * product is: where it costs less, m and n change places.
 */
import { isFloat } from "../../../contract/dtype.ts";
import { evaluateSize } from "../../../contract/size.ts";
import { multiply, ONE, staticValue, symbolsOf, toSize, ZERO, type Dim } from "../../graph/dim.ts";
import { collapse, elementsOf } from "../../kernels/collapse.ts";
import type { Access, Axis, ContractKernel, ContractRole } from "../../kernels/kernel.ts";
import { substitute, variable, variablesOf, type Expression } from "../../notation/expression.ts";

export interface Contraction {
  readonly kernel: ContractKernel;
  /** Whether m and n have changed places, and the two sides with them. */
  readonly swapped: boolean;
  /** The axes of each role, the one to run along innermost (last). */
  readonly axes: Readonly<Record<ContractRole, readonly number[]>>;
  /** The stride of `linear` along each axis, where the stores use it. */
  readonly linear: readonly Dim[] | undefined;
  readonly left: Side;
  readonly right: Side;
}

export interface Side {
  readonly value: Expression;
  /** The accesses that the value reads, those inside lookups and guards included. */
  readonly reads: readonly number[];
  /** The role along which the side is read: its own (m or n), or k. */
  readonly along: ContractRole;
  /** The one access that is this side as it lies in memory: nothing to compute, nothing to convert. */
  readonly plain: number | undefined;
  readonly variesOverBatch: boolean;
}

/** A contraction with few axes, and what `linear` counts them with, where the stores ask for it. */
interface Merged {
  readonly kernel: ContractKernel;
  readonly linear: readonly Dim[] | undefined;
}

const ROLES: readonly ContractRole[] = ["batch", "m", "n", "k"];

/** The contraction in the cheaper of its two orientations; `cost` weighs them. */
export function arrange(kernel: ContractKernel, cost: (contraction: Contraction) => number): Contraction {
  const merged = mergeAxes(kernel);
  const swappedSides = { ...merged, kernel: swap(merged.kernel) };
  const [asIs, swapped] = [orient(merged, false), orient(swappedSides, true)];
  return cost(swapped) < cost(asIs) ? swapped : asIs;
}

/** Axes sorted by role and merged where every access, and `linear`, walks two of them as one. */
function mergeAxes(given: ContractKernel): Merged {
  const order = ROLES.flatMap((role) => given.roles.flatMap((of, axis) => (of === role ? [axis] : [])));
  const sorted = permuteAxes(countLinear(given), order);
  const roots = [sorted.left, sorted.right, ...sorted.stores.map((store) => store.value)];
  const merged = collapse(sorted, roots, (axis) => sorted.roles[axis]);
  const kernel = {
    ...sorted,
    axes: merged.axes,
    accesses: merged.accesses.slice(0, given.accesses.length),
    roles: merged.groups.map((group) => sorted.roles[group[0]!]!),
    left: merged.rewrite(sorted.left),
    right: merged.rewrite(sorted.right),
    stores: sorted.stores.map((store) => ({ ...store, value: merged.rewrite(store.value) })),
  };
  return { kernel, linear: merged.accesses[given.accesses.length]?.strides };
}

/** The kernel with one access more where its stores use `linear`: an access whose offset is that number. */
function countLinear(kernel: ContractKernel): ContractKernel {
  const roots = kernel.stores.flatMap((store) => [store.value, ...addressing(kernel.accesses[store.access]!)]);
  const inReads = readsOf(kernel, roots).flatMap((read) => addressing(kernel.accesses[read]!));
  if (!variablesOf([...roots, ...inReads]).some(({ name }) => name === "linear")) return kernel;
  const strides = kernel.axes.map((_, axis) => elementsOf(kernel.axes.slice(axis + 1)));
  return { ...kernel, accesses: [...kernel.accesses, { operand: 0, strides, lookups: [] }] };
}

function permuteAxes(kernel: ContractKernel, order: readonly number[]): ContractKernel {
  if (order.every((axis, position) => axis === position)) return kernel;
  const position = (name: string): string => `i${order.indexOf(Number(name.slice(1)))}`;
  const done = new Map<Expression, Expression>();
  const rename = (expression: Expression): Expression =>
    substitute(
      expression,
      (used) => (/^i\d+$/.test(used.name) ? variable(position(used.name), used.type) : used),
      done,
    );
  return {
    ...kernel,
    axes: order.map((axis) => kernel.axes[axis]!),
    roles: order.map((axis) => kernel.roles[axis]!),
    accesses: kernel.accesses.map((access) => ({
      ...access,
      strides: order.map((axis) => access.strides[axis]!),
      lookups: access.lookups.map((lookup) => ({ ...lookup, index: rename(lookup.index) })),
      ...(access.guard === undefined ? {} : { guard: rename(access.guard) }),
    })),
    left: rename(kernel.left),
    right: rename(kernel.right),
    stores: kernel.stores.map((store) => ({ ...store, value: rename(store.value) })),
  };
}

const OPPOSITE: Readonly<Record<ContractRole, ContractRole>> = { batch: "batch", m: "n", n: "m", k: "k" };

const swap = (kernel: ContractKernel): ContractKernel => ({
  ...kernel,
  roles: kernel.roles.map((role) => OPPOSITE[role]),
  left: kernel.right,
  right: kernel.left,
});

function orient({ kernel, linear }: Merged, swapped: boolean): Contraction {
  const [left, right] = [readsOf(kernel, [kernel.left]), readsOf(kernel, [kernel.right])];
  const stores = epilogueAccesses(kernel);
  const axes = {
    batch: axesOf(kernel, "batch"),
    m: innermostLast(kernel, axesOf(kernel, "m"), [...left, ...stores]),
    n: innermostLast(kernel, axesOf(kernel, "n"), [...right, ...stores]),
    k: innermostLast(kernel, axesOf(kernel, "k"), [...left, ...right]),
  };
  return {
    kernel,
    swapped,
    axes,
    linear,
    left: sideOf(kernel, kernel.left, left, "m", axes),
    right: sideOf(kernel, kernel.right, right, "n", axes),
  };
}

const axesOf = (kernel: ContractKernel, role: ContractRole): number[] =>
  kernel.roles.flatMap((of, axis) => (of === role ? [axis] : []));

/** The accesses that expressions read, and those that these read through. */
export function readsOf(kernel: ContractKernel, roots: readonly Expression[]): number[] {
  const found = new Set<number>();
  const visit = (expressions: readonly Expression[]): void => {
    for (const { name } of variablesOf(expressions)) {
      const number = /^a\d+$/.test(name) ? Number(name.slice(1)) : undefined;
      if (number === undefined || found.has(number)) continue;
      found.add(number);
      visit(addressing(kernel.accesses[number]!));
    }
  };
  visit(roots);
  return [...found];
}

const addressing = (access: Access): Expression[] => [
  ...(access.guard === undefined ? [] : [access.guard]),
  ...access.lookups.map((lookup) => lookup.index),
];

function epilogueAccesses(kernel: ContractKernel): number[] {
  const written = kernel.stores.map((store) => store.access);
  const roots = kernel.stores.map((store) => store.value);
  const places = written.flatMap((access) => addressing(kernel.accesses[access]!));
  return [...written, ...readsOf(kernel, [...roots, ...places])];
}

/** The axis that most accesses walk with stride one comes last. */
function innermostLast(kernel: ContractKernel, axes: readonly number[], accesses: readonly number[]): number[] {
  let best = axes.at(-1);
  for (const axis of axes) if (best !== undefined && contiguity(axis) > contiguity(best)) best = axis;
  return best === undefined ? [] : [...axes.filter((axis) => axis !== best), best];

  function contiguity(axis: number): number {
    return accesses.filter((access) => kernel.accesses[access]!.strides[axis] === ONE).length;
  }
}

function sideOf(
  kernel: ContractKernel,
  value: Expression,
  reads: readonly number[],
  own: "m" | "n",
  axes: Contraction["axes"],
): Side {
  const indices = variablesOf([value, ...reads.flatMap((read) => addressing(kernel.accesses[read]!))]);
  return {
    value,
    reads,
    along: smoothness(own) > smoothness("k") ? own : "k",
    plain: plainAccess(),
    variesOverBatch: axes.batch.some(
      (axis) =>
        indices.some(({ name }) => name === `i${axis}`) ||
        reads.some((read) => staticValue(kernel.accesses[read]!.strides[axis]!) !== 0),
    ),
  };

  /** How well the reads turn into vector loads when the innermost loop runs along a role: long runs of stride one. */
  function smoothness(role: ContractRole): number {
    const axis = axes[role].at(-1);
    if (axis === undefined) return -1;
    const run = Math.min(guess(kernel.axes[axis]!.size), 16);
    const strides = reads.map((read) => kernel.accesses[read]!.strides[axis]!);
    return run * strides.reduce((sum, stride) => sum + (stride === ONE ? 1 : staticValue(stride) === 0 ? 0.5 : -1), 0);
  }

  function plainAccess(): number | undefined {
    if (value.kind !== "variable" || !/^a\d+$/.test(value.name)) return undefined;
    const position = Number(value.name.slice(1));
    const access = kernel.accesses[position]!;
    const { dtype } = kernel.operands[access.operand]!;
    const stored = isFloat(dtype) && dtype === kernel.left.type && dtype === kernel.right.type;
    const single = axes[own].length <= 1 && axes.k.length <= 1;
    return stored && single && addressing(access).length === 0 ? position : undefined;
  }
}

/** A size to decide by, where the program leaves it open: samples are few, what they are made of is much. */
export const guess = (size: Dim): number =>
  evaluateSize(toSize(size), new Map(symbolsOf(size).map((name) => [name, name === "batch" ? 64 : 256])));

export const sizeOf = (kernel: ContractKernel, axes: readonly number[]): Dim =>
  elementsOf(axes.map((axis): Axis => kernel.axes[axis]!));

/** The stride of an access along the only axis of a role; zero where the role has none. */
export const strideAlong = (access: Access, axes: readonly number[]): Dim | undefined => {
  const [axis] = axes;
  return axis === undefined ? undefined : access.strides[axis];
};

/** The stride of an access from one element of a role to the next, its axes counted as one; undefined where it varies. */
export function strideOver(kernel: ContractKernel, access: Access, axes: readonly number[]): Dim | undefined {
  const [last = ZERO, ...outer] = axes.map((axis) => access.strides[axis]!).toReversed();
  let next = last;
  const isEven = outer.every((stride, i) => {
    next = multiply(next, kernel.axes[axes.at(-1 - i)!]!.size);
    return stride === next;
  });
  return isEven ? last : undefined;
}

/** Whether `right` can be multiplied where it lies: rows of whole lines that are contiguous along n. */
export function isDirectRight({ kernel, axes, right }: Contraction, line: number): boolean {
  if (right.plain === undefined) return false;
  const columns = staticValue(sizeOf(kernel, axes.n));
  return columns !== undefined && columns % line === 0 && strideAlong(kernel.accesses[right.plain]!, axes.n) === ONE;
}

/** Accesses of the stores, reads included, that walk the innermost axis of n neither one by one nor not at all. */
export function scatteredAccesses({ kernel, axes }: Contraction): number {
  const innermost = axes.n.at(-1);
  return epilogueAccesses(kernel).filter((access) => {
    const stride = innermost === undefined ? ONE : kernel.accesses[access]!.strides[innermost]!;
    return stride !== ONE && staticValue(stride) !== 0;
  }).length;
}

/** Rough cycles of a contraction with vectors of 16: products, packing, and stores that have to be scattered. */
export function vectorCost(contraction: Contraction): number {
  const { kernel, axes, left, right } = contraction;
  const [m, n, k] = [axes.m, axes.n, axes.k].map((of) => guess(sizeOf(kernel, of))) as [number, number, number];
  const products = m * Math.ceil(n / 16) * k;
  const packRight = isDirectRight(contraction, 16) ? 0 : n * k * (right.along === "n" ? 0.3 : 1);
  const packLeft = left.plain === undefined ? 0.3 * m * k : 0;
  return products + packRight + packLeft + 2 * scatteredAccesses(contraction) * m * n;
}
