/** What every command of the binary gets to work with. */
import type { Carried } from "../program/carried.ts";

export interface CommandContext {
  readonly carried: Carried;
  /** How the binary was called: `./dit`. */
  readonly self: string;
  /** Results, for people or, with --json, for programs. */
  readonly print: (line: string) => void;
  /** What happens on the way. */
  readonly say: (line: string) => void;
}

/** A help text's examples, one per line. */
export const examples = (lines: readonly string[]): string =>
  `\nExamples:\n${lines.map((line) => `  ${line}`).join("\n")}\n`;
