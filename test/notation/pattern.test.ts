import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseContraction, parsePattern, printContraction, printPattern } from "../../compiler/notation/pattern.ts";
import type { AxisPattern } from "../../compiler/notation/pattern.ts";
import { messageOf } from "./message-of.ts";

describe("rearrangements", () => {
  test("groups split on the left and merge on the right; 1 is a unit axis", () => {
    expect(parsePattern("batch tokens (heads head) -> batch heads tokens head")).toEqual({
      input: [["batch"], ["tokens"], ["heads", "head"]],
      output: [["batch"], ["heads"], ["tokens"], ["head"]],
    });
    expect(parsePattern("a 1 b -> (b a)")).toEqual({ input: [["a"], [], ["b"]], output: [["b", "a"]] });
    expect(parsePattern("->1")).toEqual({ input: [], output: [[]] });
    expect(parsePattern("(a) -> a")).toEqual({ input: [["a"]], output: [["a"]] });
  });

  test("print and read back", () => {
    const side = (names: readonly string[]) =>
      fc
        .tuple(
          fc.shuffledSubarray([...names], { minLength: names.length }),
          fc.infiniteStream(fc.integer({ min: 0, max: 3 })),
        )
        .map(([order, choices]) => {
          const axes: AxisPattern[] = [];
          for (let at = 0; at < order.length;) {
            const { value } = choices.next() as { value: number };
            axes.push(order.slice(at, at + value));
            at += value;
          }
          return axes;
        });
    const names = fc.uniqueArray(fc.stringMatching(/^[a-zA-Z_][a-zA-Z_0-9]{0,5}$/), { maxLength: 6 });
    const patterns = names.chain((each) => fc.record({ input: side(each), output: side(each) }));
    fc.assert(
      fc.property(patterns, (pattern) => {
        expect(parsePattern(printPattern(pattern))).toEqual(pattern);
      }),
    );
  });

  const mistakes: readonly (readonly string[])[] = [
    ["pattern: `a` stands twice on one side", "  a a -> a", "    ^", "  fix: give each axis its own name"],
    [
      "pattern: `tokens` is missing on the right",
      "  batch tokens -> batch token",
      "        ^",
      "  fix: did you mean `token`?",
    ],
    [
      "pattern: `b` is missing on the left",
      "  a -> a b",
      "         ^",
      "  fix: both sides of a rearrangement have the same names",
    ],
    ["pattern: `.` is not part of a pattern", "  a ... -> a", "    ^", "  fix: there is no ellipsis: name every axis"],
    ["pattern: expected `)`, found `(`", "  a (b (c)) -> a b c", "       ^", "  fix: a group holds names only"],
    ["pattern: expected a name, found `1`", "  a (1 b) -> a b", "     ^", "  fix: `1` stands outside of groups"],
    ["pattern: a size is no axis", "  a 2 -> a", "    ^", "  fix: name the axis; only `1` is written as a number"],
    ["pattern: expected `->`, found the end", "  a b", "     ^", "  fix: a pattern is written a b -> b a"],
    ["pattern: expected `)`, found `->`", "  (a b -> a b", "       ^", "  fix: close the group with `)`"],
    [
      "pattern: expected an axis, found `->`",
      "  a -> b -> c",
      "         ^",
      "  fix: a pattern has one arrow and one output",
    ],
    ["pattern: a rearrangement has one input", "  a, b -> a b", "   ^", "  fix: separate axes by blanks"],
  ];
  test.each(mistakes.map((lines) => [lines[1]!.slice(2), lines.join("\n")]))("%s", (text, message) => {
    expect(messageOf(() => parsePattern(text))).toBe(message);
  });

  test("the place in the file leads", () => {
    const where = { file: "models/dit.sora.ts", line: 7, column: 3 };
    expect(messageOf(() => parsePattern("a -> b", where))).toMatch(
      /^models\/dit\.sora\.ts:7:3 {2}pattern: `a` is missing/,
    );
  });
});

describe("contractions", () => {
  test("operands and output", () => {
    expect(parseContraction("b s i, o i -> b s o")).toEqual({
      inputs: [
        ["b", "s", "i"],
        ["o", "i"],
      ],
      output: ["b", "s", "o"],
    });
    expect(parseContraction("a, a ->")).toEqual({ inputs: [["a"], ["a"]], output: [] });
  });

  test.each(["b s i, o i -> b s o", "a b -> b a", "a, a ->", "a b, b c, c -> a"])("%s prints as it reads", (text) => {
    expect(printContraction(parseContraction(text))).toBe(text);
  });

  const mistakes: readonly (readonly string[])[] = [
    [
      "pattern: `colums` comes from no input",
      "  rows inner, inner columns -> rows colums",
      "                                    ^",
      "  fix: did you mean `columns`?",
    ],
    [
      "pattern: `b` meets no other operand and is not in the output",
      "  a b, c -> a c",
      "    ^",
      "  fix: a contraction does not sum one operand: reduce it before",
    ],
    [
      "pattern: a contraction has plain names only",
      "  a (b c), b -> a c",
      "    ^",
      "  fix: rearrange before or after it",
    ],
    ["pattern: `i` stands twice on one side", "  i i, i -> i", "    ^", "  fix: give each axis its own name"],
    ["pattern: `b` comes from no input", "  a -> a b", "         ^"],
  ];
  test.each(mistakes.map((lines) => [lines[1]!.slice(2), lines.join("\n")]))("%s", (text, message) => {
    expect(messageOf(() => parseContraction(text))).toBe(message);
  });
});
