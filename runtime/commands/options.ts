/** How option values are read, and what is said about those that cannot be. */
import { InvalidArgumentError } from "commander";

type Read = (text: string) => number;

/** A whole number of at least `least`. */
export const wholeNumber =
  (least: number): Read =>
  (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text.trim()) && Number.isSafeInteger(value) && value >= least) return value;
    throw new InvalidArgumentError(`A whole number of at least ${least} is expected.`);
  };

/** A seed is 32 bits: more would be cut off in silence. */
export const seed: Read = (text) => {
  const value = wholeNumber(0)(text);
  if (value < 2 ** 32) return value;
  throw new InvalidArgumentError("A seed is a whole number below 2^32.");
};

export const positiveNumber: Read = (text) => {
  const value = Number(text);
  if (text.trim() !== "" && Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError("A number above 0 is expected.");
};

export const anyNumber: Read = (text) => {
  const value = Number(text);
  if (text.trim() !== "" && Number.isFinite(value)) return value;
  throw new InvalidArgumentError("A number is expected.");
};

/** An option that may be given several times. */
export const several = (text: string, before: readonly string[]): readonly string[] => [...before, text];
