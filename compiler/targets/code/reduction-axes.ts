/** Reductions with as few axes as possible, and what each axis is to them. */
import { ONE, ZERO } from "../../graph/dim.ts";
import { collapse, elementsOf } from "../../kernels/collapse.ts";
import type { ColumnsKernel, RowsKernel } from "../../kernels/kernel.ts";
import { dimText, type Frame } from "./context.ts";
import { wholeIndices } from "./indices.ts";

export function collapseRows(kernel: RowsKernel): RowsKernel {
  const roots = [
    ...kernel.stores.map((store) => store.value),
    ...kernel.stages.flatMap((stage) => stage.map((reduction) => reduction.value)),
  ];
  const { axes, accesses, groups, rewrite } = collapse(kernel, roots, (axis) => axis < kernel.outer);
  const outer = groups.filter(([first = 0]) => first < kernel.outer).length;
  const bare = outer === axes.length; // a row of one element, without an axis of its own
  return {
    ...kernel,
    outer,
    axes: bare ? [...axes, { name: "element", size: ONE }] : axes,
    accesses: bare ? accesses.map((access) => ({ ...access, strides: [...access.strides, ZERO] })) : accesses,
    stages: kernel.stages.map((stage) => stage.map((part) => ({ ...part, value: rewrite(part.value) }))),
    stores: kernel.stores.map((store) => ({ ...store, value: rewrite(store.value) })),
  };
}

/** Axes by what they are here: `outer` are kept and stand before a reduced one, `columns` are kept and come last. */
export interface Parts {
  readonly outer: readonly number[];
  readonly rows: readonly number[];
  readonly columns: readonly number[];
}

function kindsOf(reduced: readonly boolean[]): (axis: number) => keyof Parts {
  const last = reduced.lastIndexOf(true);
  return (axis) => (reduced[axis] === true ? "rows" : axis < last ? "outer" : "columns");
}

export function partsOf({ axes, reduced }: ColumnsKernel): Parts {
  const kindOf = kindsOf(reduced);
  const of = (kind: keyof Parts): number[] => axes.map((_, axis) => axis).filter((axis) => kindOf(axis) === kind);
  return { outer: of("outer"), rows: of("rows"), columns: of("columns") };
}

export function collapseColumns(kernel: ColumnsKernel): ColumnsKernel {
  const roots = [...kernel.stores, ...kernel.reductions].map((part) => part.value);
  const { axes, accesses, groups, rewrite } = collapse(kernel, roots, kindsOf(kernel.reduced));
  return {
    ...kernel,
    axes,
    accesses,
    reduced: groups.map(([first = 0]) => kernel.reduced[first] === true),
    reductions: kernel.reductions.map((reduction) => ({ ...reduction, value: rewrite(reduction.value) })),
    stores: kernel.stores.map((store) => ({ ...store, value: rewrite(store.value) })),
  };
}

/** The row-major number of an element over all axes, in the order of the kernel. */
export function linearText(frame: Frame, parts: Parts, position: string): string {
  const { axes } = frame.kernel;
  const indices = new Map<number, string>();
  for (const [name, list] of [["outer", parts.outer] as const, ["row", parts.rows] as const]) {
    for (const [axis, text] of wholeIndices(frame, { name, axes: list }).indices) indices.set(axis, text);
  }
  const terms = [...indices].map(([axis, index]) => {
    const inside = dimText(frame, elementsOf(axes.slice(axis + 1)));
    return inside === "1" ? index : `${index} * ${inside}`;
  });
  return [...terms, position].join(" + ");
}
