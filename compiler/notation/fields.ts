/**
 * What the textual forms of graphs and kernels share: fields, lists, sizes. Not for users; strict, and easy to read.
 *
 *   field     = text | list | word [ "=" value ]
 *   value     = text | list | size                      list = "[" [ value { "," value } ] "]"
 *   size      = product { "+" product }                 product = factor { "*" factor }
 *   factor    = number | word [ "(" size { "," size } ")" ] | "(" size ")"
 */
import { createToken, EmbeddedActionsParser, Lexer } from "chevrotain";
import type { IParserErrorMessageProvider, IToken, ParserMethod, TokenType } from "chevrotain";
import { SIZE_OPERATIONS, type Size, type SizeOperation } from "../../contract/size.ts";

/** A value as the grammar reads it: a size (or a number, or a word), a text in quotes, a list. */
export type Value = Size | { readonly text: string } | { readonly list: readonly Value[] };

/** Texts, words and lists without a key, in order; and what has one. */
export interface Fields {
  readonly plain: readonly Value[];
  readonly keyed: ReadonlyMap<string, Value>;
}

/** A name as a bare word where that can be read back, else in quotes. */
export const printName = (name: string): string =>
  /^[A-Za-z_][A-Za-z0-9_.']*$/.test(name) && name !== "Infinity" && name !== "NaN" ? name : JSON.stringify(name);
export const printNumber = (value: number): string => (Object.is(value, -0) ? "-0" : String(value));
export const printList = <Item>(items: readonly Item[], print: (item: Item) => string): string =>
  `[${items.map(print).join(", ")}]`;

export const Space = createToken({ name: "Space", pattern: /\s+/, group: Lexer.SKIPPED });
export const Comment = createToken({ name: "Comment", pattern: /\/\/[^\n]*/, group: Lexer.SKIPPED });
export const Text = createToken({ name: "Text", pattern: /"(?:[^"\\\n]|\\.)*"/, label: "a text" });
export const Ref = createToken({ name: "Ref", pattern: /%\d+(?:\.\d+)?/, label: "a node" });
export const NumberToken = createToken({
  name: "Number",
  pattern: /-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Infinity(?![\w.'])|NaN(?![\w.']))/,
  label: "a number",
});
export const Word = createToken({ name: "Word", pattern: /[A-Za-z_][A-Za-z0-9_.']*/, label: "a word" });
const symbol = (pattern: string) => createToken({ name: pattern, pattern, label: `\`${pattern}\`` });
export const [Binds, Open, Close, Begin, End, Comma, Colon, Plus, Times] = [
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
/** Without white space, which a grammar may want to see. */
export const FIELD_TOKENS: readonly TokenType[] = [
  ...[Comment, Text, Ref, NumberToken, Word],
  ...[Binds, Open, Close, Begin, End, Comma, Colon, Plus, Times],
];

export type Rule<Result> = ParserMethod<[], Result>;

export const unquote = ({ image }: IToken): string => (image.startsWith('"') ? (JSON.parse(image) as string) : image);
const isSizeOperation = (name: string): name is SizeOperation => (SIZE_OPERATIONS as readonly string[]).includes(name);

/** The shared rules; a grammar adds its own and calls `performSelfAnalysis`. */
export class FieldParser extends EmbeddedActionsParser {
  constructor(tokens: TokenType[], errorMessageProvider: IParserErrorMessageProvider) {
    super(tokens, { errorMessageProvider });
  }

  readonly fields: Rule<Fields> = this.RULE("fields", () => {
    const plain: Value[] = [];
    const keyed = new Map<string, Value>();
    this.MANY(() =>
      this.OR([
        { ALT: () => plain.push({ text: unquote(this.CONSUME(Text)) }) },
        { ALT: () => plain.push(this.SUBRULE(this.list)) },
        { ALT: () => plain.push(Number(this.CONSUME(NumberToken).image)) },
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
    return { plain, keyed };
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
