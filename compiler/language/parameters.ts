/**
 * Parameters: declared while a model is set up, all of them before any program is traced. Then each has its place in
 * one flat float32 arena, in the order of declaration, and a program reads it from there.
 */
import { CompilerBug, Diagnostic } from "../../contract/diagnostic.ts";
import { input, parameter as parameterEdge } from "../ops/source.ts";
import { currentOrigin, withOrigin, type Origin } from "../graph/origin.ts";
import { constant, staticValue } from "../graph/dim.ts";
import type { Edge } from "../graph/node.ts";
import { elementsOf, type Shape } from "../graph/shape.ts";
import { entered, within } from "./place.ts";
import { Tensor } from "./tensor.ts";

/** How a parameter starts. Bounds and deviations are in the parameter's own unit. */
export type Initialiser =
  | { readonly kind: "constant"; readonly value: number }
  /** Uniform in [-bound, bound]. */
  | { readonly kind: "uniform"; readonly bound: number }
  /** Normal around 0. */
  | { readonly kind: "normal"; readonly deviation: number };

export interface Parameter {
  /** The PyTorch name: `blocks.0.attn.to_q.weight`. */
  readonly name: string;
  readonly shape: Shape;
  readonly initialiser: Initialiser;
  readonly origin: Origin;
}

export interface PlacedParameter extends Parameter {
  /** Where it begins in the arena, in elements. */
  readonly offset: number;
  readonly elements: number;
}

/** All parameters of a model, in the order of declaration, and the length of the arena that holds them. */
export interface ParameterLayout {
  readonly parameters: readonly PlacedParameter[];
  readonly elements: number;
}

let declared: Map<string, Parameter> | undefined;
/** The arena that the program being traced reads parameters from. */
let arena: Edge | undefined;

/** Runs the set-up of a model and collects what it declares. */
export function declareParameters<T>(setUp: () => T): { readonly result: T; readonly layout: ParameterLayout } {
  const outer = declared;
  const collected = new Map<string, Parameter>();
  declared = collected;
  try {
    const result = setUp();
    let offset = 0;
    const parameters = [...collected.values()].map((each) => {
      const elements = staticValue(elementsOf(each.shape)) ?? 0;
      const placed = { ...each, offset, elements };
      places.set(each, placed);
      offset += elements;
      return placed;
    });
    return { result, layout: { parameters, elements: offset } };
  } finally {
    declared = outer;
  }
}

/** Where a declared parameter came to lie. */
const places = new WeakMap<Parameter, PlacedParameter>();

/** The arena input of a layout: the programs' state under this name. */
export const arenaInput = (name: string, layout: ParameterLayout): Edge =>
  input(name, "f32", [{ name: "parameter", size: constant(layout.elements) }], "state");

/** Runs `body` where parameters are read from `edge`. */
export function readingFrom<T>(edge: Edge, body: () => T): T {
  const outer = arena;
  arena = edge;
  try {
    return body();
  } finally {
    arena = outer;
  }
}

/**
 * Declares a parameter under the name of the component that is being set up. The result is called where the parameter
 * is used: `const scale = parameter("scale", { width: 64 }, ones); … x.mul(scale())`.
 * Errors: a name given twice, a size that is no number, a declaration outside of set-up.
 */
export function parameter(
  name: string,
  sizes: Readonly<Record<string, number>>,
  initialiser: Initialiser,
): () => Tensor {
  return entered("parameter", () => {
    const origin = currentOrigin();
    const full = within(name);
    if (declared === undefined) throw declaredTooLate(full);
    if (declared.has(full)) throw declaredTwice(full, declared.get(full));
    for (const [axis, size] of Object.entries(sizes)) {
      if (!Number.isInteger(size) || size < 1) throw wrongSize(full, axis, size);
    }
    const shape = Object.entries(sizes).map(([axis, size]) => ({ name: axis, size: constant(size) }));
    const made: Parameter = Object.freeze({ name: full, shape, initialiser, origin });
    declared.set(full, made);
    return () => readParameter(made);
  });
}

function readParameter(made: Parameter): Tensor {
  const placed = places.get(made);
  if (placed !== undefined && arena !== undefined) return tensorOf(placed);
  throw new Diagnostic({
    kind: "parameter",
    message: `parameter "${made.name}" is used while the model is set up`,
    where: made.origin.locate(),
    fix: "use it inside the function that the component returns: that is what programs run",
  });
}

/** The tensor of a placed parameter in the arena that is being read. */
export function tensorOf(placed: PlacedParameter): Tensor {
  if (arena === undefined) throw new CompilerBug("language", `${placed.name} is read outside of a program`);
  const edge = arena;
  return new Tensor(withOrigin(placed.origin, () => parameterEdge(edge, placed.name, placed.offset, placed.shape)));
}

function declaredTooLate(name: string): Diagnostic {
  return new Diagnostic({
    kind: "parameter",
    message:
      arena === undefined
        ? `parameter "${name}" is declared outside of a model`
        : `parameter "${name}" is declared while a program runs`,
    fix:
      arena === undefined
        ? "declare layers inside a component, or in `programs` of the model"
        : "declare layers in the outer part of a component, before the function it returns",
  });
}

function declaredTwice(name: string, before: Parameter | undefined): Diagnostic {
  const line = before?.origin.locate()?.line;
  return new Diagnostic({
    kind: "parameter",
    message: `the name "${name}" is given to two parameters`,
    details: line === undefined ? [] : [`the first is declared in line ${line}`],
    fix: "give the layers different names",
  });
}

function wrongSize(name: string, axis: string, size: number): Diagnostic {
  return new Diagnostic({
    kind: "parameter",
    message: `axis "${axis}" of parameter "${name}" has size ${size}`,
    fix: "sizes of parameters are whole numbers of at least 1",
  });
}
