/**
 * Axis patterns: `"batch tokens (heads head) -> batch heads tokens head"` regroups and reorders the axes of a tensor,
 * `"b s i, o i -> b s o"` contracts tensors over the axes that the output leaves out.
 *
 *   rearrange   = axes "->" axes            contraction = names { "," names } "->" names
 *   axes        = { name | "1" | "(" name { name } ")" }
 *
 * On the left of a rearrangement each term is bound to one axis of the input by position and a group splits that axis,
 * its last name running fastest; on the right a group merges. `1` drops an axis of size one, or inserts one. Neither
 * sums nor repeats: both sides have the same names. Sizes are the caller's business.
 */
import { createToken, EmbeddedActionsParser, Lexer } from "chevrotain";
import type { IToken, ParserMethod } from "chevrotain";
import { didYouMean } from "../../contract/diagnostic.ts";
import type { Location } from "../../contract/diagnostic.ts";
import { messages, runGrammar } from "./grammar.ts";
import { slip } from "./slip.ts";
import type { Source } from "./slip.ts";

/** One axis as the names it is made of, outermost first: `[]` is the unit axis `1`, two or more are a group. */
export type AxisPattern = readonly string[];

export interface Rearrangement {
  readonly input: readonly AxisPattern[];
  readonly output: readonly AxisPattern[];
}

export interface Contraction {
  /** The axis names of each operand. */
  readonly inputs: readonly (readonly string[])[];
  readonly output: readonly string[];
}

const Space = createToken({ name: "Space", pattern: /\s+/, group: Lexer.SKIPPED });
const Name = createToken({ name: "Name", pattern: /[A-Za-z_][A-Za-z_0-9]*/, label: "a name" });
const Size = createToken({ name: "Size", pattern: /\d+/, label: "`1`" });
const Arrow = createToken({ name: "Arrow", pattern: "->", label: "`->`" });
const Comma = createToken({ name: "Comma", pattern: ",", label: "`,`" });
const Open = createToken({ name: "Open", pattern: "(", label: "`(`" });
const Close = createToken({ name: "Close", pattern: ")", label: "`)`" });
const TOKENS = [Space, Name, Size, Arrow, Comma, Open, Close];

/** A term with its tokens, so that a mistake found later has a place. */
interface Term {
  readonly names: readonly IToken[];
  readonly first: IToken;
}

interface Sides {
  readonly inputs: readonly (readonly Term[])[];
  readonly output: readonly Term[];
}

class PatternParser extends EmbeddedActionsParser {
  constructor() {
    super(TOKENS, { errorMessageProvider: messages("an axis") });
    this.performSelfAnalysis();
  }

  readonly pattern: ParserMethod<[], Sides> = this.RULE("pattern", () => {
    const inputs = [this.SUBRULE(this.axes)];
    this.MANY(() => {
      this.CONSUME(Comma);
      inputs.push(this.SUBRULE1(this.axes));
    });
    this.CONSUME(Arrow);
    return { inputs, output: this.SUBRULE2(this.axes) };
  });

  readonly axes: ParserMethod<[], readonly Term[]> = this.RULE("axes", () => {
    const terms: Term[] = [];
    this.MANY(() => terms.push(this.SUBRULE(this.term)));
    return terms;
  });

  readonly term: ParserMethod<[], Term> = this.RULE("term", () =>
    this.OR<Term>([
      {
        ALT: () => {
          const first = this.CONSUME(Name);
          return { names: [first], first };
        },
      },
      { ALT: () => ({ names: [], first: this.CONSUME(Size) }) },
      {
        ALT: () => {
          const first = this.CONSUME(Open);
          const names: IToken[] = [];
          this.AT_LEAST_ONE({ DEF: () => names.push(this.CONSUME1(Name)), ERR_MSG: "a name" });
          this.CONSUME(Close);
          return { names, first };
        },
      },
    ]),
  );
}

const HINTS = {
  foreign: { ".": "there is no ellipsis: name every axis", "*": "there is no ellipsis: name every axis" },
  unexpected: (found: IToken, _previous: IToken | undefined, message: string): string | undefined => {
    if (message.startsWith("expected an axis")) return "a pattern has one arrow and one output";
    if (found.tokenType === Open) return "a group holds names only";
    if (found.tokenType === Size) return "`1` stands outside of groups";
    if (message.startsWith("expected `)`")) return "close the group with `)`";
    return message.startsWith("expected `->`") ? "a pattern is written a b -> b a" : undefined;
  },
};

let built: { readonly lexer: Lexer; readonly parser: PatternParser } | undefined;

function parseSides(source: Source): Sides {
  built ??= { lexer: new Lexer(TOKENS, { positionTracking: "onlyOffset" }), parser: new PatternParser() };
  const sides = runGrammar(source, built.lexer, built.parser, (parser) => parser.pattern(), HINTS);
  for (const terms of [...sides.inputs, sides.output]) {
    const seen = new Set<string>();
    for (const { names, first } of terms) {
      if (first.tokenType === Size && first.image !== "1") {
        throw slip(source, first.startOffset, "a size is no axis", "name the axis; only `1` is written as a number");
      }
      for (const { image, startOffset } of names) {
        if (seen.has(image))
          throw slip(source, startOffset, `\`${image}\` stands twice on one side`, "give each axis its own name");
        seen.add(image);
      }
    }
  }
  return sides;
}

/** Reads a rearrangement. Throws a `Diagnostic` of kind `pattern` with a caret under the mistake. */
export function parsePattern(text: string, where?: Location): Rearrangement {
  const source: Source = { kind: "pattern", text, where };
  const { inputs, output } = parseSides(source);
  const [input = [], second] = inputs;
  if (second !== undefined) {
    throw slip(source, text.indexOf(","), "a rearrangement has one input", "separate axes by blanks");
  }
  sameNames(source, input, output, "right");
  sameNames(source, output, input, "left");
  return { input: input.map(namesOf), output: output.map(namesOf) };
}

/** Reads a contraction. Throws a `Diagnostic` of kind `pattern` with a caret under the mistake. */
export function parseContraction(text: string, where?: Location): Contraction {
  const source: Source = { kind: "pattern", text, where };
  const { inputs, output } = parseSides(source);
  const grouped = [...inputs, output].flat().find(({ first }) => first.tokenType !== Name);
  if (grouped !== undefined) {
    throw slip(source, grouped.first.startOffset, "a contraction has plain names only", "rearrange before or after it");
  }
  const uses = new Map<string, number>();
  for (const term of inputs.flat()) uses.set(nameOf(term), (uses.get(nameOf(term)) ?? 0) + 1);
  for (const term of output) {
    const name = nameOf(term);
    if (!uses.has(name)) throw unknown(source, term.first, `\`${name}\` comes from no input`, [...uses.keys()]);
  }
  const kept = new Set(output.map(nameOf));
  for (const term of inputs.flat()) {
    if (uses.get(nameOf(term)) === 1 && !kept.has(nameOf(term))) {
      const message = `\`${nameOf(term)}\` meets no other operand and is not in the output`;
      throw slip(source, term.first.startOffset, message, "a contraction does not sum one operand: reduce it before");
    }
  }
  return { inputs: inputs.map((terms) => terms.map(nameOf)), output: output.map(nameOf) };
}

const namesOf = ({ names }: Term): AxisPattern => names.map(({ image }) => image);
const nameOf = ({ first }: Term): string => first.image;

function sameNames(source: Source, from: readonly Term[], to: readonly Term[], side: string): void {
  const present = new Set(to.flatMap(namesOf));
  const here = new Set(from.flatMap(namesOf));
  for (const token of from.flatMap(({ names }) => names)) {
    if (present.has(token.image)) continue;
    const candidates = [...present].filter((name) => !here.has(name));
    throw unknown(source, token, `\`${token.image}\` is missing on the ${side}`, candidates);
  }
}

function unknown(source: Source, token: IToken, message: string, candidates: readonly string[]): Error {
  const near = token.image.length > 2 ? didYouMean(token.image, candidates) : undefined;
  const both = "both sides of a rearrangement have the same names";
  const fix = near !== undefined ? `did you mean \`${near}\`?` : message.includes("missing") ? both : undefined;
  return slip(source, token.startOffset, message, fix);
}

/** The pattern in its shortest spelling; reading it back gives an equal one. */
export const printPattern = ({ input, output }: Rearrangement): string =>
  `${printAxes(input)} -> ${printAxes(output)}`.trim();

export const printContraction = ({ inputs, output }: Contraction): string =>
  `${inputs.map((names) => names.join(" ")).join(", ")} -> ${output.join(" ")}`.trim();

const printAxes = (axes: readonly AxisPattern[]): string => axes.map(printAxis).join(" ");

function printAxis(names: AxisPattern): string {
  if (names.length === 0) return "1";
  return names.length === 1 ? names[0]! : `(${names.join(" ")})`;
}
