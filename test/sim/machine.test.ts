/** Every function of machine.cuh in the simulator, against what it does written out here. */
import { describe, expect, test } from "vitest";
import { bitsOf, integers, narrow, product, valueOf, type Narrow } from "./numbers.ts";
import { floatsOf, runKernel, wordsOf } from "./run-kernel.ts";

const SEEDS = [0, 1, 2];
const count = (length: number): number[] => Array.from({ length }, (_, i) => i);

describe("within a warp", () => {
  test("shuffles and votes", async () => {
    const body = `
const int lane = lane_index();
uint32_t* const a = arguments.a;
a[lane] = shuffle(uint32_t(lane * 3), (lane + 5) % 32);
a[32 + lane] = shuffle_xor(uint32_t(lane), 9);
a[64 + lane] = ballot(lane % 3 == 0);
const double wide = shuffle_xor(double(lane) + 0.25, 16);
a[96 + lane] = static_cast<uint32_t>(wide * 4.0);
a[128 + lane] = static_cast<uint32_t>(reduce_lanes<Sum>(lane));`;
    const expected = [
      ...count(32).map((lane) => ((lane + 5) % 32) * 3),
      ...count(32).map((lane) => lane ^ 9),
      ...count(32).map(() => count(32).reduce((bits, lane) => bits + (lane % 3 === 0 ? 2 ** lane : 0), 0)),
      ...count(32).map((lane) => (lane ^ 16) * 4 + 1),
      ...count(32).map(() => 496),
    ];
    for (const seed of SEEDS) {
      const [a] = await runKernel({ body, threads: 32, buffers: [new Uint32Array(160)] }, seed);
      expect(wordsOf(a)).toEqual(expected);
    }
  });

  test.each([
    [4, false],
    [4, true],
    [2, false],
    [2, true],
  ])("ldmatrix_x%i, transposed: %s", async (matrices, trans) => {
    // Rows of 8 elements, in an order of their own; element e of row r is 8 r + e.
    const order = count(8 * matrices).map((row) => (row * 5 + 3) % (8 * matrices));
    const body = `
uint16_t* const rows = reinterpret_cast<uint16_t*>(shared_memory());
for (int i = lane_index(); i < ${64 * matrices}; i += 32) rows[i] = static_cast<uint16_t>(i);
sync_warp();
uint32_t d[${matrices}];
const uint32_t row = arguments.b[lane_index() % ${8 * matrices}];
ldmatrix_x${matrices}${trans ? "_trans" : ""}(d, shared_address(rows + 8 * row));
for (int i = 0; i < ${matrices}; ++i) arguments.a[lane_index() * ${matrices} + i] = d[i];`;
    const element = (matrix: number, row: number, column: number): number => order[8 * matrix + row]! * 8 + column;
    const expected = count(32).flatMap((lane) =>
      count(matrices).map((matrix) => {
        const [line, first] = [Math.floor(lane / 4), (lane % 4) * 2];
        const [low, high] = trans
          ? [element(matrix, first, line), element(matrix, first + 1, line)]
          : [element(matrix, line, first), element(matrix, line, first + 1)];
        return low + high * 65536;
      }),
    );
    const buffers = [new Uint32Array(32 * matrices), Uint32Array.from(order)];
    const [a] = await runKernel({ body, threads: 32, sharedBytes: 512, buffers });
    expect(wordsOf(a)).toEqual(expected);
  });

  test.each<Narrow>(["bf16", "f16"])("mma_%s", async (type) => {
    const [a, b] = [integers(16 * 16, 1), integers(8 * 16, 2)];
    // Registers of a: rows l / 4 and 8 below, columns 2 (l % 4) and the next, then 8 columns on. Of b: the same of its rows.
    const pair = (values: readonly number[], row: number, column: number): number =>
      narrow(type, values[row * 16 + column]!) + narrow(type, values[row * 16 + column + 1]!) * 65536;
    const registers = count(32).flatMap((lane) => {
      const [row, column] = [Math.floor(lane / 4), (lane % 4) * 2];
      return [
        pair(a, row, column),
        pair(a, row + 8, column),
        pair(a, row, column + 8),
        pair(a, row + 8, column + 8),
        pair(b, row, column),
        pair(b, row, column + 8),
      ];
    });
    const [, sums] = await runKernel({
      body: MMA(type),
      threads: 32,
      buffers: [Uint32Array.from(registers), new Float32Array(128)],
    });
    expect(floatsOf(sums)).toEqual(product(a, b, 16, 8, 16).map((sum) => sum + 100));
  });

  test("mma_tf32 looks at ten bits of fraction", async () => {
    const [a, b] = [integers(16 * 8, 3), integers(8 * 8, 4)];
    const rest = 0x1fff; // below what counts
    const word = (value: number): number => bitsOf(value) + rest;
    const registers = count(32).flatMap((lane) => {
      const [row, column] = [Math.floor(lane / 4), lane % 4];
      const left = [
        a[row * 8 + column],
        a[(row + 8) * 8 + column],
        a[row * 8 + column + 4],
        a[(row + 8) * 8 + column + 4],
      ];
      return [...left, b[row * 8 + column], b[row * 8 + column + 4]].map((value) => word(value!));
    });
    const [, sums] = await runKernel({
      body: MMA("tf32"),
      threads: 32,
      buffers: [Uint32Array.from(registers), new Float32Array(128)],
    });
    const cut = (value: number): number => valueOf(((bitsOf(value) + rest) & 0xffffe000) >>> 0);
    const expected = product(a.map(cut), b.map(cut), 16, 8, 8).map((sum) => sum + 100);
    floatsOf(sums).forEach((sum, i) => expect(sum).toBeCloseTo(expected[i]!, 4));
  });
});

/** Each lane has six registers of operands; the sums begin at 100 and are stored where they belong. */
const MMA = (type: string): string => `
uint32_t a[4], b[2];
for (int i = 0; i < 4; ++i) a[i] = arguments.a[lane_index() * 6 + i];
for (int i = 0; i < 2; ++i) b[i] = arguments.a[lane_index() * 6 + 4 + i];
float d[4] = { 100.0f, 100.0f, 100.0f, 100.0f };
mma_${type}(d, a, b);
for (int i = 0; i < 4; ++i) {
const int row = lane_index() / 4 + i / 2 * 8, column = lane_index() % 4 * 2 + i % 2;
arguments.b[row * 8 + column] = d[i];
}`;

describe("barriers", () => {
  test("of the block, with a reduction over it", async () => {
    const body = `
float* const slots = reinterpret_cast<float*>(shared_memory());
const float total = reduce_block<Sum, 256>(arguments.a[block_index() * 256 + thread_index()], slots);
if (thread_index() == 0) arguments.b[block_index()] = total;`;
    const values = integers(256 * 20, 5);
    const sums = count(20).map((block) => values.slice(256 * block, 256 * block + 256).reduce((a, b) => a + b, 0));
    for (const seed of SEEDS) {
      const buffers = [values, new Float32Array(20)];
      const [, b] = await runKernel({ body, threads: 256, blocks: 20, sharedBytes: 64, buffers }, seed);
      expect(floatsOf(b)).toEqual(sums);
    }
  });

  test("with names: one warp hands slots to another and takes them back", async () => {
    const body = `
float* const slots = reinterpret_cast<float*>(shared_memory());
for (int turn = 0; turn < 6; ++turn) {
if (warp_index() == 0) {
if (turn > 0) sync_named(2, 64);
slots[lane_index()] = arguments.a[turn * 32 + lane_index()];
arrive_named(1, 64);
} else {
sync_named(1, 64);
arguments.b[turn * 32 + lane_index()] = slots[31 - lane_index()];
if (turn < 5) arrive_named(2, 64);
}
}`;
    const values = integers(192, 6);
    for (const seed of SEEDS) {
      const buffers = [values, new Float32Array(192)];
      const [, b] = await runKernel({ body, threads: 64, sharedBytes: 128, buffers }, seed);
      expect(floatsOf(b)).toEqual(count(192).map((at) => values[at - (at % 32) + 31 - (at % 32)]));
    }
  });
});

describe("conversions", () => {
  const INTERESTING = [
    0, -0, 1, -1, 1.0009765625, 1.00048828125, 3.14159274, 65504, 65519.996, 65520, 1e-7, 6e-8, 2e-8, 3e38,
  ];
  const values = Float32Array.from([
    ...INTERESTING,
    ...INTERESTING.map((x) => -x / 3),
    Infinity,
    -Infinity,
    NaN,
    2e-45,
  ]);

  test("pack_bf16, pack_f16 and to_tf32", async () => {
    const total = values.length;
    const body = `
for (int i = thread_index(); i < ${total}; i += 32) {
arguments.b[i] = pack_bf16(arguments.a[i], 2.0f);
arguments.b[${total} + i] = pack_f16(3.0f, arguments.a[i]);
arguments.b[${2 * total} + i] = to_tf32(arguments.a[i]);
}`;
    const [, b] = await runKernel({ body, threads: 32, buffers: [values, new Uint32Array(3 * total)] });
    const got = wordsOf(b);
    values.forEach((value, i) => {
      const bf16 = got[i]!;
      expect(bf16 >>> 16).toBe(narrow("bf16", 2));
      const back = valueOf((bf16 & 0xffff) * 65536);
      if (Number.isNaN(value)) expect(bf16 & 0xffff).toBe(0x7fff);
      else if (Number.isFinite(back))
        expect(Math.abs(back - value)).toBeLessThanOrEqual(Math.abs(value) * 2 ** -8 + 1e-44);

      const f16 = got[total + i]!;
      expect(f16 & 0xffff).toBe(narrow("f16", 3));
      expect(f16 >>> 16).toBe(f16Bits(value));

      const tf32 = got[2 * total + i]!;
      const magnitude = bitsOf(value) & 0x7fffffff;
      const rounded = magnitude >= 0x7f800000 ? magnitude : (magnitude + 0x1000) & 0xffffe000;
      if (Number.isNaN(value)) expect(valueOf(tf32)).toBeNaN();
      else expect(tf32).toBe((rounded | (bitsOf(value) & 0x80000000)) >>> 0);
    });
  });

  /** Every f16 compared: the nearest, the even one of two. */
  function f16Bits(value: number): number {
    if (Number.isNaN(value)) return 0x7fff;
    const sign = Object.is(value, -0) || value < 0 ? 0x8000 : 0;
    const magnitude = Math.abs(value);
    if (magnitude >= 65520) return sign | 0x7c00;
    const of = (bits: number): number =>
      bits < 0x400 ? bits * 2 ** -24 : (1024 + (bits & 0x3ff)) * 2 ** ((bits >> 10) - 25);
    let best = 0;
    for (let bits = 1; bits < 0x7c00; bits++) {
      const [now, before] = [Math.abs(of(bits) - magnitude), Math.abs(of(best) - magnitude)];
      if (now < before || (now === before && bits % 2 === 0)) best = bits;
    }
    return sign | best;
  }

  test("approximations are close, and flush what is subnormal", async () => {
    const given = [0.5, 3, 100, -4.25, 1e-3, 7.5, 2e-39, 120.5];
    const body = `
if (thread_index() < ${given.length}) {
const float x = arguments.a[thread_index()];
float* const y = arguments.b + thread_index() * 4;
y[0] = exp2_approx(x);
y[1] = log2_approx(fabsf(x));
y[2] = reciprocal_approx(x);
y[3] = rsqrt_approx(fabsf(x));
}`;
    const [, b] = await runKernel({ body, threads: 32, buffers: [given, new Float32Array(4 * given.length)] });
    const got = floatsOf(b);
    given.forEach((value, i) => {
      const x = Math.abs(value) < 2 ** -126 ? 0 : value;
      const expected = [2 ** x, Math.log2(Math.abs(x)), 1 / x, 1 / Math.sqrt(Math.abs(x))];
      expected.forEach((each, j) => {
        if (Number.isFinite(each)) expect(got[4 * i + j]! / each).toBeCloseTo(1, 5);
        else expect(got[4 * i + j]).toBe(each);
      });
    });
  });
});

test("asynchronous copies land at their wait, with zeros where nothing is read", async () => {
  const body = `
float* const slots = reinterpret_cast<float*>(shared_memory());
const int lane = lane_index();
copy_async_16(shared_address(slots + 4 * lane), arguments.a + 4 * lane, lane % 5 * 4);
copy_async_commit();
copy_async_4(shared_address(slots + 128 + lane), arguments.a + lane, lane % 2 * 4);
copy_async_commit();
copy_async_wait<1>();
for (int i = 0; i < 4; ++i) arguments.b[4 * lane + i] = slots[4 * lane + i];
copy_async_wait<0>();
sync_warp();
arguments.b[128 + lane] = slots[128 + (lane + 1) % 32];`;
  const values = integers(128, 7).map((value) => value + 20);
  const [, b] = await runKernel({ body, threads: 32, sharedBytes: 640, buffers: [values, new Float32Array(160)] });
  expect(floatsOf(b)).toEqual([
    ...count(128).map((at) => (at % 4 < Math.floor(at / 4) % 5 ? values[at] : 0)),
    ...count(32).map((lane) => ((lane + 1) % 2 === 1 ? values[(lane + 1) % 32] : 0)),
  ]);
});

test("what a kernel is launched with", async () => {
  const body = `
if (thread_index() == 0) arguments.a[blockIdx.x] = blockIdx.x + 100 * blockDim.x + 100000 * gridDim.x;`;
  const [a] = await runKernel({ body, threads: 96, blocks: 5, buffers: [new Uint32Array(5)] });
  expect(wordsOf(a)).toEqual(count(5).map((block) => block + 9600 + 500000));
});

test("every number in 16 bits is read as what it is", async () => {
  const words = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const body = `for (int i = thread_index(); i < 65536; i += 256) {
arguments.c[i] = reinterpret_cast<const f16*>(arguments.a)[i];
arguments.d[i] = reinterpret_cast<const bf16*>(arguments.a)[i];
}`;
  const buffers = [words, [0], new Float32Array(65536), new Float32Array(65536)];
  const [, , f16, bf16] = (await runKernel({ body, threads: 256, buffers })).map(floatsOf);
  words.forEach((bits) => {
    const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    const infinite = fraction === 0 ? sign * Infinity : NaN;
    const finite = exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
    expect(f16![bits]).toBe(exponent === 31 ? infinite : finite);
    expect(bf16![bits]).toBe(valueOf(bits * 65536));
  });
});
