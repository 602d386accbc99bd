/**
 * The grammar of a kernel's text: lines of one word and its fields (`notation/fields.ts`).
 *
 *   kernel = { word { field } newline }
 */
import { createToken, Lexer } from "chevrotain";
import { FIELD_TOKENS, FieldParser, Word, type Fields, type Rule } from "../notation/fields.ts";
import { messages, runGrammar } from "../notation/grammar.ts";
import type { Source } from "../notation/slip.ts";

export interface Line extends Fields {
  readonly word: string;
  readonly at: number;
}

const Blank = createToken({ name: "Blank", pattern: /[ \t\r]+/, group: Lexer.SKIPPED });
const Newline = createToken({ name: "Newline", pattern: /\n\s*/, label: "the end of the line", line_breaks: true });
const TOKENS = [Blank, Newline, ...FIELD_TOKENS];

class KernelParser extends FieldParser {
  constructor() {
    super(TOKENS, messages("a line"));
    this.performSelfAnalysis();
  }

  readonly lines: Rule<readonly Line[]> = this.RULE("lines", () => {
    const lines: Line[] = [];
    this.MANY(() => {
      const { image: word, startOffset: at } = this.CONSUME(Word);
      const fields = this.SUBRULE(this.fields);
      this.CONSUME(Newline);
      lines.push({ word, at, ...fields });
    });
    return lines;
  });
}

let built: { readonly lexer: Lexer; readonly parser: KernelParser } | undefined;

/** Throws a `Diagnostic` that points at the first mistake. */
export function parseLines(source: Source): readonly Line[] {
  built ??= { lexer: new Lexer(TOKENS, { positionTracking: "onlyOffset" }), parser: new KernelParser() };
  return runGrammar(source, built.lexer, built.parser, (parser) => parser.lines(), {
    foreign: {},
    unexpected: () => undefined,
  });
}
