/** The C++ that every plan stands on: what kernels include, and the host that runs them. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface NativeSources {
  /** Texts of templates/cpu/prelude by file name. */
  readonly prelude: Readonly<Record<string, string>>;
  /** Text of templates/cpu/host/executor.cpp. */
  readonly hostSource: string;
}

/** `root` is where the package lies. */
export function nativeSources(root = process.env["SORACC_ROOT"] ?? process.cwd()): NativeSources {
  const templates = join(root, "templates", "cpu");
  const folder = join(templates, "prelude");
  const names = readdirSync(folder).sort();
  return {
    prelude: Object.fromEntries(names.map((name) => [name, readFileSync(join(folder, name), "utf8")])),
    hostSource: readFileSync(join(templates, "host", "executor.cpp"), "utf8"),
  };
}
