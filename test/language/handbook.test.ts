/** The examples of the handbook are models that trace. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { traceModel } from "../../compiler/language/trace-model.ts";
import { loadModel } from "../../compiler/load-model.ts";

const handbook = join(process.env["SORACC_ROOT"] ?? process.cwd(), "docs/language.md");
const blocks = [...readFileSync(handbook, "utf8").matchAll(/```ts\n([\s\S]*?)```/g)].map((match) => match[1] ?? "");
const models = blocks.filter((block) => block.includes("export default model("));

test("docs/language.md has a complete model", () => {
  expect(models.length).toBeGreaterThan(0);
});

test.each(models.map((text, i) => [i + 1, text] as const))("model %i of docs/language.md traces", async (_, text) => {
  const folder = mkdtempSync(join(tmpdir(), "soracc-handbook-"));
  try {
    const path = join(folder, "model.sora.ts");
    writeFileSync(path, text);
    const traced = traceModel(await loadModel(path));
    expect([...traced.programs.values()].map((trace) => trace().name)).toContain("accumulate");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
