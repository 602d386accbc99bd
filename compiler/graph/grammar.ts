/**
 * The grammar of a program's text, to plain records; `parse.ts` makes nodes of them.
 *
 *   program   = "program" text { statement }
 *   statement = ref "=" word [ "(" ref { "," ref } ")" ] { field } ":" type { "," type }
 *             | word { ref } | word text "=" ref | word size "=" size text
 *   field     = text | list | word [ "=" value ]
 *   value     = text | list | size                      list = "[" [ value { "," value } ] "]"
 *   type      = word "[" [ axis { "," axis } ] "]"      axis = ( word | text ) [ "=" size ]
 *   size      = product { "+" product }                 product = factor { "*" factor }
 *   factor    = number | word [ "(" size { "," size } ")" ] | "(" size ")"
 */
import { createToken, EmbeddedActionsParser, Lexer } from "chevrotain";
import type { IToken, ParserMethod } from "chevrotain";
import { SIZE_OPERATIONS, type Size, type SizeOperation } from "../../contract/size.ts";
import { messages, runGrammar } from "../notation/grammar.ts";
import { slip, type Source } from "../notation/slip.ts";
import type { Value } from "./spelling.ts";

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
      readonly plain: readonly Value[];
      readonly keyed: ReadonlyMap<string, Value>;
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

const Space = createToken({ name: "Space", pattern: /\s+/, group: Lexer.SKIPPED });
const Comment = createToken({ name: "Comment", pattern: /\/\/[^\n]*/, group: Lexer.SKIPPED });
const Text = createToken({ name: "Text", pattern: /"(?:[^"\\\n]|\\.)*"/, label: "a text" });
const Ref = createToken({ name: "Ref", pattern: /%\d+(?:\.\d+)?/, label: "a node" });
const NumberToken = createToken({
  name: "Number",
  pattern: /-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Infinity(?![\w.'])|NaN(?![\w.']))/,
  label: "a number",
});
const Word = createToken({ name: "Word", pattern: /[A-Za-z_][A-Za-z0-9_.']*/, label: "a word" });
const symbol = (pattern: string) => createToken({ name: pattern, pattern, label: `\`${pattern}\`` });
const [Binds, Open, Close, Begin, End, Comma, Colon, Plus, Times] = [
  symbol("="),
  symbol("("),
  symbol(")"),
  symbol("["),
  symbol("]"),
  symbol(","),
  symbol(":"),
  symbol("+"),
  symbol("*"),
];
export const TOKENS = [
  ...[Space, Comment, Text, Ref, NumberToken, Word],
  ...[Binds, Open, Close, Begin, End, Comma, Colon, Plus, Times],
];

type Rule<Result> = ParserMethod<[], Result>;

const unquote = ({ image }: IToken): string => (image.startsWith('"') ? (JSON.parse(image) as string) : image);
const isSizeOperation = (name: string): name is SizeOperation => (SIZE_OPERATIONS as readonly string[]).includes(name);

class ProgramParser extends EmbeddedActionsParser {
  constructor() {
    super(TOKENS, { errorMessageProvider: messages("a node or an output") });
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
    const plain: Value[] = [];
    const keyed = new Map<string, Value>();
    const types: TypeSyntax[] = [];
    const { image, startOffset } = this.CONSUME(Ref);
    this.CONSUME(Binds);
    const operation = this.CONSUME(Word).image;
    this.OPTION(() => {
      this.CONSUME(Open);
      this.AT_LEAST_ONE_SEP({ SEP: Comma, DEF: () => inputs.push(this.CONSUME1(Ref).image) });
      this.CONSUME(Close);
    });
    this.MANY(() =>
      this.OR([
        { ALT: () => plain.push({ text: unquote(this.CONSUME(Text)) }) },
        { ALT: () => plain.push(this.SUBRULE(this.list)) },
        {
          ALT: () => {
            const key = this.CONSUME1(Word).image;
            const value = this.OPTION1(() => {
              this.CONSUME1(Binds);
              return this.SUBRULE(this.value);
            });
            if (value === undefined) plain.push(key);
            else keyed.set(key, value);
          },
        },
      ]),
    );
    this.CONSUME(Colon);
    this.AT_LEAST_ONE_SEP1({ SEP: Comma, DEF: () => types.push(this.SUBRULE(this.type)) });
    const kind = "node" as const;
    return { kind, number: Number(image.slice(1)), operation, inputs, plain, keyed, types, at: startOffset };
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

  readonly value: Rule<Value> = this.RULE("value", () =>
    this.OR<Value>([
      { ALT: () => ({ text: unquote(this.CONSUME(Text)) }) },
      { ALT: () => this.SUBRULE(this.list) },
      { ALT: () => this.SUBRULE(this.size) },
    ]),
  );

  readonly list: Rule<Value> = this.RULE("list", () => {
    const list: Value[] = [];
    this.CONSUME(Begin);
    this.MANY_SEP({ SEP: Comma, DEF: () => list.push(this.SUBRULE(this.value)) });
    this.CONSUME(End);
    return { list };
  });

  readonly size: Rule<Size> = this.RULE("size", (): Size => {
    const terms: Size[] = [];
    this.AT_LEAST_ONE_SEP({ SEP: Plus, DEF: () => terms.push(this.SUBRULE(this.product)) });
    return terms.length === 1 ? terms[0]! : ["+", ...terms];
  });

  readonly product: Rule<Size> = this.RULE("product", (): Size => {
    const factors: Size[] = [];
    this.AT_LEAST_ONE_SEP({ SEP: Times, DEF: () => factors.push(this.SUBRULE(this.factor)) });
    return factors.length === 1 ? factors[0]! : ["*", ...factors];
  });

  readonly factor: Rule<Size> = this.RULE("factor", () =>
    this.OR<Size>([
      { ALT: () => Number(this.CONSUME(NumberToken).image) },
      {
        ALT: () => {
          const { image } = this.CONSUME(Word);
          const args = this.OPTION({
            GATE: () => isSizeOperation(image),
            DEF: () => {
              const found: Size[] = [];
              this.CONSUME(Open);
              this.AT_LEAST_ONE_SEP({ SEP: Comma, DEF: () => found.push(this.SUBRULE(this.size)) });
              this.CONSUME(Close);
              return found;
            },
          });
          return args === undefined || !isSizeOperation(image) ? image : [image, ...args];
        },
      },
      {
        ALT: () => {
          this.CONSUME1(Open);
          const inner = this.SUBRULE1(this.size);
          this.CONSUME1(Close);
          return inner;
        },
      },
    ]),
  );
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
