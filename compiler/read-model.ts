/**
 * From a `.sora.ts` file to the text of a model: the file and what it imports, bundled to one script. Nothing of the
 * language is needed for that; a model whose plan is at hand is only read.
 */
import { existsSync, readdirSync, statSync } from "node:fs";
import type { SourceMapPayload } from "node:module";
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import type { Message } from "esbuild";
import { Diagnostic, didYouMean } from "../contract/diagnostic.ts";

/** A model file and what it imports, as one script. */
export interface ModelText {
  readonly file: string;
  /** The file's path in messages. */
  readonly shown: string;
  readonly code: string;
  readonly map: SourceMapPayload;
  /** Nothing but this text decides what the model is: no other module, no clock, no environment. */
  readonly isClosed: boolean;
}

/** Errors: no such file, one that does not compile. */
export async function readModel(path: string): Promise<ModelText> {
  const file = resolve(path);
  const shown = showPath(file);
  if (!existsSync(file) || !statSync(file).isFile()) throw missingFile(path, file);
  return { file, shown, ...(await bundle(file, shown)) };
}

/** What a script can reach without an import and that may differ tomorrow. */
const OPEN =
  /\bprocess\s*[.[;]|[=(]\s*process\b\s*[;)]|\b(?:globalThis|global|Date|performance|eval|Function|require|__filename|__dirname|Intl)\b|Math\.random/;

async function bundle(file: string, shown: string): Promise<Pick<ModelText, "code" | "map" | "isClosed">> {
  const esbuild = await import("esbuild");
  try {
    const { outputFiles, metafile } = await esbuild.build({
      absWorkingDir: dirname(file),
      entryPoints: [file],
      outfile: resolve(dirname(file), "model.cjs"), // never written: sources in the map are relative to its folder
      write: false,
      metafile: true,
      bundle: true,
      format: "cjs",
      platform: "node",
      target: "node20",
      external: ["soracc"],
      loader: { ".ts": "ts" },
      tsconfigRaw: "{}", // the same model everywhere, whatever project it lies in
      sourcemap: "external",
      sourcesContent: false,
      logLevel: "silent",
      logOverride: { "empty-import-meta": "error" },
    });
    const text = (ending: string): string => outputFiles.find((each) => each.path.endsWith(ending))?.text ?? "";
    const parsed: unknown = JSON.parse(text(".map"));
    const map = parsed as SourceMapPayload; // written by esbuild a moment ago
    const sources = map.sources.map((source) => resolve(dirname(file), source));
    const code = text("model.cjs");
    const imports = Object.values(metafile.outputs).flatMap((output) => output.imports);
    const own = code.replaceAll('require("soracc")', "");
    const isClosed = imports.every(({ path }) => path === "soracc") && !OPEN.test(own);
    return { code, map: { ...map, sources }, isClosed };
  } catch (error) {
    const [first, ...others] = messagesOf(error);
    if (first === undefined) throw error;
    throw syntaxError(first, others, file, shown);
  }
}

const messagesOf = (error: unknown): readonly Message[] =>
  error instanceof Error && "errors" in error && Array.isArray(error.errors) ? (error.errors as Message[]) : [];

function syntaxError(first: Message, others: readonly Message[], file: string, shown: string): Diagnostic {
  const { location, text } = first;
  return new Diagnostic({
    kind: text.startsWith("Could not resolve") ? "import" : "syntax",
    message: text.charAt(0).toLowerCase() + text.slice(1),
    where:
      location === null
        ? { file: shown }
        : { file: showPath(resolve(dirname(file), location.file)), line: location.line, column: location.column + 1 },
    details: [
      ...(location === null ? [] : [location.lineText, `${" ".repeat(location.column)}^`]),
      ...(others.length === 0 ? [] : [`and ${others.length} more`]),
    ],
    fix: "correct the file at this place",
  });
}

/** Relative to the working directory where the file is inside it, as a user would type it. */
export function showPath(file: string): string {
  const path = relative(process.cwd(), file);
  return path === "" || path.startsWith(`..${sep}`) || isAbsolute(path) ? file : path;
}

function missingFile(path: string, file: string): Diagnostic {
  const folder = dirname(file);
  if (existsSync(file)) {
    return new Diagnostic({
      kind: "model",
      message: `${path} is a folder, not a model file`,
      fix: "give the path of a .sora.ts file",
    });
  }
  const models = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".sora.ts")) : [];
  const stem = (name: string): string => name.replace(/(\.sora)?\.ts$/, "");
  const near = didYouMean(stem(basename(file)), models.map(stem));
  return new Diagnostic({
    kind: "model",
    message: `there is no model file ${path}`,
    details: models.length === 0 || models.length > 8 ? [] : [`beside it  ${models.join(", ")}`],
    fix:
      near === undefined
        ? "give the path of a .sora.ts file"
        : `did you mean ${join(dirname(path), `${near}.sora.ts`)}?`,
  });
}
