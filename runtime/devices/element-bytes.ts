/**
 * Elements as the little-endian bytes that they are in a device's memory, for devices whose memory the host library does
 * not reach. 16-bit floats are rounded to nearest, ties to even.
 */
import type { DType } from "../../contract/dtype.ts";
import { newElements, type Elements } from "./elements.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** All but 16-bit floats lie in memory as they are carried: then these are the same bytes, not a copy. */
export function bytesFrom(dtype: DType, values: Elements): Bytes {
  if (dtype !== "bf16" && dtype !== "f16") {
    return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  }
  const from = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const to = new Uint16Array(values.length);
  const narrow = dtype === "bf16" ? narrowToBf16 : narrowToF16;
  for (let i = 0; i < to.length; i++) to[i] = narrow(from[i]!);
  return new Uint8Array(to.buffer);
}

/** `bytes` is aligned to the elements. */
export function elementsIn(dtype: DType, bytes: Bytes): Elements {
  if (dtype !== "bf16" && dtype !== "f16") {
    const empty = newElements(dtype, 0);
    const Carrier = empty.constructor as new (buffer: ArrayBuffer, offset: number, length: number) => Elements;
    return new Carrier(bytes.buffer, bytes.byteOffset, bytes.byteLength / empty.BYTES_PER_ELEMENT);
  }
  const from = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
  const values = new Float32Array(from.length);
  const to = new Uint32Array(values.buffer);
  const widen = dtype === "bf16" ? widenBf16 : widenF16;
  for (let i = 0; i < to.length; i++) to[i] = widen(from[i]!);
  return values;
}

// Below, numbers are the bits of floats.

const INFINITY = 0x7f800000;
const NAN = 0x7fc00000;

/** The upper half, rounded. A NaN must not be rounded to infinity. */
function narrowToBf16(bits: number): number {
  if ((bits & 0x7fffffff) > INFINITY) return ((bits >>> 16) & 0x8000) | (NAN >>> 16);
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

function narrowToF16(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > INFINITY) return sign | 0x7e00;
  if (magnitude >= 0x47800000) return sign | 0x7c00; // from 65536 on
  if (magnitude >= 0x38800000) {
    // From 2^-14 on: another bias of the exponent; a carry out of the fraction rightly raises the exponent.
    const rebased = magnitude - 0x38000000;
    return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13);
  }
  // Subnormal: the value in units of 2^-24.
  const exponent = magnitude >>> 23;
  if (exponent < 102) return sign; // less than half a unit
  const shift = 126 - exponent;
  const fraction = (magnitude & 0x7fffff) | 0x800000;
  const whole = fraction >>> shift;
  const rest = fraction - whole * 2 ** shift;
  const half = 2 ** (shift - 1);
  return sign | (whole + (rest > half || (rest === half && whole % 2 === 1) ? 1 : 0));
}

const widenBf16 = (bits: number): number => bits << 16;

function widenF16(bits: number): number {
  const sign = (bits & 0x8000) << 16;
  const exponent = (bits >>> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return sign | (fraction === 0 ? INFINITY : NAN);
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
  if (fraction === 0) return sign;
  // Subnormal: normal in float32. Its leading bit becomes the implicit one.
  const lead = 31 - Math.clz32(fraction);
  return sign | ((lead + 103) << 23) | ((fraction << (23 - lead)) & 0x7fffff);
}
