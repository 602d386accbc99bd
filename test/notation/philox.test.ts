import { describe, expect, test } from "vitest";
import { philox4x32, philoxNormal, philoxUniform, wordToUniform } from "../../contract/philox.ts";

describe("philox 4x32-10", () => {
  test.each([
    {
      counter: [0, 0, 0, 0],
      key: [0, 0],
      words: [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    },
    {
      counter: [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      key: [0xffffffff, 0xffffffff],
      words: [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    },
    {
      counter: [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      key: [0xa4093822, 0x299f31d0],
      words: [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    },
  ] as const)("known answer of the Random123 distribution, key $key", ({ counter, key, words }) => {
    expect(philox4x32(counter, key)).toEqual(words);
  });

  test("a draw's counter is (index low, index high, step, 0) and its key (seed, path)", () => {
    const index = 5 * 2 ** 32 + 7;
    const [word] = philox4x32([7, 5, 11, 0], [3, 13]);
    expect(philoxUniform(3, 11, 13, index)).toBe(wordToUniform(word));
    expect(philoxUniform(3, 11, 13, -1)).toBe(wordToUniform(philox4x32([2 ** 32 - 1, 2 ** 32 - 1, 11, 0], [3, 13])[0]));
    expect(philoxUniform(3, 11, 13, 2 ** 53 - 1)).not.toBe(philoxUniform(3, 11, 13, 2 ** 53 - 2));
  });

  test("a uniform is a float32 strictly between 0 and 1, for the extreme words too", () => {
    expect(wordToUniform(0)).toBe(2 ** -25);
    expect(wordToUniform(0xffffffff)).toBe(1 - 2 ** -24);
    expect(wordToUniform(0x80000000)).toBe(0.5);
    for (let index = 0; index < 1000; index++) {
      const value = philoxUniform(1, 2, 3, index);
      expect(Math.fround(value)).toBe(value);
    }
  });

  test("uniform and normal have the right moments", () => {
    const count = 200_000;
    const sums = { uniform: 0, squares: 0, normal: 0, variance: 0, fourth: 0 };
    for (let index = 0; index < count; index++) {
      const [u, n] = [philoxUniform(42, 0, 1, index), philoxNormal(42, 0, 2, index)];
      sums.uniform += u;
      sums.squares += u * u;
      sums.normal += n;
      sums.variance += n * n;
      sums.fourth += n ** 4;
    }
    expect(sums.uniform / count).toBeCloseTo(1 / 2, 2);
    expect(sums.squares / count).toBeCloseTo(1 / 3, 2);
    expect(Math.abs(sums.normal / count)).toBeLessThan(0.01);
    expect(Math.abs(sums.variance / count - 1)).toBeLessThan(0.02);
    expect(Math.abs(sums.fourth / count - 3)).toBeLessThan(0.1);
  });
});
