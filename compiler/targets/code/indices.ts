/** From the number of an element to its index along each of several axes. */
import { multiply, ONE, type Dim } from "../../graph/dim.ts";
import { dimText, type Frame } from "./context.ts";

/** Several axes counted by one variable: `row` runs from `row_first` to `row_last`. */
export interface Range {
  readonly name: string;
  readonly axes: readonly number[];
}

/** The indices along the axes of a range, from the one number that counts their elements. */
export function wholeIndices(frame: Frame, { name, axes }: Range): { lines: string[]; indices: Map<number, string> } {
  const [only] = axes;
  if (axes.length === 1 && only !== undefined) return { lines: [], indices: new Map([[only, name]]) };
  return digits(frame, name, axes);
}

/** The mixed-radix digits of a number, the last axis counting fastest. */
export function digits(frame: Frame, number: string, axes: readonly number[]) {
  const lines: string[] = [];
  const indices = new Map<number, string>();
  axes.forEach((axis, position) => {
    const inside: Dim = multiply(ONE, ...axes.slice(position + 1).map((later) => frame.kernel.axes[later]!.size));
    const quotient = inside === ONE ? number : `${number} / ${divisor(frame, inside)}`;
    const size = frame.kernel.axes[axis]!.size;
    const name = frame.indices[axis]!;
    lines.push(`const int64_t ${name} = ${position === 0 ? quotient : `${quotient} % ${divisor(frame, size)}`};`);
    indices.set(axis, name);
  });
  return { lines, indices };
}

const divisor = (frame: Frame, dim: Dim): string => {
  const text = dimText(frame, dim);
  return /^[\w]+$/.test(text) ? text : `(${text})`;
};
