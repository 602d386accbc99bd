import fc from "fast-check";
import { expect, test } from "vitest";
import { parseMesh, printMesh, ranksOf, SINGLE } from "../../compiler/notation/mesh.ts";
import type { Mesh } from "../../compiler/notation/mesh.ts";
import { messageOf } from "./message-of.ts";

test("axes, their defaults, and the number of ranks", () => {
  const mesh = parseMesh("data=2 sequence=4:fastseq zero=2");
  expect(mesh).toEqual({ data: 2, sequence: 4, algorithm: "fastseq", zero: 2 });
  expect(ranksOf(mesh)).toBe(8);
  expect(parseMesh("")).toEqual(SINGLE);
  expect(parseMesh(" zero=3\tdata=8 ")).toEqual({ data: 8, sequence: 1, algorithm: "fastseq", zero: 3 });
  expect(parseMesh("sequence=2:ulysses").algorithm).toBe("ulysses");
});

test("print and read back", () => {
  expect(printMesh(parseMesh("zero=2 sequence=4 data=2"))).toBe("data=2 sequence=4:fastseq zero=2");
  expect(printMesh(SINGLE)).toBe("data=1");
  const meshes: fc.Arbitrary<Mesh> = fc.record({
    data: fc.integer({ min: 1, max: 65536 }),
    sequence: fc.integer({ min: 1, max: 64 }),
    algorithm: fc.constantFrom("fastseq", "ulysses"),
    zero: fc.constantFrom(0, 1, 2, 3),
  });
  fc.assert(
    fc.property(meshes, (mesh) => {
      expect(parseMesh(printMesh(mesh))).toEqual(mesh);
    }),
  );
});

const mistakes: readonly (readonly string[])[] = [
  ["mesh: there is no axis `dat`", "  dat=2", "  ^", "  fix: did you mean `data`?"],
  ["mesh: there is no axis `tensor`", "  data=2 tensor=4", "         ^", "  fix: write one of data, sequence, zero"],
  [
    "mesh: there is no sequence algorithm `ulises`",
    "  sequence=4:ulises",
    "             ^",
    "  fix: did you mean `ulysses`?",
  ],
  ["mesh: expected a sequence algorithm", "  sequence=2:", "             ^", "  fix: write one of fastseq, ulysses"],
  ["mesh: `data` wants a number of ranks, 1 or more, found `0`", "  data=0", "       ^", "  fix: write data=2"],
  ["mesh: `data` wants a number of ranks, 1 or more, found nothing", "  data 2", "      ^", "  fix: write data=2"],
  ["mesh: `zero` wants a stage from 0 to 3, found `4`", "  zero=4", "       ^", "  fix: write zero=2"],
  [
    "mesh: `data` wants a number of ranks, 1 or more, found `2,zero=1`",
    "  data=2,zero=1",
    "       ^",
    "  fix: separate the axes by blanks",
  ],
  ["mesh: `data` has no algorithm", "  data=2:ulysses", "        ^", "  fix: write data=2"],
  ["mesh: `data` stands twice", "  data=2 data=3", "         ^", "  fix: write each axis once"],
];
test.each(mistakes.map((lines) => [lines[1]!.slice(2), lines.join("\n")]))("%s", (text, message) => {
  expect(messageOf(() => parseMesh(text))).toBe(message);
});

test("no text makes anything but a mesh or a diagnostic", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^(data|zero|sequence|=|:|[0-9]| )*$/)), (text) => {
      try {
        parseMesh(text);
      } catch (error) {
        expect((error as Error).name).toBe("Diagnostic");
      }
    }),
  );
});
