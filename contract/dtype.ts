/** The types a tensor's elements can have, and what a kernel computes with once one is in a register. */

export const DTYPES = ["f64", "f32", "bf16", "f16", "i32", "u32", "u8", "bool"] as const;
export type DType = (typeof DTYPES)[number];

/** The type of a value in a register: 16-bit floats are widened to `f32`, bytes to `i32`. */
export type ScalarType = "f64" | "f32" | "i32" | "u32" | "bool";

const FACTS: Readonly<Record<DType, { readonly bytes: number; readonly register: ScalarType }>> = {
  f64: { bytes: 8, register: "f64" },
  f32: { bytes: 4, register: "f32" },
  bf16: { bytes: 2, register: "f32" },
  f16: { bytes: 2, register: "f32" },
  i32: { bytes: 4, register: "i32" },
  u32: { bytes: 4, register: "u32" },
  u8: { bytes: 1, register: "i32" },
  bool: { bytes: 1, register: "bool" },
};

export const bytesOf = (dtype: DType): number => FACTS[dtype].bytes;
export const registerOf = (dtype: DType): ScalarType => FACTS[dtype].register;
export const isFloat = (dtype: DType): boolean => FACTS[dtype].register === "f32" || dtype === "f64";

/** The nearest bfloat16 to `value`, ties to even; NaN stays NaN, what is too large becomes infinite. */
export function roundToBf16(value: number): number {
  if (Number.isNaN(value)) return value;
  scratchFloat[0] = value;
  const bits = scratchBits[0] ?? 0;
  if ((bits & 0x7f800000) === 0x7f800000) return scratchFloat[0];
  const rounded = (bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000;
  scratchBits[0] = rounded >>> 0;
  return scratchFloat[0];
}

/** The nearest IEEE half to `value`, ties to even, with subnormals; above 65504 + half a step it is infinite. */
export function roundToF16(value: number): number {
  if (!Number.isFinite(value) || value === 0) return value;
  const magnitude = Math.abs(value);
  const exponent = Math.max(Math.floor(Math.log2(magnitude)), -14);
  const step = 2 ** (exponent - 10);
  const rounded = roundHalfToEven(magnitude / step) * step;
  return Math.sign(value) * (rounded > 65504 ? Infinity : rounded);
}

/** Rounds half-way cases to the even neighbour, as IEEE arithmetic and Python's `round` do. */
export function roundHalfToEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

const scratchFloat = new Float32Array(1);
const scratchBits = new Uint32Array(scratchFloat.buffer);
