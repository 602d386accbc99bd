/** Tables travel with the plan as little-endian bytes, equal tables once. */
import { Buffer } from "node:buffer";
import { CompilerBug } from "../../contract/diagnostic.ts";
import type { DType } from "../../contract/dtype.ts";
import type { PlanConstant } from "../../contract/plan.ts";
import type { Edge } from "../graph/node.ts";

type Encoder = (values: readonly number[]) => ArrayBufferView;

const ENCODERS: Readonly<Partial<Record<DType, Encoder>>> = {
  f64: (values) => Float64Array.from(values),
  f32: (values) => Float32Array.from(values),
  i32: (values) => Int32Array.from(values),
  u32: (values) => Uint32Array.from(values),
  u8: (values) => Uint8Array.from(values),
  bool: (values) => Uint8Array.from(values, (value) => (value !== 0 ? 1 : 0)),
};

/** The position of a constant's bytes in the plan's table. */
export function encodeConstant(
  edge: Edge,
  table: { readonly constants: PlanConstant[]; readonly knownConstants: Map<string, number> },
): number {
  const { operation } = edge.node;
  const encode = ENCODERS[edge.dtype];
  if (operation.op !== "constant" || encode === undefined) {
    throw new CompilerBug("plan", `a constant of type ${edge.dtype} cannot be stored`);
  }
  const view = encode(operation.values);
  const data = Buffer.from(view.buffer, view.byteOffset, view.byteLength).toString("base64");
  const key = `${edge.dtype}:${data}`;
  const known = table.knownConstants.get(key);
  if (known !== undefined) return known;
  table.constants.push({ dtype: edge.dtype, data });
  table.knownConstants.set(key, table.constants.length - 1);
  return table.constants.length - 1;
}
