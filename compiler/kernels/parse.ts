/** The kernel that a text spells. */
import { Diagnostic } from "../../contract/diagnostic.ts";
import { DTYPES, type ScalarType } from "../../contract/dtype.ts";
import { oneOf, readDim, readList, readNumber, readText, SpellingError } from "../graph/spelling.ts";
import type { Expression } from "../notation/expression.ts";
import type { Value } from "../notation/fields.ts";
import { parseFormula } from "../notation/formula.ts";
import { slip, type Source } from "../notation/slip.ts";
import { parseLines, type Line } from "./grammar.ts";
import type { Access, Axis, ContractRole, Kernel, KernelMask, Lookup, Operand, Reduction, Store } from "./kernel.ts";
import { ATTENTION_PARTS } from "./print.ts";
import { accumulatorTypes, commonTypes, reductionTypes, type Types } from "./scope.ts";

const SCALARS: readonly ScalarType[] = ["f64", "f32", "i32", "u32", "bool"];
const ROLES: readonly ContractRole[] = ["batch", "m", "n", "k"];

/** Runs `read` on a line; what is missing in it is a mistake at its place. */
type Reading = <Result>(line: Line, read: (line: Line) => Result) => Result;

interface Draft {
  readonly lines: (word: string) => readonly Line[];
  readonly line: (word: string) => Line;
  readonly at: Reading;
  readonly axes: readonly Axis[];
  readonly types: Types;
  readonly common: Pick<Kernel, "name" | "formula" | "operands" | "scalars" | "symbols" | "axes" | "accesses">;
}

/** Reads what `printKernel` writes. Throws a `Diagnostic` of kind `kernel` with a caret under the mistake. */
export function parseKernel(text: string): Kernel {
  const source: Source = { kind: "kernel", text };
  const all = parseLines(source);
  const at: Reading = (line, read) => {
    try {
      return read(line);
    } catch (error) {
      if (error instanceof SpellingError) throw slip(source, line.at, `${line.word}: ${error.message}`);
      if (error instanceof Diagnostic) throw slip(source, line.at, error.parts.message, error.parts.fix);
      throw error;
    }
  };
  const lines = (word: string): readonly Line[] => all.filter((line) => line.word === word);
  const line = (word: string): Line => {
    const [found] = lines(word);
    if (found === undefined) throw slip(source, 0, `there is no line \`${word}\``);
    return found;
  };
  const stray = all.find(({ word }) => !WORDS.has(word));
  if (stray !== undefined) throw slip(source, stray.at, `\`${stray.word}\` begins no line of a kernel`);
  return at(line("kernel"), ({ plain: [anchor, name, formula] }) => {
    const operands = all.filter(({ word }) => word === "read" || word === "write").map((each) => at(each, readOperand));
    const axes = lines("axis").map((each) => at(each, readAxis));
    const scalars = at(line("scalars"), ({ plain: [list] }) =>
      readList(list, "the types", (type) => oneOf(type, SCALARS)),
    );
    const accessed = lines("access").map((each) => ({ operand: at(each, operandOf(operands)) }));
    const types = commonTypes({ operands, scalars, axes, accesses: accessed });
    const accesses = lines("access").map((each) => at(each, readAccess(operands, types)));
    const symbols = at(line("symbols"), ({ plain: [list] }) => readList(list, "the symbols", readText));
    const common = {
      name: readText(name, "the name"),
      formula: readText(formula, "the formula"),
      operands,
      scalars,
      symbols,
    };
    const draft: Draft = { lines, line, at, axes, types, common: { ...common, axes, accesses } };
    return ANCHORS[oneOf(anchor, ANCHOR_NAMES)](draft);
  });
}

const WORDS: ReadonlySet<string> = new Set(
  "kernel symbols scalars read write axis access reduce left right store parts mask segment".split(" "),
);

const readOperand = ({ word, plain: [name, dtype] }: Line): Operand => ({
  name: readText(name, "the name"),
  dtype: oneOf(dtype, DTYPES),
  role: word === "write" ? "write" : "read",
});

const readAxis = ({ plain: [name], keyed }: Line): Axis => ({
  name: readText(name, "the name"),
  size: readDim(keyed.get("size"), "size"),
});

const operandOf =
  (operands: readonly Operand[]) =>
  ({ plain: [, name] }: Line): number => {
    const wanted = readText(name, "the operand");
    const found = operands.findIndex((operand) => operand.name === wanted);
    if (found < 0) throw new SpellingError(`there is no operand ${wanted}`);
    return found;
  };

const readExpression = (value: Value | undefined, types: Types): Expression =>
  parseFormula(readText(value, "the formula"), types);

const readAccess =
  (operands: readonly Operand[], types: Types) =>
  (line: Line): Access => {
    const guard = line.keyed.get("guard");
    const lookups = line.keyed.get("lookups") ?? { list: [] };
    return {
      operand: operandOf(operands)(line),
      strides: readList(line.keyed.get("strides"), "strides", readDim),
      lookups: readList(lookups, "lookups", (each): Lookup => {
        const [stride, index] = readList(each, "a lookup", (part) => part);
        return { stride: readDim(stride, "the stride"), index: readExpression(index, types) };
      }),
      ...(guard === undefined ? {} : { guard: readExpression(guard, types) }),
    };
  };

/** `a7` to 7. */
function readPosition(value: Value | undefined): number {
  const [, digits] = /^a(\d+)$/.exec(readText(value, "an access")) ?? [];
  if (digits === undefined) throw new SpellingError("an access is a and its number");
  return Number(digits);
}

const readStores = ({ lines, at }: Draft, types: Types): Store[] =>
  lines("store").map((line) =>
    at(line, ({ plain: [access, value] }) => ({ access: readPosition(access), value: readExpression(value, types) })),
  );

const readReduction =
  (types: Types) =>
  ({ plain: [, operation, value] }: Line): Reduction => ({
    operation: oneOf(operation, ["sum", "max", "min"]),
    value: readExpression(value, types),
  });

function readRows(draft: Draft): Kernel {
  const stages: Reduction[][] = [];
  let types = draft.types;
  for (const line of draft.lines("reduce")) {
    const stage = draft.at(line, ({ keyed }) => readNumber(keyed.get("stage"), "stage"));
    // A stage sees the results of those before it: its own are declared once it is over.
    if (stage >= stages.length) {
      types = { ...types, ...reductionTypes(stages.flat()) };
      stages.push([]);
    }
    stages.at(-1)?.push(draft.at(line, readReduction(types)));
  }
  return {
    anchor: "rows",
    ...draft.common,
    outer: draft.lines("axis").filter(({ plain }) => plain.includes("outer")).length,
    stages,
    stores: readStores(draft, { ...types, ...reductionTypes(stages.flat()) }),
    perRow: draft.lines("store").map(({ plain }) => plain.includes("row")),
  };
}

function readColumns(draft: Draft): Kernel {
  const reductions = draft.lines("reduce").map((line) => draft.at(line, readReduction(draft.types)));
  return {
    anchor: "columns",
    ...draft.common,
    reduced: draft.lines("axis").map(({ plain }) => plain.includes("reduced")),
    reductions,
    stores: readStores(draft, { ...draft.types, ...reductionTypes(reductions) }),
  };
}

function readContract(draft: Draft): Kernel {
  const factor = (word: string): Expression =>
    draft.at(draft.line(word), ({ plain: [value] }) => readExpression(value, draft.types));
  const [left, right] = [factor("left"), factor("right")];
  return {
    anchor: "contract",
    ...draft.common,
    roles: draft.lines("axis").map((line) => draft.at(line, ({ plain: [, role] }) => oneOf(role, ROLES))),
    left,
    right,
    stores: readStores(draft, { ...draft.types, ...accumulatorTypes(left, right) }),
  };
}

function readAttention<Anchor extends keyof typeof ATTENTION_PARTS>(draft: Draft, anchor: Anchor): Kernel {
  type Part = (typeof ATTENTION_PARTS)[Anchor][number];
  const positions = draft.at(draft.line("parts"), ({ keyed }) =>
    Object.fromEntries(ATTENTION_PARTS[anchor].map((part) => [part, readPosition(keyed.get(part))])),
  ) as Readonly<Record<Part, number>>;
  const [scale, causal] = draft.at(
    draft.line("mask"),
    ({ plain, keyed }) => [readNumber(keyed.get("scale"), "scale"), plain.includes("causal")] as const,
  );
  const segments = draft.lines("segment").map((line) =>
    draft.at(line, ({ keyed }) => ({
      extent: readDim(keyed.get("extent"), "extent"),
      lengths: readPosition(keyed.get("lengths")),
    })),
  );
  const mask: KernelMask = { causal, segments };
  // The parts are those of the anchor, by the table they were read with.
  return { anchor, ...draft.common, scale, mask, ...positions } as unknown as Kernel;
}

const ANCHORS: Readonly<Record<Kernel["anchor"], (draft: Draft) => Kernel>> = {
  map: (draft) => ({ anchor: "map", ...draft.common, stores: readStores(draft, draft.types) }),
  rows: readRows,
  columns: readColumns,
  contract: readContract,
  attention: (draft) => readAttention(draft, "attention"),
  attentionGradient: (draft) => readAttention(draft, "attentionGradient"),
};
const ANCHOR_NAMES = Object.keys(ANCHORS) as readonly Kernel["anchor"][];
