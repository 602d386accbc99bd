/**
 * Loops over a block of two roles of a contraction: rows of one role, and in each the other role in runs, a run being
 * elements along its innermost axis. Within a run every access has one stride, so that the loop becomes vector code
 * whatever the other axes do. The partial `_walk.cpp.hbs` is their structure.
 */
import { dimText, type Frame } from "../code/context.ts";
import { digits, wholeIndices, type Range } from "../code/indices.ts";
import { openScope, type Scope } from "../code/scope.ts";

export interface Walk {
  readonly outer: string;
  readonly inner: string;
  /** Statements before the loops, in a row, before a run, and per element. */
  readonly lines: readonly string[];
  readonly outerLines: readonly string[];
  readonly runLines: readonly string[];
  readonly elementLines: readonly string[];
}

export interface WalkParts {
  readonly batch: Range;
  readonly outer: Range;
  readonly inner: Range;
  /** Declares what the element needs of the run: where it writes, or its sums. */
  readonly run: string;
  /** Variables of the element, given the C++ text of its index along every axis. */
  readonly variables?: (indices: ReadonlyMap<number, string>) => ReadonlyMap<string, string>;
  /** Appends the statements of an element, whose position in the run is `at`. */
  readonly element: (scope: Scope) => void;
}

export function walk(frame: Frame, parts: WalkParts): Walk {
  const batch = wholeIndices(frame, parts.batch);
  const outer = wholeIndices(frame, parts.outer);
  const inner = runIndices(frame, parts.inner);
  const batchScope = openScope(frame, undefined, { axes: batch.indices });
  const outerScope = openScope(frame, batchScope, { axes: outer.indices });
  const runScope = openScope(frame, outerScope, { axes: inner.indices });
  const all = new Map([...batch.indices, ...outer.indices, ...inner.indices, ...inner.elementIndices]);
  const variables = parts.variables?.(all) ?? new Map<string, string>();
  const element = openScope(frame, runScope, { axes: inner.elementIndices, variables });
  parts.element(element);
  return {
    outer: parts.outer.name,
    inner: parts.inner.name,
    lines: [...batch.lines, ...batchScope.lines],
    outerLines: [...outer.lines, ...outerScope.lines],
    runLines: [...inner.lines, ...runScope.lines, parts.run],
    elementLines: element.lines,
  };
}

/** A run starts at the range's own variable and has `count` elements; `at` counts them. */
function runIndices(frame: Frame, { name, axes }: Range) {
  const innermost = axes.at(-1);
  const indices = new Map<number, string>();
  const rest = `${name}_last - ${name}`;
  if (innermost === undefined || axes.length === 1) {
    const elementIndices = new Map(innermost === undefined ? [] : [[innermost, `${name} + at`] as const]);
    return { lines: [`const int64_t count = ${rest};`], indices, elementIndices };
  }
  const all = digits(frame, name, axes);
  const first = frame.indices[innermost]!;
  all.indices.delete(innermost);
  const size = dimText(frame, frame.kernel.axes[innermost]!.size);
  const length = /^\d+$/.test(size) ? `int64_t(${size})` : size;
  const lines = [...all.lines, `const int64_t count = smaller(${length} - ${first}, ${rest});`];
  return { lines, indices: all.indices, elementIndices: new Map([[innermost, `${first} + at`]]) };
}
