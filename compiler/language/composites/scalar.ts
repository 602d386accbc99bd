/** Numbers as tensors. */
import type { DType } from "../../../contract/dtype.ts";
import { constant as constantEdge } from "../../ops/source.ts";
import { build } from "../mistake.ts";
import { Tensor } from "../tensor.ts";

/** One number, the same in every run. */
export const constant = (value: number, dtype: DType = "f32"): Tensor =>
  build("constant", {}, () => new Tensor(constantEdge([value], dtype, [])));
