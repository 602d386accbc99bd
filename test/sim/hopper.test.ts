/** Every function of hopper.cuh in the simulator, against what it does written out here. */
import { describe, expect, test } from "vitest";
import { encodeTensorMap, type TensorMapRequest } from "../../runtime/devices/sim/simulator.ts";
import { halves, integers, product, transposed, type Narrow } from "./numbers.ts";
import { PIPELINE } from "./pipeline.ts";
import { floatsOf, runKernel, type TensorMapOf } from "./run-kernel.ts";

const SEEDS = [0, 1, 2];
const count = (length: number): number[] => Array.from({ length }, (_, i) => i);
type Swizzle = 0 | 32 | 64 | 128;

/** An mbarrier at `BARRIER`, told by one thread to expect `bytes`, which `copies` bring; then everybody waits for it. */
const landed = (barrier: number, bytes: number, copies: readonly string[]): string => `
uint8_t* const memory = shared_memory();
const uint32_t base = shared_address(memory), barrier = base + ${barrier};
if (thread_index() == 0) {
mbarrier_init(barrier, 1);
mbarrier_init_fence();
}
sync_threads();
if (thread_index() == 0) {
mbarrier_expect(barrier, ${bytes});
${copies.join("\n")}
}
mbarrier_wait(barrier, 0);`;

describe("copies of boxes", () => {
  test.each<Swizzle>([0, 32, 64, 128])("two dimensions, swizzle %i, past every edge", async (swizzle) => {
    const [width, rows] = [40, 20];
    const columns = swizzle === 0 ? 24 : swizzle / 4;
    const values = integers(width * rows, 9).map((value) => value + 50);
    const map: TensorMapOf = {
      buffer: 0,
      dtype: "f32",
      sizes: [width, rows],
      strides: [width * 4],
      box: [columns, 16],
      swizzle,
    };
    const bytes = columns * 16 * 4;
    for (const [x, y] of [
      [0, 0],
      [-4, -2],
      [28, 10],
    ] as const) {
      const body = `${landed(4096, bytes, [`tma_load_2d(base, &arguments.map0, barrier, ${x}, ${y});`])}
for (int i = thread_index(); i < ${columns * 16}; i += 32) arguments.b[i] = reinterpret_cast<float*>(memory)[i];`;
      const written = { body, includes: ["hopper.cuh"], threads: 32, sharedBytes: 4104, maps: [map] };
      const [, b] = await runKernel({ ...written, buffers: [values, new Float32Array(columns * 16)] });
      const got = floatsOf(b);
      const mask = swizzle === 128 ? 7 : swizzle === 64 ? 3 : swizzle === 32 ? 1 : 0;
      const expected = new Array<number>(columns * 16).fill(-1);
      for (const row of count(16)) {
        for (const column of count(columns)) {
          const at = (row * columns + column) * 4;
          const place = at ^ (((at >> 7) & mask) << 4);
          const inside = x + column >= 0 && x + column < width && y + row >= 0 && y + row < rows;
          expected[place / 4] = inside ? values[(y + row) * width + x + column]! : 0;
        }
      }
      expect(got).toEqual(expected);
    }
  });

  test("three and four dimensions of 16-bit elements", async () => {
    const [a, b, c, d] = [16, 6, 5, 4]; // innermost first
    const values = integers(a * b * c * d, 10).map((value) => value + 9);
    const strides = [a * 2, a * b * 2, a * b * c * 2];
    const maps: TensorMapOf[] = [
      { buffer: 0, dtype: "bf16", sizes: [a, b, c * d], strides: strides.slice(0, 2), box: [8, 4, 2], swizzle: 0 },
      { buffer: 0, dtype: "bf16", sizes: [a, b, c, d], strides, box: [8, 2, 2, 2], swizzle: 0 },
    ];
    const body = `${landed(256, 256, [
      "tma_prefetch(&arguments.map0);",
      "tma_load_3d(base, &arguments.map0, barrier, 8, 3, 19);",
      "tma_load_4d(base + 128, &arguments.map1, barrier, 8, 5, 1, 2);",
    ])}
for (int i = thread_index(); i < 128; i += 32) arguments.b[i] = reinterpret_cast<bf16*>(memory)[i];`;
    const element = (i: number, j: number, k: number, l: number): number =>
      i < a && j < b && k < c && l < d ? values[((l * c + k) * b + j) * a + i]! : 0;
    const expected = [
      ...count(64).map((at) => element(8 + (at % 8), 3 + (Math.floor(at / 8) % 4), at < 32 ? 4 : 99, 3)),
      ...count(64).map((at) =>
        element(8 + (at % 8), 5 + (Math.floor(at / 8) % 2), 1 + (Math.floor(at / 16) % 2), 2 + Math.floor(at / 32)),
      ),
    ];
    for (const seed of SEEDS) {
      const buffers = [halves("bf16", values), new Float32Array(128)];
      const written = { body, includes: ["hopper.cuh"], threads: 32, sharedBytes: 264, maps, buffers };
      expect(floatsOf((await runKernel(written, seed))[1])).toEqual(expected);
    }
  });

  test("a map is refused where the driver would refuse it", () => {
    const good: TensorMapRequest = {
      ...{ address: 4096, dtype: "bf16", sizes: [64, 64], strides: [128], box: [64, 64], swizzle: 128 },
    };
    expect(encodeTensorMap(good).length).toBe(128);
    expect(() => encodeTensorMap({ ...good, address: 4100 })).toThrow(/address 4100 is no multiple of 16/);
    expect(() => encodeTensorMap({ ...good, strides: [120] })).toThrow(/stride/);
    expect(() => encodeTensorMap({ ...good, sizes: [0, 64] })).toThrow(/size/);
    expect(() => encodeTensorMap({ ...good, box: [64, 257] })).toThrow(/side of the box/);
    expect(() => encodeTensorMap({ ...good, box: [4, 64] })).toThrow(/multiple of 16 bytes/);
    expect(() => encodeTensorMap({ ...good, swizzle: 64 })).toThrow(/a row of the box has 128 bytes, the swizzle 64/);
  });
});

/** One side of a product of 64 steps in shared memory: its boxes, and the descriptor of 16 steps of it. */
interface Side {
  readonly map: TensorMapOf;
  readonly bytes: number;
  readonly copies: readonly string[];
  readonly at: (step: number) => string;
}

const DEPTH = 64;

function sideOf(
  name: "map0" | "map1",
  buffer: number,
  lines: number,
  swizzle: Swizzle,
  across: boolean,
  from: number,
): Side {
  const width = swizzle === 0 ? 16 : swizzle; // bytes of a row of a box
  const columns = width / 2;
  const [inner, outer] = across ? [lines, DEPTH] : [DEPTH, lines];
  const boxBytes = outer * width;
  const map: TensorMapOf = {
    buffer,
    dtype: "bf16",
    sizes: [inner, outer],
    strides: [inner * 2],
    box: [columns, outer],
    swizzle,
  };
  const copies = count(inner / columns).map(
    (box) => `tma_load_2d(base + ${from + box * boxBytes}, &arguments.${name}, barrier, ${box * columns}, 0);`,
  );
  const descriptor = (at: number, leading: number, stride: number): string =>
    `wgmma_descriptor(base + ${from + at}, ${leading}, ${stride}, ${swizzle})`;
  const at = (step: number): string => {
    const first = step * 16;
    if (across) {
      return swizzle === 0 ? descriptor(first * 16, 128, boxBytes) : descriptor(first * width, boxBytes, 8 * width);
    }
    if (swizzle === 0) return descriptor((first / 8) * boxBytes, boxBytes, 128);
    return descriptor(Math.floor(first / columns) * boxBytes + (first % columns) * 2, 16, 8 * width);
  };
  return { map, bytes: (inner / columns) * boxBytes, copies, at };
}

const STORE = (columns: number): string => `
for (int i = 0; i < ${columns / 2}; ++i) {
const int row = warp_index() * 16 + i / 2 % 2 * 8 + lane_index() / 4, column = i / 4 * 8 + lane_index() % 4 * 2 + i % 2;
arguments.c[row * ${columns} + column] = d[i];
}`;

describe("products of a warpgroup", () => {
  test.each<[Swizzle, boolean, Swizzle, boolean, number, Narrow]>([
    [128, false, 128, false, 64, "bf16"],
    [128, true, 128, true, 128, "bf16"],
    [64, false, 32, true, 80, "bf16"],
    [32, true, 64, false, 24, "bf16"],
    [0, false, 0, false, 40, "bf16"],
    [0, true, 0, true, 72, "bf16"],
    [128, false, 64, true, 256, "f16"],
  ])(
    "a: swizzle %i, across %s; b: swizzle %i, across %s; %i columns of %s",
    async (swizzleA, acrossA, swizzleB, acrossB, n, type) => {
      // Panels of a side that runs across are whole: what is past the columns is zero.
      const panel = acrossB && swizzleB > 0 ? swizzleB / 2 : 8;
      const padded = Math.ceil(n / panel) * panel;
      const [a, b] = [integers(64 * DEPTH, 11), integers(padded * DEPTH, 12)];
      const left = sideOf("map0", 0, 64, swizzleA, acrossA, 0);
      const start = Math.ceil(left.bytes / 1024) * 1024;
      const right = sideOf("map1", 1, padded, swizzleB, acrossB, start);
      const end = start + right.bytes;
      const products = count(4).map(
        (step) =>
          `wgmma<${type}, ${n}, ${acrossA ? 1 : 0}, ${acrossB ? 1 : 0}>(d, ${left.at(step)}, ${right.at(step)}, ${step > 0});`,
      );
      const body = `${landed(end, left.bytes + right.bytes, [...left.copies, ...right.copies])}
float d[${n / 2}];
wgmma_fence();
${products.join("\n")}
wgmma_commit();
wgmma_wait<0>();
wgmma_hold(d);
${STORE(n)}`;
      const buffers = [
        halves(type, acrossA ? transposed(a, 64, DEPTH) : a),
        halves(type, acrossB ? transposed(b, padded, DEPTH) : b),
        new Float32Array(64 * n),
      ];
      const written = {
        body,
        includes: ["hopper.cuh"],
        threads: 128,
        sharedBytes: end + 8,
        maps: [left.map, right.map],
      };
      const [, , c] = await runKernel({ ...written, buffers }, n);
      expect(floatsOf(c)).toEqual(product(a, b.slice(0, n * DEPTH), 64, n, DEPTH));
    },
  );

  test("with the left side in registers, two groups in flight", async () => {
    const n = 32;
    const [a, b] = [integers(64 * DEPTH, 13), integers(n * DEPTH, 14)];
    const right = sideOf("map0", 1, n, 128, false, 0);
    const body = `${landed(right.bytes, right.bytes, right.copies)}
uint32_t p[4][4];
for (int step = 0; step < 4; ++step) {
for (int r = 0; r < 4; ++r) {
const int row = warp_index() * 16 + r % 2 * 8 + lane_index() / 4, column = step * 16 + r / 2 * 8 + lane_index() % 4 * 2;
p[step][r] = arguments.a[row * ${DEPTH} + column] | arguments.a[row * ${DEPTH} + column + 1] << 16;
}
}
float d[${n / 2}], e[${n / 2}];
for (int i = 0; i < ${n / 2}; ++i) d[i] = 0.5f;
wgmma_fence();
wgmma_registers<bf16, ${n}, 0>(d, p[0], ${right.at(0)}, true);
wgmma_registers<bf16, ${n}, 0>(d, p[1], ${right.at(1)}, true);
wgmma_commit();
wgmma_registers<bf16, ${n}, 0>(e, p[2], ${right.at(2)}, false);
wgmma_registers<bf16, ${n}, 0>(e, p[3], ${right.at(3)}, true);
wgmma_commit();
wgmma_wait<1>();
for (int i = 0; i < ${n / 2}; ++i) d[i] += 1.0f;
wgmma_wait<0>();
for (int i = 0; i < ${n / 2}; ++i) d[i] += e[i];
${STORE(n)}`;
    const buffers = [halves("bf16", a), halves("bf16", b), new Float32Array(64 * n)];
    const written = {
      body,
      includes: ["hopper.cuh"],
      threads: 128,
      sharedBytes: right.bytes + 8,
      maps: [right.map],
      buffers,
    };
    for (const seed of SEEDS) {
      const [, , c] = await runKernel(written, seed);
      expect(floatsOf(c)).toEqual(product(a, b, 64, n, DEPTH).map((sum) => sum + 1.5));
    }
  });
});

test("a pipeline of copies and products, with registers that change hands", async () => {
  const steps = 5;
  const blocks = count(steps).map((step) => integers(64 * 64, 15 + step));
  const map: TensorMapOf = {
    buffer: 0,
    dtype: "bf16",
    sizes: [64, 64 * steps],
    strides: [128],
    box: [64, 64],
    swizzle: 128,
  };
  const written = { body: PIPELINE(steps), includes: ["hopper.cuh"], threads: 256, sharedBytes: 16416, maps: [map] };
  const sums = blocks.map((block) => product(block, block, 64, 64, 64));
  const expected = count(64 * 64).map((at) => sums.reduce((sum, each) => sum + each[at]!, 0));
  for (const seed of SEEDS) {
    const buffers = [halves("bf16", blocks.flat()), new Float32Array(64 * 64)];
    expect(floatsOf((await runKernel({ ...written, buffers }, seed))[1])).toEqual(expected);
  }
});
