/** A plan becomes one executable file. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Packed } from "../../contract/payload.ts";
import type { Plan } from "../../contract/plan.ts";
import { binaryText } from "./binary-text.ts";
import { bundleRuntime } from "./bundle-runtime.ts";
import { cudaSources } from "./cuda-sources.ts";
import { nativeAddons } from "./native-addon.ts";
import { nativeSources } from "./native-sources.ts";
import { writeBinary } from "./write-binary.ts";

export interface EmitRequest {
  readonly plan: Plan;
  /** The same, as the binary carries it. */
  readonly packed: Packed;
  readonly output: string;
  /** Where the package lies: templates, runtime sources, node_modules. */
  readonly root: string;
  /** Lines for whoever opens the file. */
  readonly about: readonly string[];
  /** Replace a file that soracc did not write. */
  readonly force: boolean;
}

/** Returns the bytes written. @throws Diagnostic when the file cannot be written or koffi's addon is missing */
export async function emitBinary({ plan, packed, output, root, about, force }: EmitRequest): Promise<number> {
  const runtime = await bundleRuntime(root);
  const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { readonly version: string };
  const text = binaryText({
    about,
    runtime,
    payload: {
      soracc: manifest.version,
      plan: packed,
      ...(plan.target === "cuda" ? { prelude: cudaSources(root).prelude } : nativeSources(root)),
      addons: nativeAddons(root),
    },
  });
  return writeBinary(output, text, force);
}
