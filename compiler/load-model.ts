/**
 * From the text of a model to its definition. The script runs with this process's own language behind `"soracc"`: its
 * nodes are the compiler's nodes. The script's source map stays with it, so that mistakes are told at lines of the user's
 * file.
 */
import { createRequire, SourceMap, type SourceMapPayload } from "node:module";
import { dirname } from "node:path";
import { compileFunction } from "node:vm";
import { Diagnostic, type Location } from "../contract/diagnostic.ts";
import * as language from "./language/index.ts";
import { crash } from "./language/crash.ts";
import { isModel, type ModelDefinition } from "./language/model.ts";
import { located, registerScript } from "./language/place.ts";
import { readModel, showPath, type ModelText } from "./read-model.ts";

let loaded = 0;

/** Errors: no such file, a file that does not compile or run, one that exports no model. All are located. */
export async function loadModel(path: string): Promise<ModelDefinition> {
  return runModel(await readModel(path));
}

/** Errors: a model that does not run, or a file that exports none. */
export function runModel({ file, shown, code, map }: ModelText): ModelDefinition {
  const script = `soracc-model-${++loaded}.cjs`;
  registerScript(script, sourceFinder(map));
  const exported = run(script, code, file, shown);
  const definition = exported["default"];
  if (isModel(definition)) return definition;
  throw new Diagnostic({
    kind: "model",
    message: definition === undefined ? "the file has no default export" : "the default export is not a model",
    where: { file: shown },
    details: definition === undefined ? exportsOf(exported) : [`it is ${describe(definition)}`],
    fix: "end it with: export default model({ name: …, config: …, programs: … })",
  });
}

function run(script: string, code: string, file: string, shown: string): Record<string, unknown> {
  const nodeRequire = createRequire(file);
  const require = (name: string): unknown => (name === "soracc" ? language : (nodeRequire(name) as unknown));
  const module: { exports: Record<string, unknown> } = { exports: {} };
  try {
    const names = ["module", "exports", "require", "__filename", "__dirname"];
    const body = compileFunction(code, names, { filename: script }) as (...values: readonly unknown[]) => void;
    body(module, module.exports, require, file, dirname(file));
    return module.exports;
  } catch (error) {
    throw located(crash(error, Object.keys(language)), () => ({ file: shown }));
  }
}

/** Lines of the script to lines of the user's files. */
function sourceFinder(payload: SourceMapPayload): (line: number, column: number) => Location | undefined {
  let map: SourceMap | undefined;
  return (line, column) => {
    map ??= new SourceMap(payload);
    const entry = map.findEntry(line - 1, column - 1);
    if (!("originalSource" in entry)) return undefined;
    return { file: showPath(entry.originalSource), line: entry.originalLine + 1, column: entry.originalColumn + 1 };
  };
}

function exportsOf(exported: Record<string, unknown>): string[] {
  const names = Object.keys(exported);
  return names.length === 0 ? [] : [`it exports ${names.join(", ")}`];
}

function describe(value: unknown): string {
  if (value === null) return "null";
  return typeof value === "object" ? `an object with the keys ${Object.keys(value).join(", ")}` : `a ${typeof value}`;
}
