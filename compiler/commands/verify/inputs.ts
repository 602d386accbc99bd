/** Which values does a program get from a recording? Its inputs by name, and the sizes that its symbols then have. */
import { Diagnostic } from "../../../contract/diagnostic.ts";
import { evaluateSize } from "../../../contract/size.ts";
import { printDim, symbolsOf, toSize } from "../../graph/dim.ts";
import type { Edge, Program } from "../../graph/node.ts";
import { printShape } from "../../graph/shape.ts";
import type { RecordedTensor } from "./recording.ts";

export interface BoundInputs {
  readonly values: Map<string, ArrayLike<number>>;
  readonly symbols: ReadonlyMap<string, number>;
}

export interface InputSource {
  /** Whose inputs these are, for messages. */
  readonly file: string;
  readonly program: string;
  /** Everything that can be given, by the names of the program's inputs. */
  readonly tensors: ReadonlyMap<string, RecordedTensor>;
  /** 0/1 masks, which may be left out: then all tokens exist. */
  readonly masks: ReadonlySet<string>;
}

/**
 * Errors: an input that is missing or that the program does not have, a wrong shape, sizes that contradict each other,
 * a mask that is no prefix.
 */
export function bindInputs(program: Program, source: InputSource): BoundInputs {
  const inputs = new Map(program.inputs.map((edge) => [inputName(edge), edge]));
  for (const name of source.tensors.keys()) {
    if (!inputs.has(name)) throw unknownInput(name, [...inputs.keys()], source);
  }
  const symbols = new Map<string, number>();
  for (const [name, edge] of inputs) {
    const tensor = source.tensors.get(name);
    if (tensor !== undefined) bindSymbols(name, edge, tensor, symbols, source);
  }
  checkSizes(inputs, symbols, source);
  for (const { left, right, message } of program.equalities) {
    const [a, b] = [left, right].map((dim) => evaluateSize(toSize(dim), symbols));
    if (a === b) continue;
    throw mistake(
      source,
      `${message}: ${printDim(left)} is ${a!}, ${printDim(right)} is ${b!}`,
      "record sizes that fit",
    );
  }
  const values = new Map<string, ArrayLike<number>>();
  for (const [name, edge] of inputs) {
    const tensor = source.tensors.get(name);
    if (tensor !== undefined) {
      if (source.masks.has(name)) checkMask(name, tensor, source);
      if (edge.dtype === "i32" || edge.dtype === "u32") checkWhole(name, tensor, source);
      values.set(name, tensor.data);
    } else if (source.masks.has(name)) {
      const elements = edge.shape.reduce((total, axis) => total * evaluateSize(toSize(axis.size), symbols), 1);
      values.set(name, new Float64Array(elements).fill(1));
    } else {
      throw mistake(
        source,
        `there is no input "${name}" ${printShape(edge.shape)}`,
        `record it as ${source.program}.in.${name}`,
      );
    }
  }
  return { values, symbols };
}

export function inputName(edge: Edge): string {
  const { operation } = edge.node;
  return operation.op === "input" ? operation.name : "";
}

function bindSymbols(
  name: string,
  edge: Edge,
  { shape }: RecordedTensor,
  symbols: Map<string, number>,
  source: InputSource,
): void {
  if (shape.length !== edge.shape.length) throw wrongShape(name, edge, shape, source);
  edge.shape.forEach((axis, i) => {
    const size = toSize(axis.size);
    if (typeof size !== "string") return;
    const known = symbols.get(size);
    if (known === undefined) symbols.set(size, shape[i]!);
    else if (known !== shape[i]) {
      const found = `"${name}" is recorded as [${shape.join(", ")}], and ${size} is ${known} in another input`;
      throw mistake(source, found, "record all inputs of a program from one run");
    }
  });
}

function checkSizes(
  inputs: ReadonlyMap<string, Edge>,
  symbols: ReadonlyMap<string, number>,
  source: InputSource,
): void {
  for (const [name, edge] of inputs) {
    const tensor = source.tensors.get(name);
    edge.shape.forEach((axis, i) => {
      const open = symbolsOf(axis.size).find((each) => !symbols.has(each));
      if (open !== undefined) throw mistake(source, `no input tells the size of "${open}"`, `record "${name}"`);
      const size = evaluateSize(toSize(axis.size), symbols);
      if (tensor !== undefined && tensor.shape[i] !== size) throw wrongShape(name, edge, tensor.shape, source);
    });
  }
}

function checkMask(name: string, { shape, data }: RecordedTensor, source: InputSource): void {
  const length = shape.at(-1) ?? 1;
  const wrong = data.findIndex((value, i) => {
    if (value !== 0 && value !== 1) return true;
    return i % length > 0 && value === 1 && data[i - 1] === 0;
  });
  if (wrong < 0) return;
  const [row, column] = [Math.floor(wrong / length), wrong % length];
  throw mistake(
    source,
    `mask "${name}" is not ones, then zeros: row ${row} has ${data[wrong]!} at position ${column}`,
    "move the padding to the end of each sample",
  );
}

function checkWhole(name: string, { data }: RecordedTensor, source: InputSource): void {
  const wrong = data.find((value) => !Number.isInteger(value));
  if (wrong !== undefined) {
    throw mistake(source, `"${name}" holds ${wrong}, and the program takes whole numbers`, "record it as I32");
  }
}

const wrongShape = (name: string, edge: Edge, shape: readonly number[], source: InputSource): Diagnostic =>
  mistake(
    source,
    `"${name}" is recorded as [${shape.join(", ")}], and the model takes ${printShape(edge.shape)}`,
    "record it in this shape, or correct `config` in the metadata",
  );

const unknownInput = (name: string, known: readonly string[], source: InputSource): Diagnostic =>
  mistake(source, `the program has no input "${name}"`, `its inputs are ${known.join(", ")}`);

const mistake = ({ file, program }: InputSource, message: string, fix: string): Diagnostic =>
  new Diagnostic({ kind: "recording", message: `${program}: ${message}`, where: { file }, fix });
