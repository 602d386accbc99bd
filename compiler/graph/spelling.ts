/**
 * How the fields of every operation are written in the textual form, and read again: one table for printer and parser.
 * What the types of the results say already (shapes, axis names, element types) is not repeated.
 */
import { staticValue, fromSize, printDim, type Dim } from "./dim.ts";
import { registerOf, type ScalarType } from "../../contract/dtype.ts";
import { printList, printName, printNumber, type Fields, type Value } from "../notation/fields.ts";
import { parseFormula, printFormula } from "../notation/formula.ts";
import type { AttentionFacts, Edge, Operation, OperationName, OperationOf, TensorType } from "./node.ts";

export interface Written {
  readonly fields: Fields;
  readonly inputs: readonly Edge[];
  readonly types: readonly TensorType[];
}

interface Spelling<Name extends OperationName> {
  readonly print: (operation: OperationOf<Name>) => string;
  readonly read: (written: Written) => OperationOf<Name>;
}

export const printDims = (dims: readonly Dim[]): string => printList(dims, printDim);

/** A field that is missing, or of another kind than the operation wants. */
export class SpellingError extends Error {}

export function readText(value: Value | undefined, what: string): string {
  if (typeof value === "string") return value;
  if (typeof value === "object" && "text" in value) return value.text;
  throw new SpellingError(`${what} is missing, or no name`);
}

export function readDim(value: Value | undefined, what: string): Dim {
  if (value === undefined || (typeof value === "object" && ("text" in value || "list" in value))) {
    throw new SpellingError(`${what} is missing, or no size`);
  }
  return fromSize(value);
}

export function readNumber(value: Value | undefined, what: string): number {
  const number = typeof value === "number" ? value : staticValue(readDim(value, what));
  if (number === undefined) throw new SpellingError(`${what} is no number`);
  return number;
}

export function readList<Item>(
  value: Value | undefined,
  what: string,
  read: (item: Value, what: string) => Item,
): Item[] {
  if (typeof value !== "object" || !("list" in value)) throw new SpellingError(`${what} is missing, or no list`);
  return value.list.map((item) => read(item, what));
}

const keyed = ({ fields }: Written, key: string): Value | undefined => fields.keyed.get(key);
const readNames = (written: Written, key: string): string[] => readList(keyed(written, key), key, readText);
const readDims = (written: Written, key: string): Dim[] => readList(keyed(written, key), key, readDim);
const readNumbers = (written: Written, key: string): number[] => readList(keyed(written, key), key, readNumber);

function typeOf({ types }: Written): TensorType {
  const [type] = types;
  if (type === undefined) throw new SpellingError("a type is missing");
  return type;
}

export function oneOf<Choice extends string>(value: Value | undefined, choices: readonly Choice[]): Choice {
  const found = choices.find((choice) => choice === value);
  if (found === undefined) throw new SpellingError(`one of ${choices.join(", ")} is missing`);
  return found;
}

const printFacts = (facts: AttentionFacts): string => {
  const names = (["heads", "queries", "keys", "head"] as const).map((key) => `${key}=${printName(facts[key])}`);
  const causal = facts.causal ? " causal" : "";
  return `${names.join(" ")} scale=${printNumber(facts.scale)} segments=${printDims(facts.segments)}${causal}`;
};

const readFacts = (written: Written): AttentionFacts => ({
  heads: readText(keyed(written, "heads"), "heads"),
  queries: readText(keyed(written, "queries"), "queries"),
  keys: readText(keyed(written, "keys"), "keys"),
  head: readText(keyed(written, "head"), "head"),
  scale: readNumber(keyed(written, "scale"), "scale"),
  causal: written.fields.plain.includes("causal"),
  segments: readDims(written, "segments"),
});

const readAxis = (written: Written): string => readText(keyed(written, "axis"), "axis");
const axisNames = (written: Written): string[] => typeOf(written).shape.map((axis) => axis.name);

const SPELLINGS: { readonly [Name in OperationName]: Spelling<Name> } = {
  input: {
    print: ({ name, role }) => `${JSON.stringify(name)} ${role}`,
    read: (written) => {
      const [name, role] = written.fields.plain;
      const type = typeOf(written);
      return { op: "input", name: readText(name, "the name"), role: oneOf(role, ["given", "state"]), type };
    },
  },
  parameter: {
    print: ({ name, offset }) => `${JSON.stringify(name)} offset=${String(offset)}`,
    read: (written) => ({
      op: "parameter",
      name: readText(written.fields.plain[0], "the name"),
      offset: readNumber(keyed(written, "offset"), "offset"),
      shape: typeOf(written).shape,
    }),
  },
  constant: {
    print: ({ values }) => printList(values, printNumber),
    read: (written) => ({
      op: "constant",
      type: typeOf(written),
      values: readList(written.fields.plain[0], "the table", readNumber),
    }),
  },
  index: {
    print: () => "",
    read: (written) => {
      const [axis] = typeOf(written).shape;
      if (axis === undefined) throw new SpellingError("the axis is missing");
      return { op: "index", axis };
    },
  },
  size: {
    print: ({ size }) => `of=${printDim(size)}`,
    read: (written) => ({ op: "size", size: readDim(keyed(written, "of"), "of"), dtype: typeOf(written).dtype }),
  },
  random: {
    print: ({ distribution, path }) => `${distribution} ${JSON.stringify(path)}`,
    read: (written) => {
      const [distribution, path] = written.fields.plain;
      const { shape } = typeOf(written);
      return {
        op: "random",
        distribution: oneOf(distribution, ["uniform", "normal"]),
        path: readText(path, "the path"),
        shape,
      };
    },
  },
  pointwise: {
    print: ({ expression }) => JSON.stringify(printFormula(expression)),
    read: (written) => {
      const types: Record<string, ScalarType> = {};
      written.inputs.forEach((edge, i) => (types[`x${String(i)}`] = registerOf(edge.dtype)));
      const expression = parseFormula(readText(written.fields.plain[0], "the formula"), types);
      return { op: "pointwise", expression, dtype: typeOf(written).dtype };
    },
  },
  reduce: {
    print: ({ operation, axes }) => `${operation} axes=${printList(axes, printName)}`,
    read: (written) => ({
      op: "reduce",
      operation: oneOf(written.fields.plain[0], ["sum", "max", "min"]),
      axes: readNames(written, "axes"),
    }),
  },
  expand: { print: () => "", read: (written) => ({ op: "expand", shape: typeOf(written).shape }) },
  contract: {
    print: ({ left, right, result }) =>
      `left=${printList(left, String)} right=${printList(right, String)} result=${printList(result, String)}`,
    read: (written) => ({
      op: "contract",
      left: readNumbers(written, "left"),
      right: readNumbers(written, "right"),
      result: readNumbers(written, "result"),
      names: axisNames(written),
    }),
  },
  attention: { print: printFacts, read: (written) => ({ op: "attention", ...readFacts(written) }) },
  attentionGradient: { print: printFacts, read: (written) => ({ op: "attentionGradient", ...readFacts(written) }) },
  gather: {
    print: ({ axis }) => `axis=${printName(axis)}`,
    read: (written) => ({ op: "gather", axis: readAxis(written) }),
  },
  rearrange: {
    print: ({ split, groups }) =>
      `split=${printList(split, printDims)} groups=${printList(groups, (group) => printList(group, String))}`,
    read: (written) => ({
      op: "rearrange",
      split: readList(keyed(written, "split"), "split", (parts, what) => readList(parts, what, readDim)),
      groups: readList(keyed(written, "groups"), "groups", (group, what) => readList(group, what, readNumber)),
      names: axisNames(written),
    }),
  },
  slice: {
    print: ({ axis, start, size }) => `axis=${printName(axis)} start=${printDim(start)} size=${printDim(size)}`,
    read: (written) => ({
      op: "slice",
      axis: readAxis(written),
      start: readDim(keyed(written, "start"), "start"),
      size: readDim(keyed(written, "size"), "size"),
    }),
  },
  split: {
    print: ({ axis, sizes }) => `axis=${printName(axis)} sizes=${printDims(sizes)}`,
    read: (written) => ({ op: "split", axis: readAxis(written), sizes: readDims(written, "sizes") }),
  },
  concat: {
    print: ({ axis }) => `axis=${printName(axis)}`,
    read: (written) => ({ op: "concat", axis: readAxis(written) }),
  },
  pad: {
    print: ({ axis, before, after }) => `axis=${printName(axis)} before=${printDim(before)} after=${printDim(after)}`,
    read: (written) => ({
      op: "pad",
      axis: readAxis(written),
      before: readDim(keyed(written, "before"), "before"),
      after: readDim(keyed(written, "after"), "after"),
    }),
  },
  cast: { print: () => "", read: (written) => ({ op: "cast", dtype: typeOf(written).dtype }) },
  stopGradient: { print: () => "", read: () => ({ op: "stopGradient" }) },
};

export const isOperationName = (name: string): name is OperationName => Object.hasOwn(SPELLINGS, name);

/** The fields of an operation as text; empty when its types say everything. */
export function printFields(operation: Operation): string {
  const spelling = SPELLINGS[operation.op] as unknown as { readonly print: (operation: Operation) => string };
  return spelling.print(operation);
}

/** The operation that fields spell. Throws a `SpellingError` for what is missing, a `Diagnostic` for a wrong formula. */
export const readOperation = (name: OperationName, written: Written): Operation => SPELLINGS[name].read(written);
