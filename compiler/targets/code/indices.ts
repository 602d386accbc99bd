/** From the number of an element to its index along each of several axes. */
import { multiply, ONE, staticValue, type Dim } from "../../graph/dim.ts";
import { dimText, type Frame } from "./context.ts";

/** Several axes counted by one variable: `row` runs from `row_first` to `row_last`. */
export interface Range {
  readonly name: string;
  readonly axes: readonly number[];
  /** The number is below 2^32, where divisions take a fraction of the time on a GPU. */
  readonly narrow?: boolean;
}

/** The indices along the axes of a range, from the one number that counts their elements. */
export function wholeIndices(frame: Frame, range: Range): { lines: string[]; indices: Map<number, string> } {
  const { name, axes, narrow = false } = range;
  const [only] = axes;
  if (axes.length === 1 && only !== undefined) return { lines: [], indices: new Map([[only, name]]) };
  return digits(frame, name, axes, narrow);
}

/** The mixed-radix digits of a number, the last axis counting fastest. */
export function digits(frame: Frame, number: string, axes: readonly number[], narrow = false) {
  const divisor = (dim: Dim): string => {
    const text = dimText(frame, dim);
    if (narrow) return `uint32_t(${text})`;
    return /^[\w]+$/.test(text) ? text : `(${text})`;
  };
  const dividend = narrow ? `uint32_t(${number})` : number;
  const lines: string[] = [];
  const indices = new Map<number, string>();
  axes.forEach((axis, position) => {
    const inside: Dim = multiply(ONE, ...axes.slice(position + 1).map((later) => frame.kernel.axes[later]!.size));
    const quotient = inside === ONE ? dividend : `${dividend} / ${divisor(inside)}`;
    const size = frame.kernel.axes[axis]!.size;
    const name = frame.indices[axis]!;
    lines.push(`const int64_t ${name} = ${position === 0 ? quotient : `${quotient} % ${divisor(size)}`};`);
    indices.set(axis, name);
  });
  return { lines, indices };
}

/**
 * The same with the divisions by sizes of a launch prepared: `settled` declares a `Divider` for each, once per thread. The
 * number is below 2^31.
 */
export function preparedIndices(frame: Frame, { name, axes }: Range) {
  const settled: string[] = [];
  const dividers = new Map<string, string>();
  const over = (number: string, size: Dim, what: "quotient" | "remainder"): string => {
    const text = dimText(frame, size);
    if (staticValue(size) !== undefined)
      return `static_cast<uint32_t>(${number}) ${what === "quotient" ? "/" : "%"} ${text}u`;
    if (!dividers.has(text)) {
      const divider = frame.fresh(`by_${name}`);
      settled.push(`const Divider ${divider}(${text});`);
      dividers.set(text, divider);
    }
    return `${dividers.get(text)!}.${what}(${number})`;
  };
  const [only] = axes;
  if (axes.length === 1 && only !== undefined) return { settled, lines: [], indices: new Map([[only, name]]) };
  const lines: string[] = [];
  const indices = new Map<number, string>();
  axes.forEach((axis, position) => {
    const inside = multiply(ONE, ...axes.slice(position + 1).map((later) => frame.kernel.axes[later]!.size));
    const quotient = inside === ONE ? name : over(name, inside, "quotient");
    const index = frame.indices[axis]!;
    const { size } = frame.kernel.axes[axis]!;
    lines.push(`const int64_t ${index} = ${position === 0 ? quotient : over(quotient, size, "remainder")};`);
    indices.set(axis, index);
  });
  return { settled, lines, indices };
}

/** Those of some declarations whose names lines mention. */
export function needed(declarations: readonly string[], lines: readonly string[]): string[] {
  const words = new Set(lines.flatMap((line) => line.match(/\w+/g) ?? []));
  return declarations.filter((line) => words.has(/(\w+) = /.exec(line)?.[1] ?? ""));
}
