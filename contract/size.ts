/**
 * Size expressions: whole numbers that depend on the symbols of a program (batch, tokens, frames …).
 *
 * They are what the compiler leaves open and the runtime settles when a shape is bound. The form is JSON: a number, a
 * symbol's name, or an operation in front of its arguments. Values are exact whole numbers below 2^53; division and
 * remainder round towards minus infinity; `ceilSqrt(n)` is the side of the smallest square that holds n.
 */
export type Size = number | string | readonly [SizeOperation, ...Size[]];

export const SIZE_OPERATIONS = ["+", "*", "floorDiv", "mod", "min", "max", "ceilSqrt"] as const;
export type SizeOperation = (typeof SIZE_OPERATIONS)[number];

const MEANING: Readonly<Record<SizeOperation, (values: readonly number[]) => number>> = {
  "+": (values) => values.reduce((a, b) => a + b, 0),
  "*": (values) => values.reduce((a, b) => a * b, 1),
  floorDiv: ([a = 0, b = 1]) => Math.floor(a / b),
  mod: ([a = 0, b = 1]) => a - Math.floor(a / b) * b,
  min: (values) => Math.min(...values),
  max: (values) => Math.max(...values),
  ceilSqrt: ([n = 0]) => ceilSqrt(n),
};

/** The value of `size` where every symbol has the value that `symbols` gives. Throws a RangeError on an unknown symbol. */
export function evaluateSize(size: Size, symbols: ReadonlyMap<string, number>): number {
  if (typeof size === "number") return size;
  if (typeof size === "string") {
    const value = symbols.get(size);
    if (value === undefined) throw new RangeError(`the size of "${size}" is not bound`);
    return value;
  }
  const [operation, ...args] = size;
  return MEANING[operation](args.map((arg) => evaluateSize(arg, symbols)));
}

export const applySizeOperation = (operation: SizeOperation, values: readonly number[]): number =>
  MEANING[operation](values);

/** Infix, for people: `2*batch*tokens + 3`. */
export function printSize(size: Size): string {
  if (typeof size === "number") return String(size);
  if (typeof size === "string") return size;
  const [operation, ...args] = size;
  if (operation === "+") return args.map(printSize).join(" + ");
  if (operation === "*") return args.map((arg) => parenthesised(arg)).join("*");
  return `${operation}(${args.map(printSize).join(", ")})`;
}

const parenthesised = (size: Size): string =>
  Array.isArray(size) && size[0] === "+" ? `(${printSize(size)})` : printSize(size);

function ceilSqrt(n: number): number {
  let side = Math.ceil(Math.sqrt(n));
  while (side * side < n) side++;
  while (side > 0 && (side - 1) * (side - 1) >= n) side--;
  return side;
}
