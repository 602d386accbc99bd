/**
 * Fewer, longer axes: axes of one element are dropped, and adjacent axes that every access walks as one are merged.
 * The kernel computes the same elements in the same row-major order, so `linear` keeps its meaning.
 */
import { constant, multiply, ONE, staticValue, ZERO } from "../graph/dim.ts";
import { literal, substitute, variable, variablesOf, type Expression } from "../notation/expression.ts";
import type { Access, Axis } from "./kernel.ts";

export interface Loops {
  readonly axes: readonly Axis[];
  readonly accesses: readonly Access[];
}

export interface Collapsed extends Loops {
  /** For each new axis, the old axes it stands for, in order. */
  readonly groups: readonly (readonly number[])[];
  /** Rewrites an expression over the old axes. */
  readonly rewrite: (expression: Expression) => Expression;
}

/**
 * `kindOf(axis)` keeps apart what a kernel treats differently (outer and inner, kept and reduced): only axes of one
 * kind merge, and each kind that has an axis keeps one. `roots` are the expressions of the kernel outside its accesses.
 */
export function collapse(loops: Loops, roots: readonly Expression[], kindOf: (axis: number) => unknown): Collapsed {
  const { axes, accesses } = loops;
  const inAccesses = accesses.flatMap(({ guard, lookups }) => [
    ...(guard === undefined ? [] : [guard]),
    ...lookups.map((lookup) => lookup.index),
  ]);
  const named = new Set(variablesOf([...roots, ...inAccesses]).map((used) => used.name));
  const kept = axes.map((_, axis) => axis).filter((axis) => axes[axis]!.size !== ONE || isLastOfItsKind(axis));
  const groups: number[][] = [];
  for (const axis of kept) {
    const group = groups.at(-1);
    if (group !== undefined && canFollow(group.at(-1)!, axis)) group.push(axis);
    else groups.push([axis]);
  }

  /** Nothing else of this kind remains when the axes of one element are dropped. */
  function isLastOfItsKind(axis: number): boolean {
    const peers = axes.map((_, other) => other).filter((other) => kindOf(other) === kindOf(axis));
    return axis === peers.at(-1) && peers.every((peer) => axes[peer]!.size === ONE);
  }

  function canFollow(before: number, axis: number): boolean {
    return (
      kindOf(before) === kindOf(axis) &&
      !named.has(`i${before}`) &&
      !named.has(`i${axis}`) &&
      accesses.every(({ strides }) => strides[before] === multiply(strides[axis] ?? ZERO, axes[axis]!.size))
    );
  }

  const positions = new Map<string, number>(
    groups.flatMap((group, position) => group.map((axis) => [`i${axis}`, position] as const)),
  );
  const done = new Map<Expression, Expression>();
  const rewrite = (expression: Expression): Expression =>
    substitute(
      expression,
      (used) => {
        if (!/^i\d+$/.test(used.name)) return used;
        const position = positions.get(used.name);
        return position === undefined ? literal(0, used.type) : variable(`i${position}`, used.type);
      },
      done,
    );

  return {
    groups,
    rewrite,
    axes: groups.map((group) => mergedAxis(group.map((axis) => axes[axis]!))),
    accesses: accesses.map((access) => ({
      ...access,
      strides: groups.map((group) => access.strides[group.at(-1)!] ?? ZERO),
      lookups: access.lookups.map((lookup) => ({ ...lookup, index: rewrite(lookup.index) })),
      ...(access.guard === undefined ? {} : { guard: rewrite(access.guard) }),
    })),
  };
}

function mergedAxis(parts: readonly Axis[]): Axis {
  const [first, last] = [parts[0]!, parts.at(-1)!];
  const name = parts.length > 2 ? `${first.name}_to_${last.name}` : parts.map((part) => part.name).join("_");
  return { name, size: multiply(...parts.map((part) => part.size), constant(1)) };
}

/** The product of the sizes of axes; one for none. */
export const elementsOf = (axes: readonly Axis[]) => multiply(ONE, ...axes.map((axis) => axis.size));

/** Whether an axis is known to have at most `limit` elements. */
export const isAtMost = (axis: Axis, limit: number): boolean => (staticValue(axis.size) ?? Infinity) <= limit;
