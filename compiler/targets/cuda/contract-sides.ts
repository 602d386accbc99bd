/**
 * The two sides of a contraction: matrices where they lie, or computed into workspaces of the product's type.
 *
 * A matrix runs along depth (a row per row or column of the product) or across (a row per step of k); a computed one
 * runs the way its reads do, so that both ends of the copy are contiguous.
 */
import type { ScalarType } from "../../../contract/dtype.ts";
import { ceilDiv, constant, multiply, ONE, staticValue, ZERO, type Dim } from "../../graph/dim.ts";
import type { ContractKernel } from "../../kernels/kernel.ts";
import { dimText, scaledText } from "../code/context.ts";
import { narrowProduct } from "../../kernels/work.ts";
import { strideOver, type Side } from "../code/contract-axes.ts";
import { wholeIndices } from "../code/indices.ts";
import { convert } from "../code/print.ts";
import { emitValues, openScope, pointerTo } from "../code/scope.ts";
import type { Setting } from "./contract.ts";
import type { Workspace } from "./launch.ts";

/** What the tensor cores multiply. */
export interface Product {
  readonly dtype: "bf16" | "f16" | "f32";
  /** The C++ type of an element, and its bytes. */
  readonly element: string;
  readonly bytes: number;
}

const PRODUCTS: Readonly<Record<Product["dtype"], Product>> = {
  bf16: { dtype: "bf16", element: "bf16", bytes: 2 },
  f16: { dtype: "f16", element: "f16", bytes: 2 },
  f32: { dtype: "f32", element: "float", bytes: 4 },
};

/** Undefined for what tensor cores cannot. */
export function productOf(kernel: ContractKernel): Product | undefined {
  if (![kernel.left.type, kernel.right.type].every((type: ScalarType) => type === "f32")) return undefined;
  return PRODUCTS[narrowProduct(kernel) ?? "f32"];
}

/** What the template needs of a side: `Matrix` number `sample` and how it lies. */
export interface SideView {
  /** Whether rows of the matrix run along k. */
  readonly along: boolean;
  /** Declarations in front of the matrix, and its fields. */
  readonly lines: readonly string[];
  readonly at: string;
  readonly stride: string;
  readonly rows: string;
  readonly columns: string;
  readonly workspace: Workspace | undefined;
  readonly pack: Pack | undefined;
  /** For a side that is read where it lies: its access. */
  readonly direct: number | undefined;
  /** Elements from one row of the matrix to the next, and from one sample to the next where all are as far apart. */
  readonly strides: { readonly row: Dim; readonly sample: Dim | undefined };
}

/** A phase that computes a side. */
export interface Pack {
  readonly comment: string;
  readonly elements: Dim;
  readonly total: string;
  /** The variables of `element`: sample, the matrix's row, its column. */
  readonly outer: string;
  readonly inner: string;
  readonly outerSize: string;
  readonly innerSize: string;
  readonly stride: string;
  readonly settled: readonly string[];
  readonly lines: readonly string[];
  readonly value: string;
  readonly to: string;
}

/** Rows of a computed matrix begin on 16-byte boundaries. */
const paddedTo = (size: Dim, elements: number): Dim => multiply(ceilDiv(size, elements), constant(elements));

export function sideOf(setting: Setting, which: "left" | "right"): SideView {
  const { contraction, sizes } = setting;
  const own = which === "left" ? "m" : "n";
  return directSide(setting, contraction[which], own, sizes[own]) ?? packedSide(setting, which);
}

/** The side as it lies in memory: of the product's type, one axis each way, contiguous along one of them. */
function directSide(setting: Setting, side: Side, own: "m" | "n", ownSize: Dim): SideView | undefined {
  const { contraction, frame, product, sizes } = setting;
  const { kernel, axes } = contraction;
  if (side.value.kind !== "variable" || !/^a\d+$/.test(side.value.name)) return undefined;
  const position = Number(side.value.name.slice(1));
  const access = kernel.accesses[position]!;
  const plain = access.lookups.length === 0 && access.guard === undefined;
  if (!plain || kernel.operands[access.operand]!.dtype !== product.dtype) return undefined;
  const [across, along] = [axes[own], axes.k].map((of) => (of.length === 0 ? ONE : strideOver(kernel, access, of)));
  if (across === undefined || along === undefined) return undefined;
  const runsAlong = along === ONE && (across !== ONE || staticValue(ownSize) !== 1);
  if (!runsAlong && across !== ONE) return undefined;
  const row = runsAlong ? across : along;
  if (row === ZERO) return undefined; // broadcast: not a matrix
  const { lines, indices } = wholeIndices(frame, { name: "sample", axes: axes.batch });
  const scope = openScope(frame, undefined, { axes: indices });
  const at = pointerTo(scope, position);
  return {
    along: runsAlong,
    lines: [...lines, ...scope.lines],
    at,
    stride: dimText(frame, row),
    rows: dimText(frame, runsAlong ? ownSize : sizes.k),
    columns: dimText(frame, runsAlong ? sizes.k : ownSize),
    workspace: undefined,
    pack: undefined,
    direct: position,
    strides: { row, sample: strideOver(kernel, access, axes.batch) },
  };
}

/** The side computed into a workspace, whose rows begin on 16-byte boundaries. */
export function packedSide(setting: Setting, which: "left" | "right"): SideView {
  const { contraction, frame, product, sizes } = setting;
  const { axes } = contraction;
  const [side, own] = which === "left" ? ([contraction.left, "m"] as const) : ([contraction.right, "n"] as const);
  const ownSize = sizes[own];
  const along = side.along === "k";
  const [rows, columns] = along ? [ownSize, sizes.k] : [sizes.k, ownSize];
  const stride = paddedTo(columns, 16 / product.bytes);
  const samples = side.variesOverBatch ? sizes.batch : ONE;
  const name = frame.fresh(`${which}_packed`);
  const bytes = multiply(samples, rows, stride, product.bytes);

  const [outer, inner] = along ? (["own", "step"] as const) : (["step", "own"] as const);
  const sample = wholeIndices(frame, { name: "sample", axes: axes.batch });
  const ownIndices = wholeIndices(frame, { name: "own", axes: axes[own] });
  const steps = wholeIndices(frame, { name: "step", axes: axes.k });
  const settled = openScope(frame, undefined);
  const scope = openScope(frame, settled, {
    axes: new Map([...sample.indices, ...ownIndices.indices, ...steps.indices]),
  });
  // The store rounds to the product's type: an expression that ends by doing so need not.
  const rounds = side.value.kind === "call" && side.value.name === product.dtype;
  const kept = rounds ? (side.value.args[0] ?? side.value) : side.value;
  const [value] = emitValues(scope, [kept]);
  return {
    along,
    lines: [],
    at: samples === ONE ? name : `${name} + ${scaledText(frame, "sample", multiply(rows, stride))}`,
    stride: dimText(frame, stride),
    rows: dimText(frame, rows),
    columns: dimText(frame, columns),
    workspace: { name, type: product.element, bytes },
    direct: undefined,
    strides: { row: stride, sample: samples === ONE ? ZERO : multiply(rows, stride) },
    pack: {
      comment: `The ${which} side as it is multiplied.`,
      elements: multiply(samples, rows, columns),
      total: dimText(frame, multiply(samples, rows, columns)),
      ...{ outer, inner },
      outerSize: dimText(frame, rows),
      innerSize: dimText(frame, columns),
      stride: dimText(frame, stride),
      settled: settled.lines,
      lines: [...sample.lines, ...ownIndices.lines, ...steps.lines, ...scope.lines],
      value: convert(value!, kept.type, "f32").text,
      to: name,
    },
  };
}
