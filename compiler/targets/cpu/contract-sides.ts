/** How each side of a contraction reaches the micro-kernel: where it lies, turned, or packed; see `contract.ts`. */
import type { ScalarType } from "../../../contract/dtype.ts";
import { staticValue, ZERO, type Dim } from "../../graph/dim.ts";
import type { Expression } from "../../notation/expression.ts";
import { dimText, scaledText, type Frame } from "../code/context.ts";
import { wholeIndices, type Range } from "../code/indices.ts";
import { isDirectRight, strideAlong, type Contraction, type Side } from "../code/contract-axes.ts";
import type { Blocks } from "./contract-blocks.ts";
import { convert } from "../code/print.ts";
import { emitValues, openScope, pointerTo, type Scope } from "../code/scope.ts";
import { argumentLines } from "./launch.ts";
import { walk, type Walk } from "./walk.ts";

export interface Setting {
  readonly contraction: Contraction;
  readonly frame: Frame;
  readonly blocks: Blocks;
  /** The type of products and sums. */
  readonly type: ScalarType;
  readonly line: number;
  /** Products of bf16, which some machines multiply as such, in groups along k. */
  readonly narrow: boolean;
}

export const SAMPLE = "sample";
export const ROW = "row";
export const COLUMN = "column";
export const DEPTH = "depth";

export const linesOf = (of: Walk): string[] => [...of.lines, ...of.outerLines, ...of.runLines, ...of.elementLines];

/** The declarations of those operands, sizes and scalars that lines of C++ mention. */
export function argumentsOf(frame: Frame, lines: readonly string[]): string[] {
  const words = new Set(lines.flatMap((line) => line.match(/\w+/g) ?? []));
  return argumentLines(frame).filter((line) => words.has(/(\w+) = /.exec(line)?.[1] ?? ""));
}

export interface SideView {
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

export interface LeftView extends SideView {
  /** Packed: whether a row of the block lies along k. */
  readonly byRows: boolean;
  /** Elements between packed rows, or steps, and of the whole packed block. */
  readonly stride: number;
  readonly size: number;
}

export function leftView(setting: Setting): LeftView {
  const { contraction, blocks, line, narrow } = setting;
  const { left, axes } = contraction;
  if (left.plain !== undefined)
    return { ...directView(setting, left.plain, "m", ROW), byRows: true, stride: 0, size: 0 };
  const alongDepth = left.along === "k";
  const stride = alongDepth ? blocks.depth + line : blocks.rows;
  return {
    ...NO_SIDE,
    ...packedView(setting, left, "LEFT_STRIDE", { name: ROW, axes: axes.m }),
    comment: alongDepth
      ? "The left side of a block, row by row; the padding keeps rows apart in the cache."
      : "The left side of a block, one row for each step of the sum, as it is read.",
    byRows: alongDepth,
    stride,
    // Steps that are multiplied two at a time are turned into rows beside them.
    size: alongDepth
      ? blocks.rows * stride
      : blocks.depth * stride + (narrow ? blocks.rows * (blocks.depth + line) : 0),
  };
}

export interface RightView extends SideView {
  readonly direct: boolean;
  readonly shared: boolean;
  readonly private: boolean;
  readonly transposed: boolean;
  /** Transposed right where it lies, without a prologue to evaluate first. */
  readonly turned: SideView | undefined;
  readonly varies: boolean;
  readonly stride: string;
  /** Elements of scratch that a panel takes before it is transposed, and that the packed block takes with it. */
  readonly aside: number;
  readonly scratch: string;
}

export function rightView(setting: Setting, rows: Dim): RightView {
  const { contraction, blocks, line, narrow } = setting;
  const { axes, right } = contraction;
  const none = { direct: false, shared: false, private: false, transposed: false, turned: undefined };
  const sizes = { stride: "", aside: 0, scratch: "0" };
  const varies = right.variesOverBatch;
  if (right.plain !== undefined && isDirectRight(contraction, line)) {
    return { ...none, ...sizes, ...directView(setting, right.plain, "n", COLUMN), direct: true, varies };
  }
  const transposed = right.along === "k";
  const turned = transposed ? turnedView(setting) : undefined;
  const aside = (transposed && turned === undefined) || narrow ? blocks.panel * (blocks.depth + line) : 0;
  const oneBlock = (staticValue(rows) ?? Infinity) <= blocks.rows;
  const isPrivate = blocks.split !== undefined || (oneBlock && varies);
  return {
    ...none,
    ...NO_SIDE,
    ...packedView(setting, right, "RIGHT_STRIDE", { name: COLUMN, axes: axes.n }),
    transposed,
    turned,
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

/** `right` as rows of k that can be transposed straight into panels. */
function turnedView(setting: Setting): SideView | undefined {
  const { plain } = setting.contraction.right;
  if (plain === undefined) return undefined;
  const view = directView(setting, plain, "n", COLUMN, "depth_first");
  return view.step === "1"
    ? { ...view, arguments: argumentsOf(setting.frame, [...view.lines, view.place, view.row]) }
    : undefined;
}

/** A side multiplied where it lies. */
function directView(setting: Setting, plain: number, own: "m" | "n", name: string, depth = "first"): SideView {
  const { contraction, frame } = setting;
  const { axes, kernel } = contraction;
  const access = kernel.accesses[plain]!;
  const { lines, indices } = wholeIndices(frame, { name: SAMPLE, axes: axes.batch });
  const scope = openScope(frame, undefined, { axes: indices });
  const pointer = pointerTo(scope, plain);
  const [row, step] = [strideAlong(access, axes[own]) ?? ZERO, strideAlong(access, axes.k) ?? ZERO];
  const terms = [
    ...(row === ZERO ? [] : [scaledText(frame, `${name}_first`, row)]),
    ...(step === ZERO ? [] : [scaledText(frame, depth, step)]),
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
    run: `Operand* __restrict__ const to = packed + ${at};`,
    element: (scope) => {
      scope.lines.push(`to[at] = ${elementText(scope, side.value, type)};`);
    },
  });
  return { packed: true, walk: loops, arguments: argumentsOf(frame, linesOf(loops)) };
}

function elementText(scope: Scope, value: Expression, type: ScalarType): string {
  const [text] = emitValues(scope, [value]);
  return convert(text!, value.type, type === "bool" ? "f32" : type).text;
}
