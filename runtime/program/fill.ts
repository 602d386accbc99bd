/**
 * Binds a program to the values of one run. The program's ports say what it wants; a table of sources says what there
 * is. A port that no source can serve is told, not guessed.
 */
import { Diagnostic } from "../../contract/diagnostic.ts";
import type { PlanProgram, Port } from "../../contract/plan.ts";
import { evaluateSize } from "../../contract/size.ts";
import type { BoundProgram, DeviceBuffer, LoadedPlan, Symbols } from "../devices/device.ts";
import { elementsFrom, newElements, type Elements } from "../devices/elements.ts";
import { symbolsFromShapes } from "./symbols.ts";

/** A value for an input: its shape and its elements, row-major. */
export interface Given {
  readonly shape: readonly number[];
  readonly values: ArrayLike<number>;
}

/** What can be given, by the names of inputs; a source sees the port, since one name may come in two shapes. */
export type Sources = Readonly<Record<string, (port: Port) => Given>>;

export type States = ReadonlyMap<string, DeviceBuffer>;

export const scalarGiven = (value: number): Given => ({ shape: [], values: [value] });

export const vectorGiven = (values: ArrayLike<number>): Given => ({ shape: [values.length], values });

/** @throws Diagnostic (kind `program`) when the plan was compiled without it */
export function programNamed(programs: Readonly<Record<string, PlanProgram>>, name: string): PlanProgram {
  const program = programs[name];
  if (program !== undefined) return program;
  throw new Diagnostic({
    kind: "program",
    message: `this binary has no program ${name}`,
    details: [`programs  ${Object.keys(programs).join(", ")}`],
    fix: "compile the model again; its file decides which programs it has",
  });
}

/**
 * The program with all inputs written. Sizes come from the shapes given.
 * @throws Diagnostic when an input has no source, or shapes do not fit
 */
export function bindFilled(loaded: LoadedPlan, name: string, sources: Sources, states: States): BoundProgram {
  const program = programNamed(loaded.plan.programs, name);
  const given = valuesFor(name, program, sources);
  const shapes = Object.fromEntries([...given].map(([port, { shape }]) => [port.name, shape]));
  const bound = loaded.bind(name, symbolsFromShapes(program, shapes), states);
  for (const [port, { values }] of given) bound.write(port.name, carriedBy(port, values));
  return bound;
}

/** As `bindFilled`, for a program whose sizes its inputs do not tell: the caller knows them. */
export function bindSized(
  loaded: LoadedPlan,
  name: string,
  known: Symbols,
  sources: Sources,
  states: States,
): BoundProgram {
  const program = programNamed(loaded.plan.programs, name);
  const symbols = Object.fromEntries(program.symbols.map((symbol) => [symbol, known[symbol] ?? -1]));
  const bound = loaded.bind(name, symbols, states);
  for (const [port, { values }] of valuesFor(name, program, sources)) {
    bound.write(port.name, carriedBy(port, values));
  }
  return bound;
}

function valuesFor(name: string, program: PlanProgram, sources: Sources): ReadonlyMap<Port, Given> {
  return new Map(
    program.inputs.map((port) => {
      const source = Object.hasOwn(sources, port.name) ? sources[port.name] : undefined;
      if (source !== undefined) return [port, source(port)];
      throw new Diagnostic({
        kind: "program",
        message: `program ${name} asks for ${port.name}, which this command has no value for`,
        details: [
          `${port.name}  ${port.dtype} [${port.axes.map((axis) => axis.name).join(", ")}]`,
          `known  ${Object.keys(sources).join(", ")}`,
        ],
        fix: "rename the input in the model file to what it holds, or drive this program with soracc verify",
      });
    }),
  );
}

/** The values as the typed array that a port takes; the same array where it is one already. */
function carriedBy({ dtype }: Port, values: ArrayLike<number>): Elements {
  const isCarrier = values.constructor === newElements(dtype, 0).constructor;
  return isCarrier ? (values as Elements) : elementsFrom(dtype, values);
}

/** The state buffers that programs share, zeroed: one for each name any of them has. */
export function createStates(
  loaded: LoadedPlan,
  names: readonly string[],
  symbols: Symbols,
  known: States = new Map(),
): Map<string, DeviceBuffer> {
  const states = new Map(known);
  const values = new Map(Object.entries(symbols));
  for (const name of names) {
    for (const port of programNamed(loaded.plan.programs, name).state) {
      if (states.has(port.name)) continue;
      const elements = port.axes.reduce((count, axis) => count * evaluateSize(axis.size, values), 1);
      states.set(port.name, loaded.createState(port.name, port.dtype, elements));
    }
  }
  return states;
}
