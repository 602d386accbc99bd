/** The program that a text spells: the same interned nodes that were printed, down to their identities. */
import { Diagnostic } from "../../contract/diagnostic.ts";
import { DTYPES, type DType } from "../../contract/dtype.ts";
import { slip, type Source } from "../notation/slip.ts";
import { fromSize } from "./dim.ts";
import { parseProgramSyntax, type StatementSyntax, type TypeSyntax } from "./grammar.ts";
import { makeNode, type Edge, type Node, type Program, type TensorType } from "./node.ts";
import { resultTypes } from "./result-types.ts";
import { sameShape, type Equality } from "./shape.ts";
import { isOperationName, readOperation, SpellingError } from "./spelling.ts";

/** Reads what `printProgram` writes. Throws a `Diagnostic` of kind `graph` with a caret under the mistake. */
export function parseProgram(text: string): Program {
  const source: Source = { kind: "graph", text };
  const { name, statements } = parseProgramSyntax(source);
  const nodes = new Map<number, Node>();
  const refer = (ref: string, at: number): Edge => {
    const [number = "", result = "0"] = ref.slice(1).split(".");
    const edge = nodes.get(Number(number))?.results[Number(result)];
    if (edge === undefined) throw slip(source, at, `${ref} is not a result of an earlier line`);
    return edge;
  };
  const inputs: Edge[] = [];
  const ports = { output: new Map<string, Edge>(), next: new Map<string, Edge>() };
  const equalities: Equality[] = [];
  for (const statement of statements) {
    const { at } = statement;
    if (statement.kind === "node") nodes.set(statement.number, readNode(source, statement, refer));
    else if (statement.kind === "list" && statement.word === "inputs") {
      inputs.push(...statement.refs.map((ref) => refer(ref, at)));
    } else if (statement.kind === "named" && (statement.word === "output" || statement.word === "next")) {
      ports[statement.word].set(statement.name, refer(statement.ref, at));
    } else if (statement.kind === "equal" && statement.word === "equal") {
      const { left, right, message } = statement;
      equalities.push({ left: fromSize(left), right: fromSize(right), message });
    } else {
      throw slip(
        source,
        at,
        `\`${statement.word}\` begins no line`,
        "lines begin with %, inputs, output, next or equal",
      );
    }
  }
  return { name, inputs, outputs: ports.output, next: ports.next, equalities };
}

function readNode(
  source: Source,
  statement: StatementSyntax & { readonly kind: "node" },
  refer: (ref: string, at: number) => Edge,
): Node {
  const { operation: name, fields, at } = statement;
  if (!isOperationName(name)) throw slip(source, at, `there is no operation \`${name}\``);
  const inputs = statement.inputs.map((ref) => refer(ref, at));
  const types = statement.types.map((type) => readType(source, type, at));
  const identity = fields.keyed.get("identity");
  try {
    const operation = readOperation(name, { fields, inputs, types });
    const derived = resultTypes(operation, inputs);
    if (typeof derived === "string") throw new SpellingError(derived);
    const agrees = derived.length === types.length && derived.every((type, i) => sameType(type, types[i]!));
    if (!agrees) throw new SpellingError("the types are not those of the operation");
    return makeNode(operation, inputs, types, typeof identity === "object" && "text" in identity ? identity.text : "");
  } catch (error) {
    if (error instanceof SpellingError) throw slip(source, at, `${name}: ${error.message}`);
    if (error instanceof Diagnostic) throw slip(source, at, error.parts.message, error.parts.fix);
    throw error;
  }
}

const sameType = (a: TensorType, b: TensorType): boolean => a.dtype === b.dtype && sameShape(a.shape, b.shape);

function readType(source: Source, { dtype, axes }: TypeSyntax, at: number): TensorType {
  if (!isDType(dtype)) throw slip(source, at, `there is no type \`${dtype}\``, `the types are ${DTYPES.join(", ")}`);
  return { dtype, shape: axes.map(({ name, size }) => ({ name, size: fromSize(size) })) };
}

const isDType = (name: string): name is DType => (DTYPES as readonly string[]).includes(name);
