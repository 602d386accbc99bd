/**
 * Random numbers by counting: Philox 4x32 with ten rounds (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
 * easy as 1, 2, 3", SC 2011). A draw is a pure function of a key and a counter, so a shard, a recomputed block and a
 * packed batch all see the value that belongs to their logical index, and a resumed run continues the same stream.
 *
 *   key     = (seed, path)                                     path numbers the draw within the model
 *   counter = (index mod 2^32, floor(index / 2^32), step, 0)   index is the global logical element
 *
 * Every device computes exactly these integers and exactly this float32 uniform; `normal` may differ in its last bits.
 */

const MULTIPLIER_A = 0xd2511f53;
const MULTIPLIER_B = 0xcd9e8d57;
const WEYL_A = 0x9e3779b9;
const WEYL_B = 0xbb67ae85;
const ROUNDS = 10;

/** Four words of 32 bits. */
export type Words = readonly [number, number, number, number];

/** The four random words of one counter under one key; all are u32. */
export function philox4x32(counter: Words, key: readonly [number, number]): Words {
  const words = new Uint32Array(4);
  fill(words, counter[0], counter[1], counter[2], counter[3], key[0], key[1]);
  return [words[0]!, words[1]!, words[2]!, words[3]!];
}

/** A float32 in the open interval (0, 1). */
export function philoxUniform(seed: number, step: number, path: number, index: number): number {
  draw(seed, step, path, index);
  return wordToUniform(scratch[0]!);
}

/** A standard normal value: Box and Muller's sqrt(-2 ln u0) cos(2 pi u1), u0 and u1 from the first two words. */
export function philoxNormal(seed: number, step: number, path: number, index: number): number {
  draw(seed, step, path, index);
  return Math.sqrt(-2 * Math.log(wordToUniform(scratch[0]!))) * Math.cos(2 * Math.PI * wordToUniform(scratch[1]!));
}

/**
 * ((word >> 8) + 0.5) 2^-24 in float32. The half does not fit above 2^23 and rounds to even, which would make the
 * largest word exactly 1 and `floor(u * n)` reach n: the minimum keeps it at 1 - 2^-24.
 */
export function wordToUniform(word: number): number {
  return Math.min(Math.fround(((word >>> 8) + 0.5) * 2 ** -24), 1 - 2 ** -24);
}

const scratch = new Uint32Array(4);

/** `index` is a whole number of magnitude below 2^53; a negative one is its 64-bit two's complement. */
function draw(seed: number, step: number, path: number, index: number): void {
  fill(scratch, index, Math.floor(index / 2 ** 32), step, 0, seed, path);
}

function fill(out: Uint32Array, c0: number, c1: number, c2: number, c3: number, k0: number, k1: number): void {
  let [a, b, c, d, keyA, keyB] = [c0 >>> 0, c1 >>> 0, c2 >>> 0, c3 >>> 0, k0 >>> 0, k1 >>> 0];
  for (let round = 0; round < ROUNDS; round++) {
    const highA = multiplyHigh(MULTIPLIER_A, a);
    const highB = multiplyHigh(MULTIPLIER_B, c);
    const lowA = Math.imul(MULTIPLIER_A, a);
    const lowB = Math.imul(MULTIPLIER_B, c);
    a = (highB ^ b ^ keyA) >>> 0;
    b = lowB >>> 0;
    c = (highA ^ d ^ keyB) >>> 0;
    d = lowA >>> 0;
    keyA = (keyA + WEYL_A) >>> 0;
    keyB = (keyB + WEYL_B) >>> 0;
  }
  out[0] = a;
  out[1] = b;
  out[2] = c;
  out[3] = d;
}

/** The upper 32 bits of a 32 by 32 bit product, by 16-bit halves so that no partial sum leaves a double's 53 bits. */
function multiplyHigh(x: number, y: number): number {
  const [xLow, xHigh, yLow, yHigh] = [x & 0xffff, x >>> 16, y & 0xffff, y >>> 16];
  const middle = xHigh * yLow + ((xLow * yLow) >>> 16);
  const carry = xLow * yHigh + (middle % 65536);
  return xHigh * yHigh + Math.floor(middle / 65536) + Math.floor(carry / 65536);
}
