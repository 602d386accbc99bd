// What devices of a GPU's kind share: bytes of elements, what a launch is handed, and the file that simulates memory.
import { existsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { describe, expect, test } from "vitest";
import { roundToBf16, roundToF16, type DType } from "../../contract/dtype.ts";
import type { PlanKernel, TensorMapSpec } from "../../contract/plan.ts";
import { evaluateSize } from "../../contract/size.ts";
import type { PlacedBuffer } from "../../runtime/devices/bound/engine.ts";
import { launchesOf, type TensorMapRequest } from "../../runtime/devices/bound/launches.ts";
import { bytesFrom, elementsIn } from "../../runtime/devices/element-bytes.ts";
import { newElements } from "../../runtime/devices/elements.ts";
import { openFileMemory, type FileMemory } from "../../runtime/devices/sim/file-memory.ts";
import { affine, plan, step } from "./small-plans.ts";

describe("elements as bytes", () => {
  const some = new Float32Array(new Uint32Array(50_000).map((_, i) => Math.imul(i + 1, 2654435761)).buffer);
  const edges = [
    ...[NaN, Infinity, -Infinity, 0, -0, 1, 65504, 65519.99, 65520, 65536, 3.3895e38, 3.4e38, 2 ** -126, 2 ** -149],
    ...[2 ** -14, 2 ** -15, 1.5 * 2 ** -24, 2 ** -24, 1.5 * 2 ** -25, 2 ** -25, 2 ** -25 + 2 ** -40, 2 ** -26],
    ...[2 ** -14 - 2 ** -26, 2 ** -14 - 2 ** -25, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -8, 1 + 3 * 2 ** -8],
  ];
  const values = Float32Array.from([...edges, ...edges.map((value) => -value), ...some]);

  test.each([
    ["bf16", roundToBf16],
    ["f16", roundToF16],
  ] as const)("%s rounds to nearest even and comes back exactly", (dtype, round) => {
    const bytes = bytesFrom(dtype, values);
    expect(bytes.length).toBe(2 * values.length);
    const back = elementsIn(dtype, bytes);
    values.forEach((value, i) => {
      if (!Object.is(back[i], round(value))) expect([value, back[i]]).toEqual([value, round(value)]);
    });
    // All 65,536 values survive there and back.
    const all = Uint16Array.from({ length: 65_536 }, (_, i) => i);
    const again = new Uint16Array(bytesFrom(dtype, elementsIn(dtype, new Uint8Array(all.buffer))).buffer);
    const isNaN = (bits: number): boolean => (dtype === "bf16" ? (bits & 0x7fff) > 0x7f80 : (bits & 0x7fff) > 0x7c00);
    expect(again.filter((bits, i) => bits !== i && !isNaN(i))).toHaveLength(0);
    expect(again.filter((bits, i) => isNaN(i) && !isNaN(bits))).toHaveLength(0);
  });

  test.each<DType>(["f64", "f32", "i32", "u32", "u8", "bool"])("%s is what it is carried as", (dtype) => {
    const carried = newElements(dtype, 5);
    carried.set([0, 1, 1, 0, 1]);
    expect(elementsIn(dtype, bytesFrom(dtype, carried))).toEqual(carried);
  });
});

const matrix: TensorMapSpec = {
  ...{ argument: 1, dtype: "bf16", offset: ["*", 2, "n"], box: [64, 8], swizzle: 128 },
  ...{ sizes: [32, "n"], strides: [64] },
};

describe("a step as launches", () => {
  const buffers: readonly PlacedBuffer[] = [
    { name: "x", address: 4096, bytes: 400, inArena: false },
    { name: "h", address: 64, bytes: 400, inArena: true },
  ];
  const gpu = { phases: [{ threads: 128, sharedBytes: 512 }, { threads: 64, sharedBytes: 0 }], tensorMaps: [] }; // prettier-ignore
  const twoPhases: PlanKernel = { ...affine, phases: ["first", "second"], sizes: ["n"], gpu };
  const one = step(0, [], {
    arguments: [
      { buffer: 0, offset: ["*", 4, "n"] },
      { buffer: 1, offset: 0 },
    ],
    sizes: ["n", 7],
    scalars: [
      { type: "f32", value: 0.5 },
      { type: "i32", value: -3 },
    ],
    tasks: ["n", 1],
  });
  const launch = (kernel: PlanKernel, the = one, n = 10, encoded: TensorMapRequest[] = []) =>
    launchesOf(the, {
      plan: plan([kernel], {}, { target: "cuda", arch: "sm_90a" }),
      buffers,
      evaluate: (size) => evaluateSize(size, new Map([["n", n]])),
      arena: 1 << 20,
      encodeTensorMap: (request) => {
        encoded.push(request);
        return new Uint8Array(128).fill(encoded.length);
      },
    });

  test("has a grid per phase, and arguments in the order of the struct", () => {
    const launches = launch(twoPhases);
    expect(launches.map(({ phase, blocks, threads, sharedBytes }) => [phase, blocks, threads, sharedBytes])).toEqual([
      [0, 10, 128, 512],
      [1, 1, 64, 0],
    ]);
    const [bytes] = launches.map((each) => each.arguments);
    expect(bytes!.length % 64).toBe(0);
    const words = new BigInt64Array(bytes!.buffer);
    expect([...words.subarray(0, 4)]).toEqual([4096n + 40n, (1n << 20n) + 64n, 10n, 7n]);
    expect([...new Float64Array(bytes!.buffer, 32, 2)]).toEqual([0.5, -3]);
  });

  test("leaves out phases without blocks, and all of a step that has none", () => {
    expect(launch(twoPhases, { ...one, tasks: [0, 1] }).map(({ phase }) => phase)).toEqual([1]);
    const encoded: TensorMapRequest[] = [];
    const kernel = { ...twoPhases, gpu: { ...gpu, tensorMaps: [matrix] } };
    expect(launch(kernel, { ...one, tasks: [0, 0] }, 10, encoded)).toEqual([]);
    expect(encoded).toEqual([]);
  });

  test("begins with its tensor maps, whose sizes are settled", () => {
    const encoded: TensorMapRequest[] = [];
    const kernel = { ...twoPhases, gpu: { ...gpu, tensorMaps: [matrix, { ...matrix, argument: 0, offset: 0 }] } };
    const [bytes] = launch(kernel, one, 10, encoded).map((each) => each.arguments);
    expect(encoded).toEqual([
      { address: (1 << 20) + 64 + 40, dtype: "bf16", sizes: [32, 10], strides: [64], box: [64, 8], swizzle: 128 },
      { address: 4096 + 40, dtype: "bf16", sizes: [32, 10], strides: [64], box: [64, 8], swizzle: 128 },
    ]);
    expect([bytes![0], bytes![127], bytes![128], bytes![255]]).toEqual([1, 1, 2, 2]);
    expect(new DataView(bytes!.buffer).getBigInt64(256, true)).toBe(4096n + 40n);
  });

  test("refuses places outside of a buffer, and grids that no GPU has", () => {
    expect(() => launch(twoPhases, one, 101)).toThrow("offset 404 lies outside of buffer x (400 bytes)");
    expect(() => launch(twoPhases, { ...one, tasks: [1, 2 ** 31] })).toThrow(/would have 2147483648 blocks/);
  });
});

describe("memory in a file", () => {
  const opened = (work: (memory: FileMemory) => void): void => {
    const memory = openFileMemory();
    try {
      work(memory);
    } finally {
      memory.close();
    }
  };

  test("is zeroed whenever it is allocated, and used again", () =>
    opened((memory) => {
      const [a, b, c] = [1000, 5_000_000, 10].map((bytes) => memory.allocate(bytes, "test")) as [number, number, number]; // prettier-ignore
      expect([a, b, c].every((address) => address % 256 === 0)).toBe(true);
      expect(memory.bytes).toBe(statSync(memory.path).size);
      memory.fill(a, 0xff, 1000);
      memory.fill(b, 0xee, 5_000_000);
      expect(memory.differs(b, 0xee, 5_000_000)).toBe(-1);
      memory.write(b + 4_999_999, 1, "u8", Uint8Array.of(1));
      expect(memory.differs(b, 0xee, 5_000_000)).toBe(4_999_999);
      memory.release(b, 5_000_000);
      memory.release(a, 1000); // now one range with b's
      const again = memory.allocate(5_001_000, "test");
      expect(again).toBe(a);
      expect(memory.differs(again, 0, 5_001_000)).toBe(-1);
      expect(memory.allocate(1000, "test")).toBeGreaterThan(c);
    }));

  test("holds values of every width", () =>
    opened((memory) => {
      const address = memory.allocate(64, "test");
      memory.write(address, 64, "bf16", Float32Array.of(1, -2, 0.1));
      expect(memory.read(address, 64, "bf16", 3)).toEqual(Float32Array.of(1, -2, roundToBf16(0.1)));
      expect(memory.read(address, 64, "u8", 2)).toEqual(Uint8Array.of(0x80, 0x3f));
      expect(() => memory.write(address, 4, "f32", new Float32Array(2))).toThrow("writing 8 bytes where 4 belong");
      expect(() => memory.read(address, 4, "f64", 1)).toThrow(RangeError);
    }));

  test("goes when it is closed", () => {
    let folder = "";
    opened(({ path }) => {
      folder = dirname(path);
      expect(existsSync(folder)).toBe(true);
    });
    expect(existsSync(folder)).toBe(false);
  });
});
