/** Which axes an element-wise kernel has, and in which order it visits them. */
import { multiply, ONE, staticValue, ZERO } from "../../graph/dim.ts";
import { collapse } from "../../kernels/collapse.ts";
import type { MapKernel } from "../../kernels/kernel.ts";
import { scaledText, type Frame } from "./context.ts";

/** An innermost axis shorter than this is not worth a loop of its own when there is a longer one. */
const SHORT = 16;

/** The kernel with as few axes as possible, and one at least. */
export function collapseMap(kernel: MapKernel): MapKernel {
  const roots = kernel.stores.map((store) => store.value);
  const { axes, accesses, rewrite } = collapse(kernel, roots, () => "element");
  if (axes.length === 0) {
    const lone = { axes: [{ name: "element", size: ONE }], accesses: accesses.map((a) => ({ ...a, strides: [ZERO] })) };
    return { ...kernel, ...lone };
  }
  return {
    ...kernel,
    axes,
    accesses,
    stores: kernel.stores.map((store) => ({ ...store, value: rewrite(store.value) })),
  };
}

/** Memory order, unless the last axis is short: then the best other axis goes innermost. */
export function orderOfAxes({ axes, accesses, stores }: MapKernel): number[] {
  const all = axes.map((_, axis) => axis);
  const last = axes.length - 1;
  const sizeOf = (axis: number): number => staticValue(axes[axis]!.size) ?? Infinity;
  if (sizeOf(last) >= SHORT) return all;
  const strideOf = (access: number, axis: number): number =>
    staticValue(accesses[access]!.strides[axis] ?? ZERO) ?? Infinity;
  // Short strides in what is stored count most: a cache line is written once.
  const farthest = (axis: number): number => Math.max(...stores.map((store) => strideOf(store.access, axis)));
  const candidates = all.filter((axis) => sizeOf(axis) >= SHORT);
  const [best] = candidates.sort((a, b) => farthest(a) - farthest(b) || b - a);
  return best === undefined ? all : [...all.filter((axis) => axis !== best), best];
}

/** The row-major number of an element from its indices: what a random draw counts with. */
export function rowMajor(frame: Frame, indices: ReadonlyMap<number, string>): string {
  const { axes } = frame.kernel;
  const terms = axes.map((_, axis) => {
    const inside = multiply(ONE, ...axes.slice(axis + 1).map((later) => later.size));
    return scaledText(frame, indices.get(axis)!, inside);
  });
  return terms.join(" + ");
}
