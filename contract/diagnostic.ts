/**
 * What a user is told when something is wrong: where, what, and how to fix it.
 *
 * A `Diagnostic` is a mistake a user can correct (a model, a file, a flag, a machine). It is thrown, caught once by
 * the command line, printed without a stack, and the process exits with a code other than 0.
 * A `CompilerBug` is a broken promise of ours: it keeps its stack and says how to report it.
 */

/** A place in a user's file. `line` and `column` count from 1; both may be unknown. */
export interface Location {
  readonly file: string;
  readonly line?: number;
  readonly column?: number;
}

export interface DiagnosticParts {
  /** The family of the mistake, one or two words: `shape`, `type`, `preset`, `captions`, `checkpoint`. */
  readonly kind: string;
  /** What is wrong, one sentence, lower case, no full stop. */
  readonly message: string;
  readonly where?: Location | undefined;
  /** Facts that help, one per line (shapes, names, sizes). */
  readonly details?: readonly string[] | undefined;
  /** What to do, as an imperative. */
  readonly fix?: string | undefined;
}

export class Diagnostic extends Error {
  readonly parts: DiagnosticParts;

  constructor(parts: DiagnosticParts) {
    super(formatDiagnostic(parts));
    this.name = "Diagnostic";
    this.parts = parts;
  }
}

export class CompilerBug extends Error {
  constructor(stage: string, message: string) {
    super(
      `compiler bug in ${stage}: ${message}\n` +
        "  fix: this is not your mistake; please report it with the model file and the command you ran",
    );
    this.name = "CompilerBug";
  }
}

/** `models/dit.sora.ts:41:18  shape: matmul contracts 768 with 1152`, then the facts, then the fix. */
export function formatDiagnostic(parts: DiagnosticParts): string {
  const place = parts.where === undefined ? "" : `${formatLocation(parts.where)}  `;
  const lines = [`${place}${parts.kind}: ${parts.message}`];
  for (const detail of parts.details ?? []) lines.push(`  ${detail}`);
  if (parts.fix !== undefined) lines.push(`  fix: ${parts.fix}`);
  return lines.join("\n");
}

export function formatLocation(where: Location): string {
  return [where.file, where.line, where.column].filter((part) => part !== undefined).join(":");
}

/** The candidate closest to `word` in edit distance, when it is close enough to be a slip of the hand. */
export function didYouMean(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitute = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min((previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1, substitute));
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
}
