/** 16-bit floats and pairs of them, for what kernels in the simulator are given. */

const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);

export const bitsOf = (value: number): number => {
  float[0] = value;
  return word[0]!;
};

export const valueOf = (bits: number): number => {
  word[0] = bits;
  return float[0]!;
};

export type Narrow = "bf16" | "f16";

/** The bits of a value that the type holds exactly (f16: a normal number or 0). */
export function narrow(type: Narrow, value: number): number {
  const bits = bitsOf(value);
  if (type === "bf16") return bits >>> 16;
  if (value === 0) return bits >>> 16;
  return ((bits >>> 16) & 0x8000) | (((bits & 0x7fffffff) - 0x38000000) >>> 13);
}

/** Small whole numbers, whose products and sums every type here holds. */
export const integers = (count: number, seed: number): number[] => {
  let state = seed >>> 0;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return ((state >>> 24) % 15) - 7;
  });
};

export const halves = (type: Narrow, values: readonly number[]): Uint16Array =>
  Uint16Array.from(values, (value) => narrow(type, value));

/** a [m, k] times b [n, k]: what a product of two matrices whose rows run along the sum is. */
export function product(a: readonly number[], b: readonly number[], m: number, n: number, k: number): number[] {
  return Array.from({ length: m * n }, (_, at) => {
    const [row, column] = [Math.floor(at / n), at % n];
    let sum = 0;
    for (let step = 0; step < k; step++) sum += a[row * k + step]! * b[column * k + step]!;
    return sum;
  });
}

/** [rows, columns] as [columns, rows]. */
export const transposed = (values: readonly number[], rows: number, columns: number): number[] =>
  Array.from({ length: rows * columns }, (_, at) => values[(at % rows) * columns + Math.floor(at / rows)]!);
