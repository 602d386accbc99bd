/**
 * Contractions on a CPU: what `templates/cpu/contract.cpp.hbs` needs to know.
 *
 * Each side comes in the cheapest of these ways:
 *   direct   multiplied where it lies: no prologue, float32, one stride per role
 *   packed   the prologue is evaluated into private memory, per block
 *   shared   (right only) packed once for all blocks of rows, in a phase of its own
 */
import type { ScalarType } from "../../../contract/dtype.ts";
import { ceilDiv, multiply, ONE, staticValue, toDim, ZERO, type Dim } from "../../graph/dim.ts";
import type { ContractKernel } from "../../kernels/kernel.ts";
import type { Expression } from "../../notation/expression.ts";
import { dimText, headOf, openFrame, scaledText, type Frame } from "./context.ts";
import { arrange, isDirectRight, sizeOf, strideAlong, type Contraction, type Side } from "./contract-axes.ts";
import { chooseBlocks, paddedBytes, type Blocks } from "./contract-blocks.ts";
import { convert, REGISTER_TYPES } from "./print.ts";
import { emitStores, emitValues, openScope, pointerTo } from "./scope.ts";
import type { Generated } from "./target.ts";
import { walk, wholeIndices, type Range, type Walk } from "./walk.ts";

interface Setting {
  readonly contraction: Contraction;
  readonly frame: Frame;
  readonly blocks: Blocks;
  /** The type of products and sums. */
  readonly type: ScalarType;
  readonly line: number;
}

/** Integers multiply and add as unsigned ones, which wrap around. */
const ELEMENTS: Readonly<Record<ScalarType, { readonly cpp: string; readonly bytes: number }>> = {
  f64: { cpp: "double", bytes: 8 },
  f32: { cpp: "float", bytes: 4 },
  i32: { cpp: "uint32_t", bytes: 4 },
  u32: { cpp: "uint32_t", bytes: 4 },
  bool: { cpp: "float", bytes: 4 },
};

const SAMPLE = "sample";
const ROW = "row";
const COLUMN = "column";
const DEPTH = "depth";
/** Rows that one task of the combining phase finishes. */
const SLICE = 16;

export function contract(given: ContractKernel): Generated {
  const contraction = arrange(given);
  const { kernel, axes } = contraction;
  const type = productType(kernel.left.type, kernel.right.type);
  const element = ELEMENTS[type];
  const line = 64 / element.bytes;
  const sizes = {
    batch: sizeOf(kernel, axes.batch),
    m: sizeOf(kernel, axes.m),
    n: sizeOf(kernel, axes.n),
    k: sizeOf(kernel, axes.k),
  };
  const blocks = chooseBlocks({ ...sizes, line });
  const frame = openFrame(kernel, given);
  const setting: Setting = { contraction, frame, blocks, type, line };
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
  const sharedElements = multiply(contraction.right.variesOverBatch ? sizes.batch : ONE, panels, panel, sizes.k);
  const partialElements = multiply(blockTasks, split?.chunks ?? ONE, rows * columns);
  const privateElements = right.private ? depth * columns + right.aside : 0;
  const scratchElements = Math.max(left.size + privateElements + rows * columns, right.aside);
  return {
    template: "contract.cpp",
    context: {
      ...headOf(frame),
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

const linesOf = (of: Walk): string[] => [...of.lines, ...of.outerLines, ...of.runLines, ...of.elementLines];

/** The declarations of those operands, sizes and scalars that lines of C++ mention. */
function argumentsOf(frame: Frame, lines: readonly string[]): string[] {
  const words = new Set(lines.flatMap((line) => line.match(/\w+/g) ?? []));
  return headOf(frame).arguments.filter((line) => words.has(/(\w+) = /.exec(line)?.[1] ?? ""));
}

/** The type that products of the two sides have. */
function productType(left: ScalarType, right: ScalarType): ScalarType {
  const types = [left, right];
  const found = (["f64", "f32", "u32", "i32"] as const).find((type) => types.includes(type));
  return found ?? "bool";
}

interface SideView {
  readonly packed: boolean;
  readonly comment: string;
  /** Direct: the first element of a block, with the declarations it needs, and the strides. */
  readonly place: string;
  readonly lines: readonly string[];
  readonly row: string;
  readonly step: string;
  /** Packed: the loops that evaluate a block, and the operands they read. */
  readonly walk: Walk | undefined;
  readonly arguments: readonly string[];
}

const NO_SIDE: SideView = {
  packed: false,
  comment: "",
  place: "",
  lines: [],
  row: "",
  step: "",
  walk: undefined,
  arguments: [],
};

interface LeftView extends SideView {
  /** Elements between packed rows, or steps, and of the whole packed block. */
  readonly stride: number;
  readonly size: number;
}

function leftView(setting: Setting): LeftView {
  const { contraction, blocks, line } = setting;
  const { left, axes } = contraction;
  if (left.plain !== undefined) return { ...directView(setting, left.plain, "m", ROW), stride: 0, size: 0 };
  const alongDepth = left.along === "k";
  const stride = alongDepth ? blocks.depth + line : blocks.rows;
  return {
    ...NO_SIDE,
    ...packedView(setting, left, "LEFT_STRIDE", { name: ROW, axes: axes.m }),
    comment: alongDepth
      ? "The left side of a block, row by row; the padding keeps rows apart in the cache."
      : "The left side of a block, one row for each step of the sum, as it is read.",
    stride,
    size: alongDepth ? blocks.rows * stride : blocks.depth * stride,
    row: alongDepth ? "LEFT_STRIDE" : "1",
    step: alongDepth ? "1" : "LEFT_STRIDE",
  };
}

interface RightView extends SideView {
  readonly direct: boolean;
  readonly shared: boolean;
  readonly private: boolean;
  readonly transposed: boolean;
  readonly varies: boolean;
  readonly stride: string;
  /** Elements of scratch that a panel takes before it is transposed, and that the packed block takes with it. */
  readonly aside: number;
  readonly scratch: string;
}

function rightView(setting: Setting, rows: Dim): RightView {
  const { contraction, blocks, line } = setting;
  const { axes, right } = contraction;
  const none = { direct: false, shared: false, private: false, transposed: false, stride: "", aside: 0, scratch: "0" };
  const varies = right.variesOverBatch;
  if (right.plain !== undefined && isDirectRight(contraction, line)) {
    return { ...none, ...directView(setting, right.plain, "n", COLUMN), direct: true, varies };
  }
  const transposed = right.along === "k";
  const aside = transposed ? blocks.panel * (blocks.depth + line) : 0;
  const oneBlock = (staticValue(rows) ?? Infinity) <= blocks.rows;
  const isPrivate = blocks.split !== undefined || (oneBlock && varies);
  return {
    ...none,
    ...NO_SIDE,
    ...packedView(setting, right, "RIGHT_STRIDE", { name: COLUMN, axes: axes.n }),
    transposed,
    varies,
    shared: !isPrivate,
    private: isPrivate,
    comment: transposed
      ? "The right side of a panel as it is read: one row for each column of the output."
      : "The right side of a panel: one row for each step of the sum.",
    stride: transposed ? `DEPTH + ${line}` : "PANEL",
    aside,
    scratch: isPrivate ? `DEPTH * COLUMNS + ${aside}` : "0",
  };
}

/** A side multiplied where it lies. */
function directView({ contraction, frame }: Setting, plain: number, own: "m" | "n", name: string): SideView {
  const { axes, kernel } = contraction;
  const access = kernel.accesses[plain]!;
  const { lines, indices } = wholeIndices(frame, { name: SAMPLE, axes: axes.batch });
  const scope = openScope(frame, undefined, { axes: indices });
  const pointer = pointerTo(scope, plain);
  const [row, step] = [strideAlong(access, axes[own]) ?? ZERO, strideAlong(access, axes.k) ?? ZERO];
  const terms = [
    ...(row === ZERO ? [] : [scaledText(frame, `${name}_first`, row)]),
    ...(step === ZERO ? [] : [scaledText(frame, "first", step)]),
  ];
  return {
    ...NO_SIDE,
    place: [pointer, ...terms].join(" + "),
    lines: scope.lines.length > 0 ? [...lines, ...scope.lines] : [],
    row: dimText(frame, row),
    step: dimText(frame, step),
  };
}

/** A side whose prologue is evaluated along the role that suits its memory. */
function packedView(setting: Setting, side: Side, stride: string, own: Range) {
  const { contraction, frame, type } = setting;
  const depth: Range = { name: DEPTH, axes: contraction.axes.k };
  const [outer, inner] = side.along === "k" ? [own, depth] : [depth, own];
  const at = `(${outer.name} - ${outer.name}_first) * ${stride} + (${inner.name} - ${inner.name}_first)`;
  const loops = walk(frame, {
    batch: { name: SAMPLE, axes: contraction.axes.batch },
    outer,
    inner,
    run: `Element* __restrict__ const to = packed + ${at};`,
    element: (scope) => {
      scope.lines.push(`to[at] = ${elementText(scope, side.value, type)};`);
    },
  });
  return { packed: true, walk: loops, arguments: argumentsOf(frame, linesOf(loops)) };
}

function elementText(scope: ReturnType<typeof openScope>, value: Expression, type: ScalarType): string {
  const [text] = emitValues(scope, [value]);
  return convert(text!, value.type, type === "bool" ? "f32" : type).text;
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
    run: `const Element* __restrict__ const sums = tile + (${ROW} - ${ROW}_first) * COLUMNS + (${COLUMN} - ${COLUMN}_first);`,
    variables: (indices) => new Map([["acc", "acc"], ...linearOf(indices)]),
    element: (scope) => {
      scope.lines.push(`const ${REGISTER_TYPES[register]} acc = static_cast<${REGISTER_TYPES[register]}>(sums[at]);`);
      emitStores(scope, kernel.stores);
    },
  });
}
