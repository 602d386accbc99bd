/** Element-wise kernels on a CPU: what `templates/cpu/map.cpp.hbs` needs to know. */
import { ceilDiv, multiply, ONE, staticValue, ZERO } from "../../graph/dim.ts";
import { collapse, elementsOf } from "../../kernels/collapse.ts";
import type { MapKernel } from "../../kernels/kernel.ts";
import { dimText, headOf, openFrame, scaledText, type Frame } from "./context.ts";
import { runs } from "./runs.ts";
import { openScope, storeStatements } from "./scope.ts";
import type { Generated } from "./target.ts";

/** Elements of a task: some ten microseconds of work. */
const BLOCK = 16384;

/** An innermost axis shorter than this is not worth a loop of its own when there is a longer one. */
const SHORT = 16;

export function map(kernel: MapKernel): Generated {
  const collapsed = collapseMap(kernel);
  const frame = openFrame(collapsed, kernel);
  const order = orderOfAxes(collapsed);
  const reordered = order.some((axis, position) => axis !== position);
  const total = elementsOf(collapsed.axes);
  const task = openScope(frame, undefined);
  const loops = runs(frame, task, {
    axes: order,
    variables: (position) => new Map([["linear", reordered ? rowMajor(frame) : position]]),
    element: (scope) => storeStatements(scope, collapsed.stores),
  });
  return {
    template: "map.cpp",
    context: {
      ...headOf(frame),
      block: BLOCK,
      total: dimText(frame, total),
      reordered: reordered ? order.map((axis) => collapsed.axes[axis]!.name).join(", ") : "",
      settled: task.lines,
      runs: loops,
    },
    tasks: [ceilDiv(total, BLOCK)],
    workspaces: [],
    scratch: ZERO,
  };
}

function collapseMap(kernel: MapKernel): MapKernel {
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
function orderOfAxes({ axes, accesses, stores }: MapKernel): number[] {
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
function rowMajor(frame: Frame): string {
  const { axes } = frame.kernel;
  const terms = axes.map((_, axis) => {
    const inside = multiply(ONE, ...axes.slice(axis + 1).map((later) => later.size));
    return scaledText(frame, frame.indices[axis]!, inside);
  });
  return terms.join(" + ");
}
