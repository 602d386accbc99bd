/**
 * Templates: where the structure of a kernel is written down. `render` fills one in and lays the result out, so that a
 * template need not care how deep its partials stand.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import Handlebars from "handlebars";
import { CompilerBug } from "../../contract/diagnostic.ts";

export type Render = (template: string, context: object) => string;

/** The folder with the templates of every target. `bin/soracc.js` names the package root; tests run inside it. */
export function templateFolder(target: string): string {
  const root = process.env["SORACC_ROOT"] ?? fileURLToPath(new URL("../..", import.meta.url));
  const folder = join(root, "templates", target);
  if (existsSync(folder)) return folder;
  throw new Error(`the package has no folder ${folder}\n  fix: install soracc again`);
}

/**
 * A renderer for the templates of one target: `map.cpp.hbs` is rendered by `render("map.cpp", …)`; every template
 * whose name starts with `_` is a partial, `_head.cpp.hbs` being `{{> head}}`.
 */
export function templatesOf(target: string): Render {
  const folder = templateFolder(target);
  const engine = Handlebars.create();
  const compiled = new Map<string, Handlebars.TemplateDelegate>();
  const options = { noEscape: true, strict: true, knownHelpersOnly: true } as const;
  for (const file of readdirSync(folder)) {
    if (!file.endsWith(".hbs")) continue;
    const template = engine.compile(readFileSync(join(folder, file), "utf8"), options);
    if (file.startsWith("_")) engine.registerPartial(file.slice(1).replace(/\..*$/, ""), template);
    else compiled.set(file.replace(/\.hbs$/, ""), template);
  }
  return (name, context) => {
    const template = compiled.get(name);
    if (template === undefined) throw new CompilerBug("targets", `${target} has no template ${name}`);
    return layOut(template(context));
  };
}

/** The first and the last line of a named namespace: what is in it stands as if it were outside. */
const NAMESPACE = /^(?:namespace \w+ \{|\} +\/\/ namespace \w+)$/;

/** Two spaces per open brace or parenthesis, directives of the preprocessor with the code, no double blank lines. */
export function layOut(source: string): string {
  const lines: string[] = [];
  let depth = 0;
  for (const line of source.split("\n")) {
    const text = line.trim();
    const previous = lines.at(-1);
    if (text === "" && (previous === undefined || previous === "" || previous.endsWith("{"))) continue;
    if (text.startsWith("}") && previous === "") lines.pop();
    const code = text.replace(/\/\/.*$/, "").replace(/"(?:[^"\\]|\\.)*"/g, "");
    const closing = NAMESPACE.test(text) ? 0 : (/^[)\]}]+/.exec(code)?.[0].length ?? 0);
    const indent = text === "" ? "" : "  ".repeat(Math.max(0, depth - closing));
    lines.push(indent + text);
    if (NAMESPACE.test(text)) continue;
    depth += count(code, /[([{]/g) - count(code, /[)\]}]/g);
  }
  return `${lines.join("\n").trim()}\n`;
}

const count = (text: string, pattern: RegExp): number => text.match(pattern)?.length ?? 0;
