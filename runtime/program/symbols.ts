/** How the open sizes of a program get their values, and what is said when they do not fit together. */
import { Diagnostic, didYouMean } from "../../contract/diagnostic.ts";
import type { PlanKernel, PlanProgram, PlanStep, Port } from "../../contract/plan.ts";
import { evaluateSize, printSize, type Size } from "../../contract/size.ts";

/**
 * Reads the program's symbols off the shapes of its inputs (any subset that mentions every symbol). Throws a Diagnostic
 * of kind `shape` when the number of axes differs, a symbol gets two values, a size expression does not come out, or a
 * symbol stays unknown.
 */
export function symbolsFromShapes(
  program: PlanProgram,
  shapes: Readonly<Record<string, readonly number[]>>,
): Record<string, number> {
  const known = new Map<string, { readonly value: number; readonly from: string }>();
  const values = new Map<string, number>();
  const open: { readonly size: Size; readonly value: number; readonly place: string }[] = [];

  for (const [name, shape] of Object.entries(shapes)) {
    const port = portNamed(program.inputs, name, "input");
    if (shape.length !== port.axes.length) {
      throw new Diagnostic({
        kind: "shape",
        message: `input ${name} has ${port.axes.length} axes, got ${shape.length}`,
        details: [`expected  ${describeAxes(port)}`, `got       [${shape.join(", ")}]`],
      });
    }
    port.axes.forEach((axis, position) => {
      const value = shape[position] ?? 0;
      const place = `${name}, axis ${axis.name}`;
      if (typeof axis.size === "string") settle(axis.size, value, place);
      else open.push({ size: axis.size, value, place });
    });
  }

  // An expression with one unknown may settle it, and that may help the next one.
  let waiting = open;
  for (let before = Infinity; waiting.length > 0 && waiting.length < before;) {
    before = waiting.length;
    waiting = waiting.filter(({ size, value, place }) => {
      const unknown = [...symbolsOf(size)].filter((symbol) => !values.has(symbol));
      if (unknown.length === 0) {
        const expected = evaluateSize(size, values);
        if (expected !== value) throw mismatch(size, expected, value, place);
        return false;
      }
      const [symbol, ...others] = unknown;
      if (symbol === undefined || others.length > 0) return true;
      const solution = solve(size, value, values);
      if (solution === "cannot tell") return true;
      if (solution === "none") {
        throw new Diagnostic({
          kind: "shape",
          message: `${place} is ${value}, but no ${symbol} makes ${printSize(size)} equal to it`,
        });
      }
      settle(symbol, solution, place);
      return false;
    });
  }

  const missing = program.symbols.filter((symbol) => !values.has(symbol));
  if (missing.length > 0) {
    throw new Diagnostic({
      kind: "shape",
      message: `the shapes given do not tell ${missing.join(", ")}`,
      details: program.inputs.map((port) => `${port.name}  ${describeAxes(port)}`),
      fix: "give the shape of an input whose axes mention it",
    });
  }
  return Object.fromEntries(program.symbols.map((symbol) => [symbol, values.get(symbol) ?? 0]));

  function settle(symbol: string, value: number, place: string): void {
    const earlier = known.get(symbol);
    if (earlier !== undefined && earlier.value !== value) {
      throw new Diagnostic({
        kind: "shape",
        message: `${symbol} has two values, ${earlier.value} and ${value}`,
        details: [`${earlier.value} from ${earlier.from}`, `${value} from ${place}`],
      });
    }
    known.set(symbol, { value, from: place });
    values.set(symbol, value);
  }

  function mismatch(size: Size, expected: number, value: number, place: string): Diagnostic {
    const parts = [...symbolsOf(size)].map((symbol) => {
      const fact = known.get(symbol);
      return `${symbol} = ${fact?.value ?? "?"} from ${fact?.from ?? "?"}`;
    });
    return new Diagnostic({
      kind: "shape",
      message: `${place} is ${value}, expected ${printSize(size)}${typeof size === "number" ? "" : ` = ${expected}`}`,
      details: parts,
    });
  }
}

/** Checks that exactly the program's symbols are given, as whole numbers, and that all guards hold. */
export function checkSymbols(
  name: string,
  program: PlanProgram,
  symbols: Readonly<Record<string, number>>,
): ReadonlyMap<string, number> {
  const values = new Map<string, number>();
  for (const symbol of program.symbols) {
    const value = symbols[symbol];
    if (value === undefined || !Number.isSafeInteger(value) || value < 0) {
      throw new Diagnostic({
        kind: "shape",
        message: `program ${name} needs a whole number for ${symbol}, got ${value ?? "none"}`,
      });
    }
    values.set(symbol, value);
  }
  for (const symbol of Object.keys(symbols)) {
    if (values.has(symbol)) continue;
    const meant = didYouMean(symbol, program.symbols);
    throw new Diagnostic({
      kind: "shape",
      message: `program ${name} has no size called ${symbol}`,
      details: [`its sizes: ${program.symbols.join(", ")}`],
      fix: meant === undefined ? undefined : `write ${meant}`,
    });
  }
  for (const guard of program.guards) {
    const left = evaluateSize(guard.left, values);
    const right = evaluateSize(guard.right, values);
    if (left === right) continue;
    throw new Diagnostic({
      kind: "shape",
      message: guard.message,
      details: [
        `${printSize(guard.left)} = ${left}`,
        `${printSize(guard.right)} = ${right}`,
        ...[...values].map(([symbol, value]) => `${symbol} = ${value}`),
      ],
    });
  }
  return values;
}

export function portNamed(ports: readonly Port[], name: string, role: string): Port {
  const port = ports.find((one) => one.name === name);
  if (port !== undefined) return port;
  const names = ports.map((one) => one.name);
  const meant = didYouMean(name, names);
  throw new Diagnostic({
    kind: "shape",
    message: `there is no ${role} called ${name}`,
    details: [`${role}s: ${names.join(", ") || "none"}`],
    fix: meant === undefined ? undefined : `write ${meant}`,
  });
}

const describeAxes = (port: Port): string =>
  `[${port.axes.map(({ name, size }) => (name === size ? name : `${name} ${printSize(size)}`)).join(", ")}]`;

function symbolsOf(size: Size, into = new Set<string>()): Set<string> {
  if (typeof size === "string") into.add(size);
  else if (typeof size !== "number") for (const part of size.slice(1)) symbolsOf(part, into);
  return into;
}

/** The value of the one unknown symbol that makes `size` equal to `value`, through sums and products only. */
function solve(size: Size, value: number, known: ReadonlyMap<string, number>): number | "none" | "cannot tell" {
  if (typeof size === "number") return "cannot tell";
  if (typeof size === "string") return Number.isSafeInteger(value) && value >= 0 ? value : "none";
  const [operation, ...parts] = size;
  if (operation !== "+" && operation !== "*") return "cannot tell";
  const isOpen = (part: Size): boolean => [...symbolsOf(part)].some((symbol) => !known.has(symbol));
  const [unknown, ...more] = parts.filter(isOpen);
  if (unknown === undefined || more.length > 0) return "cannot tell";
  const rest = parts.filter((part) => !isOpen(part)).map((part) => evaluateSize(part, known));
  if (operation === "+") return solve(unknown, value - rest.reduce((a, b) => a + b, 0), known);
  const factor = rest.reduce((a, b) => a * b, 1);
  if (factor === 0) return "cannot tell";
  return value % factor === 0 ? solve(unknown, value / factor, known) : "none";
}

/** What sizes in a kernel's own names are for one of its steps. */
export function sizesIn(kernel: PlanKernel, step: PlanStep, evaluate: (size: Size) => number): (size: Size) => number {
  const values = new Map(kernel.sizes.map((name, i) => [name, evaluate(step.sizes[i]!)]));
  return (size) => evaluateSize(size, values);
}
