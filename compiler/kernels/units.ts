/**
 * Kernels in sizes of their own, so that more launches share one. A map that walks all it touches from end to end runs
 * over `elements`, however many axes and whatever sizes that stands for. A program that runs a network on two halves side
 * by side has axes of `2*batch`, and its kernels are those of `batch`: where a kernel knows a symbol as a multiple alone,
 * the symbol takes the place of the multiple. Strides tell how memory is aligned, so symbols in them stay what they are.
 */
import { divideExactly, multiply, ONE, substituteDim, symbol, symbolsOf, ZERO, type Dim } from "../graph/dim.ts";
import { variablesOf } from "../notation/expression.ts";
import { collapse } from "./collapse.ts";
import type { Access, Kernel, MapKernel } from "./kernel.ts";

export interface InUnits {
  readonly kernel: Kernel;
  /** What symbols of the kernel stand for, where it is not themselves. */
  readonly units: ReadonlyMap<string, Dim>;
}

const ELEMENTS = "elements";

export const inUnits = (kernel: Kernel): InUnits =>
  (kernel.anchor === "map" ? overElements(kernel) : undefined) ?? inMultiples(kernel);

function overElements(kernel: MapKernel): InUnits | undefined {
  const values = kernel.stores.map((store) => store.value);
  const { axes, accesses } = collapse(kernel, values, () => ELEMENTS);
  const [axis, ...others] = axes;
  const isWhole = ({ strides, lookups, guard }: Access): boolean =>
    lookups.length === 0 && guard === undefined && (strides[0] === ONE || strides[0] === ZERO);
  if (axis === undefined || others.length > 0 || !accesses.every(isWhole)) return undefined;
  if (variablesOf(values).some(({ name }) => /^i\d+$/.test(name))) return undefined;
  const over = { axes: [{ name: ELEMENTS, size: symbol(ELEMENTS) }], accesses, symbols: [ELEMENTS] };
  return { kernel: { ...kernel, ...over }, units: new Map([[ELEMENTS, axis.size]]) };
}

function inMultiples(kernel: Kernel): InUnits {
  const units = new Map<string, Dim>();
  if ("mask" in kernel && kernel.mask.segments.length > 0) return { kernel, units };
  const fixed = new Set(
    kernel.accesses.flatMap(({ strides, lookups }) =>
      [...strides, ...lookups.map((lookup) => lookup.stride)].flatMap(symbolsOf),
    ),
  );
  const sizes = kernel.axes.map((axis) => axis.size);
  for (const name of kernel.symbols) {
    const using = sizes.filter((size) => symbolsOf(size).includes(name));
    const [unit] = using;
    // Of several sizes, or of one with other symbols, none stands for the symbol.
    if (fixed.has(name) || unit === undefined || unit === symbol(name)) continue;
    const factor = divideExactly(unit, symbol(name));
    if (symbolsOf(unit).length > 1 || using.some((size) => size !== unit) || factor === undefined) continue;
    if (symbolsOf(factor).length === 0) units.set(name, multiply(factor, symbol(name)));
  }
  if (units.size === 0) return { kernel, units };
  const axes = kernel.axes.map((axis) => {
    const [name] = symbolsOf(axis.size);
    return name !== undefined && units.get(name) === axis.size ? { ...axis, size: symbol(name) } : axis;
  });
  return { kernel: { ...kernel, axes }, units };
}

/** A size of the kernel as the program spells it. */
export const inProgram = (size: Dim, units: ReadonlyMap<string, Dim>): Dim =>
  units.size === 0 ? size : substituteDim(size, units);
