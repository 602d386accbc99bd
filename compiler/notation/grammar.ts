/** What the three grammars share: how a chevrotain parser words its complaints, and how a text is run through one. */
import { EOF, tokenLabel } from "chevrotain";
import type { EmbeddedActionsParser, ILexingResult, IParserErrorMessageProvider, IToken, Lexer } from "chevrotain";
import { slip } from "./slip.ts";
import type { Source } from "./slip.ts";

/** `after` says what may follow a text that is already complete. */
export function messages(after: string): IParserErrorMessageProvider {
  const expected = (what: string, found: IToken | undefined): string => `expected ${what}, found ${describe(found)}`;
  return {
    buildMismatchTokenMessage: ({ expected: type, actual }) => expected(tokenLabel(type), actual),
    buildNotAllInputParsedMessage: ({ firstRedundant }) => expected(after, firstRedundant),
    buildNoViableAltMessage: ({ customUserDescription, actual }) => expected(customUserDescription ?? after, actual[0]),
    buildEarlyExitMessage: ({ customUserDescription, actual }) => expected(customUserDescription ?? after, actual[0]),
  };
}

const describe = (token: IToken | undefined): string =>
  token === undefined || token.tokenType === EOF ? "the end" : `\`${token.image}\``;

export interface Hints {
  /** What to write instead of a character the notation does not have. */
  readonly foreign: Readonly<Record<string, string>>;
  /** What to do about an unexpected token, given the one before it and the message so far. */
  readonly unexpected: (token: IToken, previous: IToken | undefined, message: string) => string | undefined;
}

/** Runs a rule of `parser` over the text, or throws a `Diagnostic` for the first mistake in it. */
export function runGrammar<Parser extends EmbeddedActionsParser, Result>(
  source: Source,
  lexer: Lexer,
  parser: Parser,
  rule: (parser: Parser) => Result,
  hints: Hints,
): Result {
  const lexed: ILexingResult = lexer.tokenize(source.text);
  const foreign = lexed.errors[0];
  parser.input = lexed.tokens;
  const result = rule(parser);
  const error = parser.errors[0];
  // Whichever stands first in the text is the mistake; the other may be its echo.
  if (foreign !== undefined && !(error !== undefined && error.token.startOffset < foreign.offset)) {
    const [character = ""] = source.text.slice(foreign.offset);
    throw slip(source, foreign.offset, `\`${character}\` is not part of a ${source.kind}`, hints.foreign[character]);
  }
  if (error !== undefined) {
    const at = lexed.tokens.indexOf(error.token);
    const previous = at < 0 ? lexed.tokens.at(-1) : lexed.tokens[at - 1];
    throw slip(source, error.token.startOffset, error.message, hints.unexpected(error.token, previous, error.message));
  }
  return result;
}
