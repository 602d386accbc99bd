/**
 * Kernels with a mistake planted in them: the simulator finds it under every schedule and names the line, and finds
 * nothing in the same kernel put right.
 */
import { describe, expect, test } from "vitest";
import { mistakeOf, sourceOf, type Written } from "./run-kernel.ts";

export interface Planted {
  readonly what: string;
  readonly written: Omit<Written, "body">;
  /** The kernel. Lines that begin with `@` are missing in the wrong one, those that begin with `!` are only there. */
  readonly text: string;
  readonly message: RegExp;
  /** A piece of the line that the report must name. */
  readonly line?: string;
}

const SEEDS = [0, 1, 2, 3];

export const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

const versionOf = (text: string, wrong: boolean): string =>
  text
    .split("\n")
    .filter((line) => !line.startsWith(wrong ? "@" : "!"))
    .map((line) => line.replace(/^[@!]/, ""))
    .join("\n");

export function findAll(planted: readonly Planted[]): void {
  describe.each(planted)("$what", ({ written, text, message, line }) => {
    test("is found under every schedule", async () => {
      const wrong: Written = { ...written, body: versionOf(text, true) };
      const lines = sourceOf(wrong).split("\n");
      for (const seed of SEEDS) {
        const told = await mistakeOf(wrong, seed);
        expect(told).toMatch(message);
        if (line === undefined) continue;
        const number = lines.findIndex((each) => each.includes(line)) + 1;
        expect(told).toContain(`kernel.cu:${number}`);
      }
    });

    test("is not found where it is not", async () => {
      const right: Written = { ...written, body: versionOf(text, false) };
      for (const seed of SEEDS) expect(await mistakeOf(right, seed)).toBeUndefined();
    });
  });
}
