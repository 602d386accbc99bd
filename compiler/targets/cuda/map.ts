/** Element-wise kernels on a GPU: what `templates/cuda/map.cu.hbs` needs to know. */
import { ceilDiv } from "../../graph/dim.ts";
import { elementsOf } from "../../kernels/collapse.ts";
import type { Access, MapKernel } from "../../kernels/kernel.ts";
import { variable } from "../../notation/expression.ts";
import { call } from "../../notation/functions.ts";
import { dimText, type Frame } from "../code/context.ts";
import { needed, wholeIndices } from "../code/indices.ts";
import { collapseMap, orderOfAxes, rowMajor } from "../code/map-axes.ts";
import { REGISTER_TYPES } from "../code/print.ts";
import { openScope, placeOf, storedValues } from "../code/scope.ts";
import { cudaHead, openCudaFrame } from "./launch.ts";
import type { Generated } from "./target.ts";

const THREADS = 256;
/** Elements of a thread, one block width apart, so that neighbours read neighbours. */
const ITEMS = 4;

export function map(kernel: MapKernel): Generated {
  const collapsed = collapseMap(kernel);
  const opened = openCudaFrame(collapsed, kernel);
  // Reads ask by themselves whether there is such an element: a branch would keep those of one from those of the next.
  const frame: Frame = { ...opened, kernel: { ...collapsed, accesses: collapsed.accesses.map(guarded) } };
  const order = orderOfAxes(collapsed);
  const reordered = order.some((axis, position) => axis !== position);
  const total = elementsOf(collapsed.axes);
  const settled = openScope(frame, undefined);
  const { lines, indices } = wholeIndices(frame, { name: "element", axes: order });
  const variables = new Map([
    ["linear", reordered ? rowMajor(frame, indices) : "element"],
    ["inside", "inside"],
  ]);
  const scope = openScope(frame, settled, { axes: indices, variables });
  const values = storedValues(scope, collapsed.stores);
  const placeScope = openScope(frame, settled, { axes: indices, variables });
  const places = collapsed.stores.map(({ access }) => placeOf(placeScope, access));
  const valueText = [...scope.lines, ...values.map(({ text }) => text.text)];
  const placeText = [...placeScope.lines, ...places];
  return {
    template: "map.cu",
    context: {
      ...cudaHead(frame),
      threads: THREADS,
      items: ITEMS,
      total: dimText(frame, total),
      reordered: reordered ? order.map((axis) => collapsed.axes[axis]!.name).join(", ") : "",
      settled: settled.lines,
      lines: [...needed(lines, valueText), ...scope.lines],
      placeLines: [...needed(lines, placeText), ...placeScope.lines],
      values: values.map(({ text, type }, i) => ({
        name: frame.fresh("stored"),
        type: REGISTER_TYPES[type],
        text: text.text,
        place: places[i]!,
      })),
    },
    phases: [{ blocks: ceilDiv(total, THREADS * ITEMS), threads: THREADS, sharedBytes: 0 }],
    workspaces: [],
  };
}

function guarded(access: Access): Access {
  const inside = variable("inside", "bool");
  return { ...access, guard: access.guard === undefined ? inside : call("and", [access.guard, inside]) };
}
