/**
 * Loops over the elements `first` to `last` of several axes, counted in row-major order, as runs along the innermost
 * one: within a run every access has one stride, so the loop becomes vector code. Structure: `_runs_begin.cpp.hbs`
 * and `_runs_end.cpp.hbs`.
 */
import { dimText, type Frame } from "../code/context.ts";
import { openScope, type Scope } from "../code/scope.ts";

/** What the partials need. With a single axis there is one run and no loop around it. */
export interface Runs {
  /** The digits of an element's number, innermost first, without the outermost. */
  readonly digits: readonly Digit[];
  /** The same without the innermost: what a carry passes through on the way to the next run. */
  readonly carries: readonly Digit[];
  readonly outermost: string;
  /** The loop of a run: `index` from `from` to `to`; `length` is the size of the innermost axis. */
  readonly index: string;
  readonly from: string;
  readonly to: string;
  readonly length: string;
  /** Statements before a run, and for each element. */
  readonly lines: readonly string[];
  readonly body: readonly string[];
}

interface Digit {
  readonly start: string;
  readonly size: string;
}

export interface RunParts {
  /** Axes of the frame's kernel, outermost first; at least one. */
  readonly axes: readonly number[];
  /** Variables of the element, given the C++ text of its number among all elements. */
  readonly variables?: (position: string) => ReadonlyMap<string, string>;
  /** Appends the statements of an element and gives those that must come last. */
  readonly element: (scope: Scope, position: string) => readonly string[];
}

export function runs(frame: Frame, parent: Scope, { axes, variables, element }: RunParts): Runs {
  const innermost = axes.at(-1)!;
  const outer = axes.slice(0, -1);
  const several = outer.length > 0;
  const index = frame.indices[innermost]!;
  const position = several ? `at + ${index} - start` : index;
  const runScope = openScope(frame, parent, { axes: new Map(outer.map((axis) => [axis, frame.indices[axis]!])) });
  const scope = openScope(frame, several ? runScope : parent, {
    axes: new Map([[innermost, index]]),
    variables: variables?.(position) ?? new Map<string, string>(),
  });
  const last = element(scope, position);
  const sizeOf = (axis: number): string => divisor(dimText(frame, frame.kernel.axes[axis]!.size));
  const middle = outer.slice(1).reverse();
  const carries = middle.map((axis) => ({ start: frame.indices[axis]!, size: sizeOf(axis) }));
  return {
    digits: several ? [{ start: "start", size: sizeOf(innermost) }, ...carries] : [],
    carries,
    outermost: several ? frame.indices[outer[0]!]! : "",
    index,
    from: several ? "start" : "first",
    to: several ? "stop" : "last",
    length: sizeOf(innermost),
    lines: runScope.lines,
    body: [...scope.lines, ...last],
  };
}

/** Fit to stand right of a division. */
export const divisor = (text: string): string => (/^\w+$/.test(text) ? text : `(${text})`);
