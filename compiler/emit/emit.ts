/** A plan becomes one executable file. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Addon, Packed } from "../../contract/payload.ts";
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
  readonly parts: BinaryParts;
  readonly output: string;
  /** Where the package lies: templates, runtime sources, node_modules. */
  readonly root: string;
  /** Lines for whoever opens the file. */
  readonly about: readonly string[];
  /** Replace a file that soracc did not write. */
  readonly force: boolean;
}

/** What does not depend on the model. */
export interface BinaryParts {
  readonly runtime: string;
  readonly addons: readonly Addon[];
}

/** @throws Diagnostic when koffi's addon is missing */
export async function partsOfBinary(root: string): Promise<BinaryParts> {
  const [runtime, addons] = await Promise.all([bundleRuntime(root), nativeAddons(root)]);
  return { runtime, addons };
}

/** Returns the bytes written. @throws Diagnostic when the file cannot be written */
export function emitBinary({ plan, packed, parts, output, root, about, force }: EmitRequest): number {
  const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { readonly version: string };
  const text = binaryText({
    about,
    runtime: parts.runtime,
    payload: {
      soracc: manifest.version,
      plan: packed,
      ...(plan.target === "cuda" ? { prelude: cudaSources(root).prelude } : nativeSources(root)),
      addons: parts.addons,
    },
  });
  return writeBinary(output, text, force);
}
