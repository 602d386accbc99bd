/**
 * The grammar of formulas, to a tree of names and places; `formula.ts` gives the tree its types.
 *
 *   formula = { name "=" anyOf ";" } anyOf          t = x * x; t * t
 *   anyOf   = allOf { "||" allOf }
 *   allOf   = compare { "&&" compare }
 *   compare = sum [ ("==" | "!=" | "<" | "<=" | ">" | ">=") sum ]
 *   sum     = product { ("+" | "-") product }
 *   product = prefix { ("*" | "/" | "//" | "%") prefix }
 *   prefix  = ("-" | "!") prefix | power
 *   power   = value [ "^" prefix ]
 *   value   = number | name [ "(" anyOf { "," anyOf } ")" ] | "(" anyOf ")"
 */
import { createToken, EmbeddedActionsParser, Lexer } from "chevrotain";
import type { IToken, ParserMethod, TokenType } from "chevrotain";
import { messages, runGrammar } from "./grammar.ts";
import { COMPARISONS, LEVELS, spellingOf } from "./precedence.ts";
import type { Source } from "./slip.ts";

export type Syntax =
  | { readonly kind: "number"; readonly image: string; readonly offset: number }
  | { readonly kind: "name"; readonly name: string; readonly offset: number }
  | { readonly kind: "apply"; readonly name: string; readonly args: readonly Syntax[]; readonly offset: number };

export interface FormulaSyntax {
  readonly bindings: readonly { readonly name: string; readonly value: Syntax; readonly offset: number }[];
  readonly value: Syntax;
}

const token = (
  name: string,
  pattern: RegExp | string,
  label = `\`${name}\``,
  categories: TokenType[] = [],
): TokenType => createToken({ name, pattern, label, categories });

const category = (name: string): TokenType => createToken({ name, pattern: Lexer.NA, label: "an operator" });
const CATEGORIES = LEVELS.map((names) => category(`Any of ${names.join(" ")}`));
const Prefix = category("Prefix");

/** Two operators are prefixes as well, and `-` belongs to both. */
const prefixes: Readonly<Record<string, string>> = { [spellingOf("neg")]: "neg", [spellingOf("not")]: "not" };
const infixes = LEVELS.flatMap((names, level) =>
  names.map((name) => {
    const spelling = spellingOf(name);
    const categories = spelling in prefixes ? [CATEGORIES[level]!, Prefix] : [CATEGORIES[level]!];
    return { name, spelling, type: createToken({ name: `Operator ${name}`, pattern: spelling, categories }) };
  }),
);
const infixOf = new Map<string, string>(infixes.map(({ spelling, name }) => [spelling, name]));

const Space = createToken({ name: "Space", pattern: /\s+/, group: Lexer.SKIPPED });
const NumberToken = token("Number", /(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?/, "a number");
const Name = token(
  "Name",
  /[A-Za-z_\u0370-\u03ff][A-Za-z_\u0370-\u03ff0-9]*(?:\.[A-Za-z_\u0370-\u03ff0-9]+)*/,
  "a name",
);
const Not = token("Not", spellingOf("not"), "`!`", [Prefix]);
const Power = token("Power", spellingOf("pow"), "`^`");
const Binds = token("Binds", "=", "`=`");
const Open = token("Open", "(", "`(`");
const Close = token("Close", ")", "`)`");
const Comma = token("Comma", ",", "`,`");
const Semicolon = token("Semicolon", ";", "`;`");

/** Longer spellings first: the lexer takes the first that matches. */
const operators = [...infixes].sort((a, b) => b.spelling.length - a.spelling.length).map(({ type }) => type);
const TOKENS = [
  ...[Space, NumberToken, Name, ...operators],
  ...[Not, Power, Binds, Open, Close, Comma, Semicolon, Prefix, ...CATEGORIES],
];

type Rule<Result> = ParserMethod<[], Result>;

class FormulaParser extends EmbeddedActionsParser {
  constructor() {
    super(TOKENS, { errorMessageProvider: messages("an operator") });
    this.performSelfAnalysis();
  }

  readonly formula: Rule<FormulaSyntax> = this.RULE("formula", () => {
    const bindings: FormulaSyntax["bindings"][number][] = [];
    this.MANY(() => {
      const name = this.CONSUME(Name);
      this.CONSUME(Binds);
      bindings.push({ name: name.image, value: this.SUBRULE(this.anyOf), offset: name.startOffset });
      this.CONSUME(Semicolon);
    });
    return { bindings, value: this.SUBRULE1(this.anyOf) };
  });

  readonly anyOf: Rule<Syntax> = this.chain("anyOf", 0, () => this.allOf);
  readonly allOf: Rule<Syntax> = this.chain("allOf", 1, () => this.compare);

  readonly compare: Rule<Syntax> = this.RULE("compare", () => {
    let left = this.SUBRULE(this.sum);
    this.OPTION(() => {
      const operator = this.CONSUME(CATEGORIES[COMPARISONS]!);
      left = infix(operator, left, this.SUBRULE1(this.sum));
    });
    return left;
  });

  readonly sum: Rule<Syntax> = this.chain("sum", 3, () => this.product);
  readonly product: Rule<Syntax> = this.chain("product", 4, () => this.prefix);

  readonly prefix: Rule<Syntax> = this.RULE("prefix", () =>
    this.OR({
      DEF: [
        {
          ALT: (): Syntax => {
            const { image, startOffset } = this.CONSUME(Prefix);
            return {
              kind: "apply",
              name: prefixes[image] ?? "",
              args: [this.SUBRULE(this.prefix)],
              offset: startOffset,
            };
          },
        },
        { ALT: (): Syntax => this.SUBRULE(this.power) },
      ],
      ERR_MSG: "a value",
    }),
  );

  readonly power: Rule<Syntax> = this.RULE("power", () => {
    let base = this.SUBRULE(this.value);
    this.OPTION(() => {
      const { startOffset } = this.CONSUME(Power);
      base = { kind: "apply", name: "pow", args: [base, this.SUBRULE(this.prefix)], offset: startOffset };
    });
    return base;
  });

  readonly value: Rule<Syntax> = this.RULE("value", () =>
    this.OR({
      DEF: [
        {
          ALT: (): Syntax => {
            const { image, startOffset } = this.CONSUME(NumberToken);
            return { kind: "number", image, offset: startOffset };
          },
        },
        {
          ALT: (): Syntax => {
            const { image, startOffset } = this.CONSUME(Name);
            return (
              this.OPTION((): Syntax => {
                const args: Syntax[] = [];
                this.CONSUME(Open);
                this.MANY_SEP({ SEP: Comma, DEF: () => args.push(this.SUBRULE(this.anyOf)) });
                this.CONSUME(Close);
                return { kind: "apply", name: image, args, offset: startOffset };
              }) ?? { kind: "name", name: image, offset: startOffset }
            );
          },
        },
        {
          ALT: (): Syntax => {
            this.CONSUME1(Open);
            const inner = this.SUBRULE1(this.anyOf);
            this.CONSUME1(Close);
            return inner;
          },
        },
      ],
      ERR_MSG: "a value",
    }),
  );

  /** A left-associative level: one operand, then operators and operands. */
  private chain(name: string, level: number, operand: () => Rule<Syntax>): Rule<Syntax> {
    return this.RULE(name, () => {
      let left = this.SUBRULE(operand());
      this.MANY(() => {
        const operator = this.CONSUME(CATEGORIES[level]!);
        left = infix(operator, left, this.SUBRULE1(operand()));
      });
      return left;
    });
  }
}

const infix = (operator: IToken, left: Syntax, right: Syntax): Syntax => ({
  kind: "apply",
  name: infixOf.get(operator.image) ?? "",
  args: [left, right],
  offset: operator.startOffset,
});

const HINTS = {
  foreign: {
    "&": "for conditions write `&&`, for bits bitand(a, b)",
    "|": "for conditions write `||`, for bits bitor(a, b)",
    "~": "write bitxor(a, -1)",
    "?": "write select(condition, a, b)",
    ":": "write select(condition, a, b)",
    "[": "a formula sees one element; index the tensor before",
  },
  unexpected: (found: IToken, previous: IToken | undefined, message: string): string | undefined => {
    const isValue = (type: TokenType | undefined): boolean => type === NumberToken || type === Name || type === Open;
    const endsValue =
      previous?.tokenType === NumberToken || previous?.tokenType === Name || previous?.tokenType === Close;
    if (found.image === "*" && previous?.image === "*") return "a power is written x^2";
    if (found.tokenType === Binds || message.includes("`;`"))
      return "to compare write ==; a binding is t = x * x; t + 1";
    if (endsValue && isValue(found.tokenType)) return "a product needs its `*`";
    const compares = found.tokenType.CATEGORIES?.includes(CATEGORIES[COMPARISONS]!) ?? false;
    return endsValue && compares ? "comparisons do not chain: write a < b && b < c" : undefined;
  },
};

let built: { readonly lexer: Lexer; readonly parser: FormulaParser } | undefined;

/** The tree of a formula; throws a `Diagnostic` with a caret for a text that is none. */
export function parseSyntax(source: Source): FormulaSyntax {
  built ??= { lexer: new Lexer(TOKENS, { positionTracking: "onlyOffset" }), parser: new FormulaParser() };
  return runGrammar(source, built.lexer, built.parser, (parser) => parser.formula(), HINTS);
}
