/** What does an exception in a model file mean? A misspelt method or import is told as such, all else at its line. */
import { Diagnostic, didYouMean, type Location } from "../../contract/diagnostic.ts";
import { placeOf } from "./place.ts";
import { Tensor } from "./tensor.ts";

/** The exception as a mistake of the model, when a line of it threw by itself; any other stays what it is. */
export function crash(error: unknown, exported: readonly string[] = []): unknown {
  if (!(error instanceof Error) || error instanceof Diagnostic) return error;
  const firstFrame = error.stack?.split("\n").find((line) => /^\s+at /.test(line)) ?? "";
  const where = placeOf({ stack: firstFrame });
  if (where === undefined) return error;
  return (
    misspelt(error, where, exported) ??
    new Diagnostic({
      kind: "model",
      message: `${error.name}: ${error.message}`,
      where,
      fix: "correct the model at this line",
    })
  );
}

const METHODS = Object.getOwnPropertyNames(Tensor.prototype).filter((name) => name !== "constructor");

/** `x.ad is not a function`: the name, and the nearest one that exists. */
function misspelt(error: Error, where: Location, exported: readonly string[]): Diagnostic | undefined {
  const [, owner = "", name] = /(\w+)\.(\w+)\)? is not a function$/.exec(error.message) ?? [];
  if (name === undefined) return undefined;
  const isImport = owner.startsWith("import_soracc");
  const known = isImport ? exported : [...METHODS, ...exported];
  if (known.includes(name)) return undefined;
  const near = didYouMean(name, known);
  return new Diagnostic({
    kind: "model",
    message: isImport ? `"soracc" has no "${name}"` : `there is no function "${name}" here`,
    where,
    fix: near === undefined ? "correct its name" : `did you mean "${near}"?`,
  });
}
