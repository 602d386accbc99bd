/** The C++ that every plan stands on: what kernels include, and the host that runs them. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface NativeSources {
  /** Texts of templates/prelude and templates/cpu/prelude by file name. */
  readonly prelude: Readonly<Record<string, string>>;
  /** Text of templates/cpu/host/executor.cpp. */
  readonly hostSource: string;
}

/** `root` is where the package lies. */
export function nativeSources(root = process.env["SORACC_ROOT"] ?? process.cwd()): NativeSources {
  const templates = join(root, "templates");
  return {
    prelude: { ...textsOf(join(templates, "prelude")), ...textsOf(join(templates, "cpu", "prelude")) },
    hostSource: readFileSync(join(templates, "cpu", "host", "executor.cpp"), "utf8"),
  };
}

/** The texts of a folder's files by name. */
export const textsOf = (folder: string): Readonly<Record<string, string>> =>
  Object.fromEntries(
    readdirSync(folder)
      .sort()
      .map((name) => [name, readFileSync(join(folder, name), "utf8")]),
  );
