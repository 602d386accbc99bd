/** Element-wise kernels on a CPU: what `templates/cpu/map.cpp.hbs` needs to know. */
import { ceilDiv, ZERO } from "../../graph/dim.ts";
import { elementsOf } from "../../kernels/collapse.ts";
import type { MapKernel } from "../../kernels/kernel.ts";
import { dimText, headOf, openFrame } from "../code/context.ts";
import { collapseMap, orderOfAxes, rowMajor } from "../code/map-axes.ts";
import { runs } from "./runs.ts";
import { openScope, storeStatements } from "../code/scope.ts";
import { argumentLines } from "./launch.ts";
import type { Generated } from "./target.ts";

/** Elements of a task: some ten microseconds of work. */
const BLOCK = 16384;

export function map(kernel: MapKernel): Generated {
  const collapsed = collapseMap(kernel);
  const frame = openFrame(collapsed, kernel);
  const order = orderOfAxes(collapsed);
  const reordered = order.some((axis, position) => axis !== position);
  const total = elementsOf(collapsed.axes);
  const task = openScope(frame, undefined);
  const indices = new Map(frame.indices.entries());
  const loops = runs(frame, task, {
    axes: order,
    variables: (position) => new Map([["linear", reordered ? rowMajor(frame, indices) : position]]),
    element: (scope) => storeStatements(scope, collapsed.stores),
  });
  return {
    template: "map.cpp",
    context: {
      ...headOf(frame),
      arguments: argumentLines(frame),
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
