/** Element-wise kernels on a GPU: what `templates/cuda/map.cu.hbs` needs to know. */
import { ceilDiv } from "../../graph/dim.ts";
import { elementsOf } from "../../kernels/collapse.ts";
import type { MapKernel } from "../../kernels/kernel.ts";
import { dimText } from "../code/context.ts";
import { wholeIndices } from "../code/indices.ts";
import { collapseMap, orderOfAxes, rowMajor } from "../code/map-axes.ts";
import { openScope, storeStatements } from "../code/scope.ts";
import { cudaHead, openCudaFrame } from "./launch.ts";
import type { Generated } from "./target.ts";

const THREADS = 256;
/** Elements of a thread, one block width apart, so that neighbours read neighbours. */
const ITEMS = 4;

export function map(kernel: MapKernel): Generated {
  const collapsed = collapseMap(kernel);
  const frame = openCudaFrame(collapsed, kernel);
  const order = orderOfAxes(collapsed);
  const reordered = order.some((axis, position) => axis !== position);
  const total = elementsOf(collapsed.axes);
  const settled = openScope(frame, undefined);
  const { lines, indices } = wholeIndices(frame, { name: "element", axes: order });
  const variables = new Map([["linear", reordered ? rowMajor(frame, indices) : "element"]]);
  const scope = openScope(frame, settled, { axes: indices, variables });
  const stores = storeStatements(scope, collapsed.stores);
  return {
    template: "map.cu",
    context: {
      ...cudaHead(frame),
      threads: THREADS,
      items: ITEMS,
      total: dimText(frame, total),
      reordered: reordered ? order.map((axis) => collapsed.axes[axis]!.name).join(", ") : "",
      settled: settled.lines,
      body: [...lines, ...scope.lines, ...stores],
    },
    phases: [{ blocks: ceilDiv(total, THREADS * ITEMS), threads: THREADS, sharedBytes: 0 }],
    workspaces: [],
  };
}
