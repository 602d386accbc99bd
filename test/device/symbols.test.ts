import { describe, expect, test } from "vitest";
import { checkSymbols, symbolsFromShapes } from "../../runtime/program/symbols.ts";
import { port, program } from "./small-plans.ts";
import { diagnosticOf } from "./with-device.ts";

const video = program({
  symbols: ["batch", "frames", "height", "tokens"],
  inputs: [
    port("x", "f32", ["batch", 4, "frames", ["*", 2, "height"]], 0),
    port("text", "f32", ["batch", "tokens", 768], 1),
    port(
      "packed",
      "f32",
      [
        ["*", "batch", "frames"],
        ["+", "tokens", 1],
      ],
      2,
    ),
  ],
  guards: [{ left: ["mod", "height", 2], right: 0, message: "height has to be even" }],
});

const shapes = { x: [2, 4, 16, 64], text: [2, 77, 768] };

describe("sizes from the shapes of inputs", () => {
  test("plain sizes and expressions with one unknown are read off", () => {
    expect(symbolsFromShapes(video, shapes)).toEqual({ batch: 2, frames: 16, height: 32, tokens: 77 });
    expect(symbolsFromShapes(video, { x: shapes.x, packed: [32, 9] })).toMatchObject({ tokens: 8 });
  });

  test("two values for one size are named with their places", async () => {
    const error = await diagnosticOf(() => symbolsFromShapes(video, { ...shapes, text: [3, 77, 768] }));
    expect(error.message).toBe(
      "shape: batch has two values, 2 and 3\n  2 from x, axis batch\n  3 from text, axis batch",
    );
  });

  test.each([
    [{ ...shapes, text: [2, 77, 512] }, "text, axis axis2 is 512, expected 768"],
    [{ ...shapes, packed: [31, 78] }, "packed, axis axis0 is 31, expected batch*frames = 32"],
    [{ ...shapes, x: [2, 4, 16, 63] }, "x, axis axis3 is 63, but no height makes 2*height equal to it"],
    [{ ...shapes, text: [2, 77] }, "input text has 3 axes, got 2"],
    [{ x: shapes.x }, "the shapes given do not tell tokens"],
    [{ ...shapes, test: [1] }, "there is no input called test"],
  ])("what does not fit is said: %j", async (given: Record<string, number[]>, message) => {
    const error = await diagnosticOf(() => symbolsFromShapes(video, given));
    expect(error.parts).toMatchObject({ kind: "shape", message });
  });
});

describe("sizes given by name", () => {
  const given = { batch: 2, frames: 16, height: 32, tokens: 77 };

  test("all guards hold", () => {
    expect([...checkSymbols("loss", video, given)]).toEqual(Object.entries(given));
  });

  test("a guard that fails says why", async () => {
    const error = await diagnosticOf(() => checkSymbols("loss", video, { ...given, height: 31 }));
    expect(error.parts.message).toBe("height has to be even");
    expect(error.parts.details).toContain("mod(height, 2) = 1");
    expect(error.parts.details).toContain("height = 31");
  });

  test("missing, fractional and unknown sizes are refused", async () => {
    const { tokens: _, ...rest } = given;
    const message = async (symbols: Record<string, number>): Promise<string> =>
      (await diagnosticOf(() => checkSymbols("loss", video, symbols))).parts.message;
    expect(await message(rest)).toBe("program loss needs a whole number for tokens, got none");
    expect(await message({ ...given, tokens: 1.5 })).toContain("got 1.5");
    expect(await message({ ...given, hight: 3 })).toBe("program loss has no size called hight");
  });
});
