// Who may import whom, as a table, and the checker that reads the import statements of a file against it.
import { builtinModules } from "node:module";
import { posix } from "node:path";
import ts from "typescript";

interface AreaRule {
  /** Areas it may import from, apart from itself. */
  readonly mayImport: readonly string[];
  readonly because: string;
}

const graphLanguage = [
  "compiler/graph",
  "compiler/graph/dim.ts",
  "compiler/ops",
  "compiler/notation",
  "contract",
] as const;

/** Every compiler area but the commands, which alone know the runtime. */
const wholeCompiler = [
  ...graphLanguage,
  "compiler/language",
  "compiler/load-model.ts",
  "compiler/read-model.ts",
  "compiler/passes",
  "compiler/passes/differentiate.ts",
  "compiler/parallel",
  "compiler/kernels",
  "compiler/plan",
  "compiler/targets",
  "compiler/reference",
  "compiler/report",
  "compiler/pipeline.ts",
] as const;

/**
 * An area is a folder, or one file beside folders; the longest name that fits a path decides. A file that fits no area
 * fails the test, so that a new folder gets its rule when it is made.
 */
export const areaRules: Readonly<Record<string, AreaRule>> = {
  contract: { mayImport: [], because: "the contract is what compiler and runtime share; it stands on nothing" },
  "compiler/notation": { mayImport: ["contract"], because: "a notation is text to syntax tree, it knows no graph" },
  "compiler/graph/dim.ts": { mayImport: ["contract"], because: "sizes are spelled alike in graphs, kernels and plans" },
  "compiler/graph": {
    mayImport: ["compiler/graph/dim.ts", "compiler/notation", "contract"],
    because: "the Graph language knows no operators",
  },
  "compiler/ops": {
    mayImport: graphLanguage,
    because: "an operator record is written in the Graph language",
  },
  "compiler/language": {
    mayImport: [...graphLanguage, "compiler/passes/differentiate.ts"],
    because: "what a model file imports builds graphs, nothing later; a training step is a graph with gradients",
  },
  "compiler/read-model.ts": {
    mayImport: ["contract"],
    because: "a model whose plan is kept is read, and nothing more",
  },
  "compiler/load-model.ts": {
    mayImport: [...graphLanguage, "compiler/language", "compiler/read-model.ts"],
    because: "a model file is language, whoever compiles it",
  },
  "compiler/passes/differentiate.ts": {
    mayImport: graphLanguage,
    because: "gradients are Graph to Graph by the operators' own rules",
  },
  "compiler/passes": {
    mayImport: [...graphLanguage, "compiler/passes/differentiate.ts", "compiler/parallel"],
    because: "a pass is Graph to Graph; the shard pass applies the rules of compiler/parallel",
  },
  "compiler/parallel": { mayImport: graphLanguage, because: "sharding rules are about graphs and run inside a pass" },
  "compiler/kernels": { mayImport: graphLanguage, because: "kernels are made from graphs and know no target" },
  "compiler/plan": {
    mayImport: ["compiler/kernels", "compiler/graph", "compiler/graph/dim.ts", "compiler/notation", "contract"],
    because: "a plan orders kernels; it knows neither operators nor targets",
  },
  "compiler/targets": {
    mayImport: ["compiler/kernels", "compiler/plan", "compiler/graph/dim.ts", "compiler/notation", "contract"],
    because: "a target prints kernels; graphs are behind it",
  },
  "compiler/reference": {
    mayImport: graphLanguage,
    because: "the oracle must not share code with what it judges",
  },
  "compiler/report": {
    mayImport: wholeCompiler,
    because: "reports read every stage, the commands read reports",
  },
  "compiler/pipeline.ts": {
    mayImport: wholeCompiler,
    because: "the pipeline is the compiler's story, without commands",
  },
  "compiler/emit": {
    mayImport: ["contract"],
    because: "a training binary is a plan and the runtime's sources; how the plan came about is behind it",
  },
  "compiler/demo": {
    mayImport: ["contract", "runtime"],
    because: "the demo draws, measures, and types commands as a user would; it reaches into no stage",
  },
  "compiler/commands": {
    mayImport: [...wholeCompiler, "compiler/emit", "compiler/demo", "compiler/cli.ts", "runtime"],
    because: "only commands may know the runtime",
  },
  "compiler/cli.ts": {
    mayImport: [...wholeCompiler, "compiler/commands", "runtime"],
    because: "only commands may know the runtime",
  },
  runtime: { mayImport: ["contract"], because: "the training binary carries no compiler" },
  models: { mayImport: ["compiler/language"], because: "our models are written as a user's are" },
};

export interface SourceFile {
  /** Relative to the repository, with forward slashes. */
  readonly path: string;
  readonly text: string;
}

interface ImportStatement {
  readonly specifier: string;
  readonly line: number;
}

/** Import and export declarations, `import("…")`, `require("…")` and `import("…").Type`; types count like values. */
export function importsOf({ path, text }: SourceFile): readonly ImportStatement[] {
  const tree = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
  const found: ImportStatement[] = [];
  const record = (node: ts.Node | undefined): void => {
    if (node === undefined || !ts.isStringLiteralLike(node)) return;
    const { line } = tree.getLineAndCharacterOfPosition(node.getStart(tree));
    found.push({ specifier: node.text, line: line + 1 });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) record(node.moduleSpecifier);
    if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) record(node.argument.literal);
    if (ts.isCallExpression(node)) {
      const isImport = node.expression.kind === ts.SyntaxKind.ImportKeyword;
      const isRequire = ts.isIdentifier(node.expression) && node.expression.text === "require";
      if (isImport || isRequire) record(node.arguments[0]);
    }
    ts.forEachChild(node, visit);
  };
  visit(tree);
  return found;
}

export function areaOf(path: string): string | undefined {
  const fitting = Object.keys(areaRules).filter((area) => path === area || path.startsWith(`${area}/`));
  return fitting.sort((a, b) => b.length - a.length)[0];
}

/** The repository path an import leads to, or the package it names. */
function targetOf(from: string, specifier: string): { readonly path: string } | { readonly packageName: string } {
  if (specifier.startsWith(".")) return { path: posix.join(posix.dirname(from), specifier) };
  if (specifier === "soracc") return { path: "compiler/language/index.ts" };
  const parts = specifier.split("/");
  return { packageName: parts.slice(0, specifier.startsWith("@") ? 2 : 1).join("/") };
}

/**
 * The broken rules of one file, each named by file, line, import and rule; empty when there are none.
 *
 * @param dependencies the packages a user's installation has: `dependencies` of package.json, no development packages
 */
export function brokenRules(file: SourceFile, dependencies: ReadonlySet<string>): readonly string[] {
  const area = areaOf(file.path);
  const rule = area === undefined ? undefined : areaRules[area];
  if (area === undefined || rule === undefined) {
    return [`${file.path}: no rule covers this file; add its folder to areaRules in test/rules/import-rules.ts`];
  }
  const broken: string[] = [];
  for (const { specifier, line } of importsOf(file)) {
    const where = `${file.path}:${line}: imports "${specifier}"`;
    const target = targetOf(file.path, specifier);
    if ("packageName" in target) {
      const isBuiltin = specifier.startsWith("node:");
      if (isBuiltin || dependencies.has(target.packageName)) continue;
      broken.push(
        builtinModules.includes(specifier)
          ? `${where}; write "node:${specifier}"`
          : `${where}, which package.json does not list under dependencies`,
      );
      continue;
    }
    const targetArea = areaOf(target.path);
    if (targetArea === area || (targetArea !== undefined && rule.mayImport.includes(targetArea))) continue;
    const allowed = rule.mayImport.length === 0 ? "nothing of ours" : rule.mayImport.join(", ");
    broken.push(`${where} (${targetArea ?? target.path}); ${area} may import ${allowed}: ${rule.because}`);
  }
  return broken;
}
