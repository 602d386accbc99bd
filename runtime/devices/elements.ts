/** Which typed array carries the elements of a type between JavaScript and a device. */
import type { DType } from "../../contract/dtype.ts";

export type Elements =
  | Float64Array<ArrayBuffer>
  | Float32Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Uint8Array<ArrayBuffer>;

/** 16-bit floats travel as float32, booleans as bytes of 0 and 1. */
const CARRIERS = {
  f64: Float64Array,
  f32: Float32Array,
  bf16: Float32Array,
  f16: Float32Array,
  i32: Int32Array,
  u32: Uint32Array,
  u8: Uint8Array,
  bool: Uint8Array,
} as const satisfies Record<DType, new (length: number) => Elements>;

export const newElements = (dtype: DType, count: number): Elements => new CARRIERS[dtype](count);

/** Numbers as the typed array that carries a type. */
export function elementsFrom(dtype: DType, values: ArrayLike<number>): Elements {
  const made = newElements(dtype, values.length);
  made.set(values);
  return made;
}

/** Throws a TypeError when `values` are not what `dtype` is carried by; a Buffer counts as bytes. */
export function checkElements(what: string, dtype: DType, expected: number, values: Elements): void {
  const carrier = CARRIERS[dtype];
  if (!(values instanceof carrier)) {
    throw new TypeError(`${what} is ${dtype}: expected a ${carrier.name}, got a ${values.constructor.name}`);
  }
  if (values.length !== expected) {
    throw new RangeError(`${what} has ${expected} elements, got ${values.length}`);
  }
}
