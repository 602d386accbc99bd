/**
 * Contractions on a CPU: what `templates/cpu/contract.cpp.hbs` needs to know.
 *
 * Each side comes in the cheapest of these ways:
 *   direct   multiplied where it lies: no prologue, float32, one stride per role
 *   packed   the prologue is evaluated into private memory, per block
 *   shared   (right only) packed once for all blocks of rows, in a phase of its own
 */
import type { ScalarType } from "../../../contract/dtype.ts";
import { ceilDiv, multiply, ONE, toDim, ZERO, type Dim } from "../../graph/dim.ts";
import type { ContractKernel } from "../../kernels/kernel.ts";
import { dimText, headOf, openFrame, scaledText } from "../code/context.ts";
import { narrowProduct } from "../../kernels/work.ts";
import { arrange, sizeOf, vectorCost } from "../code/contract-axes.ts";
import { chooseBlocks, paddedBytes } from "./contract-blocks.ts";
import { argumentsOf, COLUMN, leftView, linesOf, rightView, ROW, SAMPLE, type Setting } from "./contract-sides.ts";
import { REGISTER_TYPES } from "../code/print.ts";
import { emitStores } from "../code/scope.ts";
import type { Generated } from "./target.ts";
import { walk, type Walk } from "./walk.ts";

/** Integers multiply and add as unsigned ones, which wrap around. */
const ELEMENTS: Readonly<Record<ScalarType, { readonly cpp: string; readonly bytes: number }>> = {
  f64: { cpp: "double", bytes: 8 },
  f32: { cpp: "float", bytes: 4 },
  i32: { cpp: "uint32_t", bytes: 4 },
  u32: { cpp: "uint32_t", bytes: 4 },
  bool: { cpp: "float", bytes: 4 },
};

/** Rows that one task of the combining phase finishes. */
/** Rows whose blocks are taken for one block of columns before the next. */
const GROUPED_ROWS = 1024;
const SLICE = 16;

export function contract(given: ContractKernel): Generated {
  const contraction = arrange(given, vectorCost);
  const { kernel, axes } = contraction;
  const type = productType(kernel.left.type, kernel.right.type);
  const element = ELEMENTS[type];
  // Products of bf16 come in lines of bf16 on the machines that know them; the others multiply floats.
  const narrow = narrowProduct(kernel) === "bf16";
  const line = 64 / (narrow ? 2 : element.bytes);
  const sizes = {
    batch: sizeOf(kernel, axes.batch),
    m: sizeOf(kernel, axes.m),
    n: sizeOf(kernel, axes.n),
    k: sizeOf(kernel, axes.k),
  };
  const blocks = chooseBlocks({ ...sizes, line, narrow });
  const frame = openFrame(kernel, given);
  const setting: Setting = { contraction, frame, blocks, type, line, narrow };
  const left = leftView(setting);
  const right = rightView(setting, sizes.m);
  const epilogue = epilogueWalk(setting);
  const text = (dim: Dim): string => dimText(frame, dim);
  const { rows, columns, depth, panel, rowBlocks, columnBlocks, blockPanels, split } = blocks;
  const panels = ceilDiv(sizes.n, panel);
  const steps = ceilDiv(sizes.k, depth);

  const packTasks = multiply(contraction.right.variesOverBatch ? sizes.batch : ONE, panels, steps);
  const blockTasks = multiply(sizes.batch, rowBlocks, columnBlocks);
  const firstWorkspace = kernel.operands.length;
  const tasks = [
    ...(right.shared ? [packTasks] : []),
    multiply(blockTasks, split?.chunks ?? ONE),
    ...(split === undefined ? [] : [multiply(blockTasks, Math.ceil(rows / SLICE))]),
  ];
  const panelDepth = narrow ? multiply(line, ceilDiv(sizes.k, line)) : sizes.k;
  const sharedElements = multiply(contraction.right.variesOverBatch ? sizes.batch : ONE, panels, panel, panelDepth);
  const partialElements = multiply(blockTasks, split?.chunks ?? ONE, rows * columns);
  const privateElements = right.private ? depth * columns + right.aside : 0;
  const scratchElements = Math.max(left.size + privateElements + rows * columns, right.aside);
  return {
    template: "contract.cpp",
    context: {
      ...headOf(frame),
      narrow,
      operand: narrow ? "tile::Narrow" : element.cpp,
      element: element.cpp,
      swapped: contraction.swapped,
      rows,
      columns,
      panel,
      depth,
      depthName: axes.k.map((axis) => kernel.axes[axis]!.name).join(", "),
      left,
      right: { ...right, workspace: firstWorkspace },
      epilogue,
      blockPanels: text(blockPanels),
      rowGroup: Math.ceil(GROUPED_ROWS / rows),
      sizes: { rows: text(sizes.m), columns: text(sizes.n), depth: text(sizes.k) },
      arguments: {
        sizes: argumentsOf(frame, [sizes.m, sizes.n, sizes.k, blockPanels, split?.chunks ?? ONE].map(text)),
        multiply: argumentsOf(frame, [
          ...left.lines,
          left.place,
          left.row,
          left.step,
          ...right.lines,
          right.place,
          right.step,
        ]),
        finish: argumentsOf(frame, linesOf(epilogue)),
      },
      sampleLines: [...left.lines, ...right.lines],
      split: split && {
        chunks: text(split.chunks),
        slice: SLICE,
        workspace: firstWorkspace + (right.shared ? 1 : 0),
      },
      phases: { pack: 0, multiply: right.shared ? 1 : 0, combine: right.shared ? 2 : 1 },
    },
    tasks,
    workspaces: [
      ...(right.shared ? [paddedBytes(sharedElements, element.bytes)] : []),
      ...(split === undefined ? [] : [paddedBytes(partialElements, element.bytes)]),
    ],
    scratch: toDim(scratchElements * element.bytes),
  };
}

/** The type that products of the two sides have. */
function productType(left: ScalarType, right: ScalarType): ScalarType {
  const types = [left, right];
  const found = (["f64", "f32", "u32", "i32"] as const).find((type) => types.includes(type));
  return found ?? "bool";
}

function epilogueWalk({ contraction, frame, type }: Setting): Walk {
  const { axes, kernel, linear } = contraction;
  const linearOf = (indices: ReadonlyMap<number, string>): [string, string][] => {
    const terms = linear?.flatMap((stride, axis) => {
      const index = indices.get(axis);
      return index === undefined || stride === ZERO ? [] : [scaledText(frame, index, stride)];
    });
    return terms === undefined ? [] : [["linear", terms.length === 0 ? "int64_t(0)" : terms.join(" + ")]];
  };
  const register = type === "bool" ? "f32" : type;
  return walk(frame, {
    batch: { name: SAMPLE, axes: axes.batch },
    outer: { name: ROW, axes: axes.m },
    inner: { name: COLUMN, axes: axes.n },
    run: `const Sum* __restrict__ const sums = tile + (${ROW} - ${ROW}_first) * COLUMNS + (${COLUMN} - ${COLUMN}_first);`,
    variables: (indices) => new Map([["acc", "acc"], ...linearOf(indices)]),
    element: (scope) => {
      scope.lines.push(`const ${REGISTER_TYPES[register]} acc = static_cast<${REGISTER_TYPES[register]}>(sums[at]);`);
      emitStores(scope, kernel.stores);
    },
  });
}
