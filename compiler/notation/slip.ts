/**
 * How a mistake inside a notation is shown: the text quoted, a caret under the place.
 *
 *   formula: expected a value, found `*`
 *     0.5 * * x
 *           ^
 */
import { Diagnostic } from "../../contract/diagnostic.ts";
import type { Location } from "../../contract/diagnostic.ts";

/** The text in which a mistake was made, and where that text stands. */
export interface Source {
  /** The family of the notation: `formula`, `pattern`, `mesh`. */
  readonly kind: string;
  readonly text: string;
  readonly where?: Location | undefined;
}

/** A `Diagnostic` that points into `source.text`; an offset that is not a number points behind its end. */
export function slip(
  source: Source,
  offset: number,
  message: string,
  fix?: string,
  facts: readonly string[] = [],
): Diagnostic {
  const { kind, text, where } = source;
  const at = Number.isNaN(offset) ? text.length : offset;
  const start = text.lastIndexOf("\n", at - 1) + 1;
  const end = text.indexOf("\n", at);
  const line = text.slice(start, end < 0 ? text.length : end);
  // A tab before the place stays a tab, so that the caret lands under it in any terminal.
  const margin = line.slice(0, at - start).replace(/[^\t]/g, " ");
  return new Diagnostic({ kind, message, where, details: [line, `${margin}^`, ...facts], fix });
}
