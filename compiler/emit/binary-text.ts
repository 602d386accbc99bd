/**
 * The text of a training binary: one script that Node runs whatever lies around it.
 *
 * A file without extension is CommonJS in one folder and an ES module in the next: the package.json above it decides,
 * and a script that guesses wrong may even exit with 0 and do nothing. This text uses no syntax and no variable that
 * only one of the two has: no import, no export, no `require` that Node would have to provide, no await at the top.
 */
import type { Payload } from "../../contract/payload.ts";
import { BINARY_MARK } from "../../contract/payload.ts";

export interface BinaryParts {
  /** For people who open the file: `dit, 33 M parameters, 41 kernels`. */
  readonly about: readonly string[];
  readonly runtime: string;
  readonly payload: Payload;
}

export function binaryText({ about, runtime, payload }: BinaryParts): string {
  return [
    "#!/usr/bin/env node",
    `${BINARY_MARK}, written by soracc ${payload.soracc}`,
    ...about.flatMap((line) => line.split("\n")).map((line) => `// ${line}`),
    '"use strict";',
    NEEDS_NODE,
    "(function (require, module, SORACC_PAYLOAD) {",
    runtime,
    '})(process.getBuiltinModule("node:module").createRequire(process.execPath), { exports: {} }, {',
    ...Object.entries(payload).map(([name, value]) => `${JSON.stringify(name)}: ${JSON.stringify(value)},`),
    "});",
    "",
  ].join("\n");
}

/** Older versions lack getBuiltinModule, the one way to `require` from both kinds of script. */
const NEEDS_NODE = `if (typeof process.getBuiltinModule !== "function") {
  process.stderr.write("Node 20.19 or newer is needed, this is " + process.versions.node + "\\n  fix: install a newer Node from https://nodejs.org\\n");
  process.exit(1);
}`;
