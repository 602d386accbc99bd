/**
 * The grammar of a program's text, to plain records; `parse.ts` makes nodes of them. Fields and sizes are those of
 * `notation/fields.ts`.
 *
 *   program   = "program" text { statement }
 *   statement = ref "=" word [ "(" ref { "," ref } ")" ] { field } ":" type { "," type }
 *             | word { ref } | word text "=" ref | word size "=" size text
 *   type      = word "[" [ axis { "," axis } ] "]"      axis = ( word | text ) [ "=" size ]
 */
import { Lexer } from "chevrotain";
import type { Size } from "../../contract/size.ts";
import {
  Begin,
  Binds,
  Close,
  Colon,
  Comma,
  End,
  FIELD_TOKENS,
  FieldParser,
  Open,
  Ref,
  Space,
  Text,
  unquote,
  Word,
  type Fields,
  type Rule,
} from "../notation/fields.ts";
import { messages, runGrammar } from "../notation/grammar.ts";
import { slip, type Source } from "../notation/slip.ts";

export interface AxisSyntax {
  readonly name: string;
  readonly size: Size;
}
export interface TypeSyntax {
  readonly dtype: string;
  readonly axes: readonly AxisSyntax[];
}
export type StatementSyntax = { readonly at: number } & (
  | {
      readonly kind: "node";
      readonly number: number;
      readonly operation: string;
      readonly inputs: readonly string[];
      readonly fields: Fields;
      readonly types: readonly TypeSyntax[];
    }
  | { readonly kind: "list"; readonly word: string; readonly refs: readonly string[] }
  | { readonly kind: "named"; readonly word: string; readonly name: string; readonly ref: string }
  | {
      readonly kind: "equal";
      readonly word: string;
      readonly left: Size;
      readonly right: Size;
      readonly message: string;
    }
);
export interface ProgramSyntax {
  readonly name: string;
  readonly statements: readonly StatementSyntax[];
}

const TOKENS = [Space, ...FIELD_TOKENS];

class ProgramParser extends FieldParser {
  constructor() {
    super(TOKENS, messages("a node or an output"));
    this.performSelfAnalysis();
  }

  readonly program: Rule<ProgramSyntax> = this.RULE("program", () => {
    const statements: StatementSyntax[] = [];
    this.CONSUME(Word);
    const name = unquote(this.CONSUME(Text));
    this.MANY(() =>
      statements.push(this.OR([{ ALT: () => this.SUBRULE(this.node) }, { ALT: () => this.SUBRULE(this.port) }])),
    );
    return { name, statements };
  });

  readonly node: Rule<StatementSyntax> = this.RULE("node", () => {
    const inputs: string[] = [];
    const types: TypeSyntax[] = [];
    const { image, startOffset } = this.CONSUME(Ref);
    this.CONSUME(Binds);
    const operation = this.CONSUME(Word).image;
    this.OPTION(() => {
      this.CONSUME(Open);
      this.AT_LEAST_ONE_SEP({ SEP: Comma, DEF: () => inputs.push(this.CONSUME1(Ref).image) });
      this.CONSUME(Close);
    });
    const fields = this.SUBRULE(this.fields);
    this.CONSUME(Colon);
    this.AT_LEAST_ONE_SEP1({ SEP: Comma, DEF: () => types.push(this.SUBRULE(this.type)) });
    const kind = "node" as const;
    return { kind, number: Number(image.slice(1)), operation, inputs, fields, types, at: startOffset };
  });

  readonly port: Rule<StatementSyntax> = this.RULE("port", () => {
    const { image: word, startOffset: at } = this.CONSUME(Word);
    return this.OR<StatementSyntax>([
      {
        ALT: () => {
          const name = unquote(this.CONSUME(Text));
          this.CONSUME(Binds);
          return { kind: "named", word, name, ref: this.CONSUME(Ref).image, at };
        },
      },
      {
        ALT: () => {
          const left = this.SUBRULE(this.size);
          this.CONSUME1(Binds);
          const right = this.SUBRULE1(this.size);
          return { kind: "equal", word, left, right, message: unquote(this.CONSUME1(Text)), at };
        },
      },
      {
        ALT: () => {
          const refs: string[] = [];
          this.MANY(() => refs.push(this.CONSUME1(Ref).image));
          return { kind: "list", word, refs, at };
        },
      },
    ]);
  });

  readonly type: Rule<TypeSyntax> = this.RULE("type", () => {
    const dtype = this.CONSUME(Word).image;
    const axes: AxisSyntax[] = [];
    this.CONSUME(Begin);
    this.MANY_SEP({
      SEP: Comma,
      DEF: () => {
        const name = this.OR<string>([
          { ALT: () => this.CONSUME1(Word).image },
          { ALT: () => unquote(this.CONSUME(Text)) },
        ]);
        const size = this.OPTION(() => {
          this.CONSUME(Binds);
          return this.SUBRULE(this.size);
        });
        axes.push({ name, size: size ?? name });
      },
    });
    this.CONSUME(End);
    return { dtype, axes };
  });
}

const HINTS = { foreign: {}, unexpected: () => undefined };

let built: { readonly lexer: Lexer; readonly parser: ProgramParser } | undefined;

/** Throws a `Diagnostic` that points at the first mistake. */
export function parseProgramSyntax(source: Source): ProgramSyntax {
  built ??= { lexer: new Lexer(TOKENS, { positionTracking: "onlyOffset" }), parser: new ProgramParser() };
  const syntax = runGrammar(source, built.lexer, built.parser, (parser) => parser.program(), HINTS);
  if (!source.text.startsWith("program")) throw slip(source, 0, "a program's text starts with `program`");
  return syntax;
}
