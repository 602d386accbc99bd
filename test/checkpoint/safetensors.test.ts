/** Reading safetensors: what is stored comes back, and whatever else a file holds is refused with a reason. */
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { openSafetensors, writeSafetensors } from "../../contract/safetensors.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "soracc-safetensors-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A file with exactly this header text and this many bytes after it. */
function fileWith(header: string | Uint8Array, dataBytes: number, claimedLength?: bigint): string {
  const json = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const bytes = new Uint8Array(8 + json.byteLength + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, claimedLength ?? BigInt(json.byteLength), true);
  bytes.set(json, 8);
  const path = join(folder, "case.safetensors");
  writeFileSync(path, bytes);
  return path;
}

function refusal(path: string): string {
  try {
    openSafetensors(path).close();
  } catch (error) {
    if (!(error instanceof Diagnostic)) throw error;
    expect(error.parts.kind).toBe("safetensors");
    expect(error.parts.fix).toBeDefined();
    return error.parts.message;
  }
  return "accepted";
}

const f32 = (name: string, shape: number[], begin: number, end: number): string =>
  `"${name}":{"dtype":"F32","shape":${JSON.stringify(shape)},"data_offsets":[${begin},${end}]}`;

test("tensors of every type come back bit for bit", () => {
  const path = join(folder, "all.safetensors");
  const tensors = [
    { name: "bytes", dtype: "U8", shape: [3], data: Uint8Array.of(1, 2, 255) },
    { name: "float", dtype: "F32", shape: [2, 2], data: Float32Array.of(1.5, -0, NaN, Infinity) },
    { name: "long", dtype: "I64", shape: [2], data: BigInt64Array.of(-1n, 2n ** 62n) },
    { name: "double", dtype: "F64", shape: [], data: Float64Array.of(Math.PI) },
    { name: "empty", dtype: "F32", shape: [0, 4], data: new Float32Array(0) },
    { name: "int", dtype: "I32", shape: [2], data: () => Int32Array.of(-7, 7) },
    { name: "__proto__", dtype: "I16", shape: [1], data: Int16Array.of(-3) },
  ] as const;
  writeSafetensors(path, tensors, new Map([["note", 'a "quoted" line\n']]));
  const file = openSafetensors(path);
  expect([...file.tensors.keys()].sort()).toEqual(tensors.map(({ name }) => name).sort());
  for (const { name, shape, data } of tensors) {
    expect(file.tensors.get(name)?.shape).toEqual(shape);
    expect(file.read(name)).toEqual(typeof data === "function" ? data() : data);
  }
  expect(file.metadata.get("note")).toBe('a "quoted" line\n');
  expect(file.read("float", { first: 1, count: 2 })).toEqual(Float32Array.of(-0, NaN));
  expect(file.readFloat32("double")).toEqual(Float32Array.of(Math.fround(Math.PI)));
  expect(file.readFloat64("long")).toEqual(Float64Array.of(-1, 2 ** 62));
  expect(() => file.read("nothing")).toThrow(Diagnostic);
  file.close();

  const start = [...file.tensors.values()].reduce((least, { begin }) => Math.min(least, begin), Infinity);
  expect(start % 8).toBe(0);
});

test("16-bit floats are widened exactly", () => {
  const path = join(folder, "half.safetensors");
  // 1, -2, largest, smallest subnormal, infinity
  const f16 = Uint16Array.of(0x3c00, 0xc000, 0x7bff, 0x0001, 0x7c00);
  const bf16 = Uint16Array.of(0x3f80, 0xc000, 0x7f7f, 0x0001, 0xff80);
  writeSafetensors(path, [
    { name: "f16", dtype: "F16", shape: [5], data: f16 },
    { name: "bf16", dtype: "BF16", shape: [5], data: bf16 },
  ]);
  const file = openSafetensors(path);
  expect(file.read("f16")).toEqual(f16);
  expect([...file.readFloat32("f16")]).toEqual([1, -2, 65504, 2 ** -24, Infinity]);
  expect([...file.readFloat64("bf16")]).toEqual([1, -2, (2 - 2 ** -7) * 2 ** 127, 2 ** -133, -Infinity]);
  file.close();
});

test("a file recorded by PyTorch opens", () => {
  const file = openSafetensors("test/fixtures/patches/patchify.safetensors");
  expect(file.tensors.get("odd.video")?.shape).toEqual([3, 4, 7, 10]);
  expect(file.metadata.get("patch")).toBe("2");
  expect(file.readFloat32("odd.patches").length).toBe(45 * 4 * 2 * 2);
  file.close();
});

test.each([
  ["an overlap", `{${f32("a", [2], 0, 8)},${f32("b", [2], 4, 12)}}`, 12, /"b" overlaps "a" by 4 bytes/],
  ["a hole", `{${f32("a", [1], 0, 4)},${f32("b", [1], 8, 12)}}`, 12, /4 bytes between "a" and "b"/],
  ["a hole at the start", `{${f32("a", [1], 4, 8)}}`, 8, /4 bytes between the header and "a"/],
  ["bytes left over", `{${f32("a", [1], 0, 4)}}`, 6, /2 bytes after "a"/],
  ["missing bytes", `{${f32("a", [4], 0, 16)}}`, 12, /need 16 bytes and 12 are there/],
  ["a size that disagrees", `{${f32("a", [3], 0, 8)}}`, 8, /F32 \[3\] is 12 bytes, its data_offsets hold 8/],
  ["reversed offsets", `{${f32("a", [1], 4, 0)}}`, 4, /end before they begin/],
  ["a negative offset", `{${f32("a", [1], -4, 0)}}`, 0, /not two whole numbers/],
  ["a fractional offset", `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4.5]}}`, 4, /not two whole numbers/],
  [
    "an offset of 2^53",
    `{"a":{"dtype":"U8","shape":[1],"data_offsets":[9007199254740992,9007199254740993]}}`,
    1,
    /2\^53/,
  ],
  ["a negative size", `{${f32("a", [-1], 0, 4)}}`, 4, /not a whole number/],
  ["a product beyond 2^53", `{"a":{"dtype":"F32","shape":[134217728,134217728],"data_offsets":[0,0]}}`, 0, /2\^53/],
  ["an unknown dtype", `{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}`, 4, /unknown dtype "F33"/],
  ["a dtype from Object.prototype", `{"a":{"dtype":"toString","shape":[1],"data_offsets":[0,4]}}`, 4, /unknown dtype/],
  ["equal names", `{${f32("a", [1], 0, 4)},${f32("a", [1], 0, 4)}}`, 4, /"a" appears twice/],
  ["equal names, one escaped", `{${f32("a", [1], 0, 4)},${f32("\\u0061", [1], 0, 4)}}`, 4, /"a" appears twice/],
  [
    "an unknown key",
    `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"__proto__":{}}}`,
    1,
    /unknown key "__proto__"/,
  ],
  ["metadata that is no text", `{"__metadata__":{"step":3}}`, 0, /strings only, "step"/],
  ["a list", `[]`, 0, /not a JSON object/],
  ["broken JSON", `{"a":\n  nope}`, 0, /not JSON: .* \(header line 2, column 3\)/],
  ["text after the object", `{} x`, 0, /not JSON: unexpected "x"/],
  ["deep nesting", `{"a":${"[".repeat(5000)}`, 0, /nested more than/],
  ["bytes that are not UTF-8", Uint8Array.of(0x7b, 0xff, 0x7d), 0, /not UTF-8/],
] as const)("%s is refused", (_case, header, dataBytes, reason) => {
  expect(refusal(fileWith(header, dataBytes))).toMatch(reason);
});

test("header lengths are bounded before memory is asked for", () => {
  expect(refusal(fileWith("{}", 0, 2n ** 63n))).toMatch(/the format allows/);
  expect(refusal(fileWith("{}", 0, 100n))).toMatch(/cut short/);
  expect(refusal(fileWith("{}", 0, 0n))).toMatch(/smallest/);
  expect(refusal(fileWith("{}", 0))).toBe("accepted");
});

test("files that are no files at all are refused", () => {
  expect(refusal(join(folder, "nothing.safetensors"))).toMatch(/no such file/);
  expect(refusal(folder)).toMatch(/not a regular file/);
  const empty = join(folder, "empty.safetensors");
  writeFileSync(empty, "");
  expect(refusal(empty)).toMatch(/too few/);
});

test("a file that shrinks while open is reported when the tensor is read", () => {
  const path = fileWith(`{${f32("a", [4], 0, 16)}}`, 16);
  const file = openSafetensors(path);
  truncateSync(path, statSync(path).size - 1);
  expect(() => file.read("a")).toThrow(/became shorter/);
  file.close();
});

test("names from a file never reach a prototype", () => {
  const file = openSafetensors(fileWith(`{"__metadata__":{"__proto__":"polluted"},${f32("__proto__", [1], 0, 4)}}`, 4));
  expect(file.tensors.get("__proto__")?.shape).toEqual([1]);
  expect(file.tensors.get("toString")).toBeUndefined();
  expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
  file.close();
});

test("any damage gives a Diagnostic or a file whose tensors can all be read", () => {
  const whole = readFileSync("test/fixtures/patches/patchify.safetensors");
  const path = join(folder, "damaged.safetensors");
  const headerBytes = 8 + Number(new DataView(whole.buffer, whole.byteOffset).getBigUint64(0, true));
  let refused = 0;
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(headerBytes + 20), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      fc.option(fc.nat(whole.byteLength)),
      (changes, cut) => {
        const bytes = Uint8Array.from(whole);
        for (const [at, value] of changes) bytes[at] = value;
        writeFileSync(path, cut === null ? bytes : bytes.subarray(0, cut));
        if (refusal(path) !== "accepted") {
          refused++;
          return;
        }
        const file = openSafetensors(path);
        for (const name of file.tensors.keys()) file.read(name);
        file.close();
      },
    ),
    { numRuns: 1500 },
  );
  expect(refused).toBeGreaterThan(300);
});

test("any header text gives a Diagnostic or a valid file", () => {
  const word = fc.constantFrom(
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    '"a"',
    '"dtype"',
    '"F32"',
    '"shape"',
    '"data_offsets"',
    "0",
    "4",
    "-1",
    "1e99",
    "null",
    '"__proto__"',
    '"\\u0000"',
    "\n",
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 24 }), (words) => {
      refusal(fileWith(words.join(""), 4));
    }),
    { numRuns: 500 },
  );
});
