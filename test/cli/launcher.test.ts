// bin/soracc.js as it is started by a user, on a small package made for the purpose.
import { cpSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

const repository = fileURLToPath(new URL("../../", import.meta.url));

const commandLineSource = `
import { z } from "zod";
import { counter } from "./language/index.ts";
export async function main(commandLine: readonly string[]): Promise<number> {
  if (commandLine[0] === "crash") throw new Error("a planted fault");
  const language = await import(process.env["SORACC_LANGUAGE"]!);
  console.log(JSON.stringify({
    words: z.array(z.string()).parse(commandLine),
    root: process.env["SORACC_ROOT"],
    shared: language.counter === counter,
  }));
  return 7;
}
`;

let root = "";

function write(path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

function install(): void {
  mkdirSync(join(root, "node_modules"));
  for (const name of ["esbuild", "zod"]) {
    symlinkSync(join(repository, "node_modules", name), join(root, "node_modules", name));
  }
}

const start = (commandLine: readonly string[], environment: Record<string, string> = {}) =>
  execa(process.execPath, [join(root, "bin", "soracc.js"), ...commandLine], { reject: false, env: environment });

const bundles = (folder = join(root, "node_modules", ".cache", "soracc")) =>
  readdirSync(folder).filter((name) => name !== "code" && name !== "node_modules");

beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), "soracc-launcher-"))); // the launcher reports the real path
  mkdirSync(join(root, "bin"));
  cpSync(join(repository, "bin", "soracc.js"), join(root, "bin", "soracc.js"));
  write("package.json", '{ "name": "soracc", "version": "0.0.0", "type": "module" }');
  write("compiler/cli.ts", commandLineSource);
  write("compiler/language/index.ts", "export const counter: object = {};\n");
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

describe("the launcher", () => {
  test("says what to run when nothing is installed", async () => {
    const { exitCode, stdout, stderr } = await start(["--help"]);
    expect(exitCode).toBe(1);
    expect(stdout).toBe("");
    expect(stderr).toContain("npm ci --ignore-scripts");
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  test("passes on arguments, root and exit code, and shares the language's modules with models", async () => {
    install();
    const { exitCode, stdout, stderr } = await start(["compile", "a b"]);
    expect(stderr).toBe("");
    expect(JSON.parse(stdout)).toEqual({ words: ["compile", "a b"], root, shared: true });
    expect(exitCode).toBe(7);
  });

  test("bundles once, and again after a change", async () => {
    install();
    await start([]);
    await start([]);
    expect(bundles()).toHaveLength(1);
    write("runtime/added.ts", "export const added = true;\n");
    await start([]);
    expect(bundles()).toHaveLength(2);
  });

  test("survives first starts at the same time", async () => {
    install();
    const runs = await Promise.all([1, 2, 3, 4].map((number) => start([String(number)])));
    expect(runs.map(({ exitCode, stderr }) => ({ exitCode, stderr }))).toEqual(
      runs.map(() => ({ exitCode: 7, stderr: "" })),
    );
    expect(bundles()).toHaveLength(1);
  });

  test("uses the user's cache when node_modules cannot be written", async () => {
    install();
    writeFileSync(join(root, "node_modules", ".cache"), "a file where the folder would be");
    const cache = join(root, "cache of the user");
    const { exitCode, stderr } = await start([], { XDG_CACHE_HOME: cache });
    expect(stderr).toBe("");
    expect(exitCode).toBe(7);
    expect(readdirSync(join(cache, "soracc", "launcher"))).toHaveLength(1);
  });

  test("works through the link npm makes", async () => {
    install();
    const link = join(root, "node_modules", "soracc-link");
    symlinkSync(join(root, "bin", "soracc.js"), link);
    const { exitCode } = await execa(process.execPath, [link], { reject: false });
    expect(exitCode).toBe(7);
  });

  test("reports sources that do not build by file and line", async () => {
    install();
    write("compiler/language/index.ts", "export const counter = {};\nexport const = 3;\n");
    const { exitCode, stderr } = await start([]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("compiler/language/index.ts:2:13");
    expect(stderr).not.toMatch(/^\s+at /m);
    expect(bundles()).toEqual([]);
  });

  test("shows a stack only on demand, with TypeScript positions", async () => {
    install();
    const { exitCode, stderr } = await start(["crash"]);
    expect(exitCode).toBe(1);
    expect(stderr).toContain("compiler bug: a planted fault");
    expect(stderr).not.toMatch(/^\s+at /m);
    const debug = await start(["crash"], { SORACC_DEBUG: "1" });
    expect(debug.stderr).toContain("compiler/cli.ts:5");
  });
});
