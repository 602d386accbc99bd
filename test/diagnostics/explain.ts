/** Writes a model file, loads and traces it, and gives the message that a user reads. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Choices } from "../../compiler/language/model.ts";
import { traceModel } from "../../compiler/language/trace-model.ts";
import { loadModel } from "../../compiler/load-model.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";

const IMPORTS = `import {
  model, component, stack, linear, layerNorm, attention, program, f32, i32, count, choice, parameter, zeros, mesh, concat,
} from "soracc";
`;

/** A model file whose `programs` has the given lines, the first of which is line 11; `x` is [batch, tokens, width=8]. */
export const withPrograms = (lines: string, more = ""): string => `${IMPORTS}
export default model({
  name: "wrong",
  config: { width: count(8), kind: choice("a", "b") },
  presets: { small: { width: 4 }, large: { width: 16 } },
  programs: (config) => {
const x = f32("batch tokens width", { width: config.width });
${lines}
  },
  ${more}
});
`;

/** A model file with the given lines after its imports, the first of which is line 4. */
export const withLines = (lines: string): string => IMPORTS + lines;

/** The message, with `model.sora.ts` as the path of the file. Fails when there is nothing wrong. */
export async function explain(text: string, choices: Choices = {}): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "soracc-model-"));
  try {
    const path = join(folder, "model.sora.ts");
    writeFileSync(path, text);
    const traced = traceModel(await loadModel(path), choices);
    for (const trace of traced.programs.values()) trace();
  } catch (error) {
    if (!(error instanceof Diagnostic)) throw error;
    return error.message.replaceAll(`${folder}/`, "");
  } finally {
    rmSync(folder, { recursive: true });
  }
  throw new Error("this model has no mistake");
}
