import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { areaOf, areaRules, brokenRules, importsOf } from "./import-rules.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const manifest = JSON.parse(readFileSync(`${root}package.json`, "utf8")) as { dependencies: Record<string, string> };
const dependencies = new Set(Object.keys(manifest.dependencies));

/** The TypeScript files under the folders that are shipped. */
function shippedSources(): readonly string[] {
  return ["compiler", "contract", "models", "runtime"]
    .filter((folder) => existsSync(`${root}${folder}`))
    .flatMap((folder) =>
      readdirSync(`${root}${folder}`, { recursive: true, encoding: "utf8" })
        .filter((name) => name.endsWith(".ts"))
        .map((name) => `${folder}/${name.replaceAll("\\", "/")}`),
    )
    .sort();
}

describe("imports run one way", () => {
  test("every shipped file keeps the rules", () => {
    const paths = shippedSources();
    const broken = paths.flatMap((path) =>
      brokenRules({ path, text: readFileSync(`${root}${path}`, "utf8") }, dependencies),
    );
    expect(paths.length, "no source file was found, so nothing was checked").toBeGreaterThan(0);
    expect(broken.join("\n")).toBe("");
  });

  test("the table names only areas it has rules for, and no two areas may import each other", () => {
    // The commands are one area in two places: cli.ts lists them, they share its options.
    const commands = new Set(["compiler/cli.ts", "compiler/commands"]);
    // Reports show every stage and the pipeline asks for them.
    const story = new Set(["compiler/report", "compiler/pipeline.ts"]);
    for (const [area, { mayImport }] of Object.entries(areaRules)) {
      for (const other of mayImport) {
        expect(areaRules[other], `${area} may import ${other}, which has no rule`).toBeDefined();
        if (area === other || [commands, story].some((pair) => pair.has(area) && pair.has(other))) continue;
        expect(areaRules[other]?.mayImport, `${area} and ${other} may import each other`).not.toContain(area);
      }
    }
  });
});

describe("the checker itself", () => {
  test.each([
    [
      "a runtime file that imports the compiler",
      "runtime/program/run.ts",
      'import { fuse } from "../../compiler/passes/fuse.ts";',
    ],
    ["a type import", "runtime/program/run.ts", 'import type { Graph } from "../../compiler/graph/node.ts";'],
    ["a re-export", "contract/plan.ts", 'export * from "../runtime/program/run.ts";'],
    ["a lazy import", "compiler/pipeline.ts", 'const train = await import("../runtime/train/train.ts");'],
    ["an import type", "compiler/graph/node.ts", 'let op: import("../ops/record.ts").Operator;'],
    ["the package by its own name", "runtime/sample/sample.ts", 'import { model } from "soracc";'],
    ["a test helper", "compiler/kernels/fuse.ts", 'import { near } from "../../test/numerics/near.ts";'],
    ["a development package", "compiler/graph/node.ts", 'import fc from "fast-check";'],
    ["a builtin without its prefix", "runtime/data/read.ts", 'import { readFileSync } from "fs";'],
    ["a folder without a rule", "compiler/extras/trick.ts", ""],
  ])("reports %s", (_what, path, text) => {
    const broken = brokenRules({ path, text }, dependencies);
    expect(broken).toHaveLength(1);
    expect(broken[0]).toContain(path);
  });

  test("names the file, the line, the import and the rule", () => {
    const text = '// what runs a plan\nimport { fuse } from "../../compiler/passes/fuse.ts";\n';
    expect(brokenRules({ path: "runtime/program/run.ts", text }, dependencies)).toEqual([
      'runtime/program/run.ts:2: imports "../../compiler/passes/fuse.ts" (compiler/passes); ' +
        "runtime may import contract: the training binary carries no compiler",
    ]);
  });

  test("accepts what the table allows", () => {
    const text = [
      'import { readFileSync } from "node:fs";',
      'import koffi from "koffi";',
      'import { planSchema } from "../../contract/plan.ts";',
      'import { bind } from "./bind.ts";',
      '// import { fuse } from "../../compiler/passes/fuse.ts";',
      'const text = `import x from "../../compiler/graph/node.ts"`;',
    ].join("\n");
    expect(brokenRules({ path: "runtime/program/run.ts", text }, dependencies)).toEqual([]);
    expect(importsOf({ path: "runtime/program/run.ts", text })).toHaveLength(4);
  });

  test("finds the closest area", () => {
    expect(areaOf("compiler/pipeline.ts")).toBe("compiler/pipeline.ts");
    expect(areaOf("compiler/graph/size/atom.ts")).toBe("compiler/graph");
    expect(areaOf("compilers/graph.ts")).toBeUndefined();
  });
});
