/** The runtime and everything it imports as one script: a function body that works in any kind of module. */
import { join } from "node:path";
import { CompilerBug } from "../../contract/diagnostic.ts";

/**
 * Names stay readable. koffi alone is left out: its package looks for its addon in node_modules, the binary brings the
 * addon along (see runtime/devices/cpu/host.ts).
 */
export async function bundleRuntime(root: string): Promise<string> {
  const esbuild = await import("esbuild");
  const result = await esbuild.build({
    absWorkingDir: root,
    entryPoints: [join(root, "runtime", "entry.ts")],
    bundle: true,
    write: false,
    format: "cjs",
    platform: "node",
    target: "node20",
    external: ["koffi"],
    charset: "utf8",
    legalComments: "inline",
    logLevel: "silent",
  });
  const text = result.outputFiles[0]?.text;
  if (text === undefined) throw new CompilerBug("emit", "the runtime was bundled to nothing");
  return text;
}
