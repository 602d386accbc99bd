/** What every training binary carries, whatever its model, kept for one state of the compiler. */
import { hashOf, keptText, openCacheFolder } from "../../../runtime/devices/cpu/cache-folder.ts";
import { partsOfBinary, type BinaryParts } from "../../emit/emit.ts";

/** @throws Diagnostic when koffi's addon is missing */
export async function keptParts(root: string): Promise<BinaryParts> {
  const build = process.env["SORACC_BUILD"];
  if (build === undefined) return partsOfBinary(root);
  const cache = await openCacheFolder(undefined, () => undefined); // plans go there too, and tell when they cannot
  const key = hashOf("parts of binaries", build, process.platform, process.arch);
  return JSON.parse(await keptText(cache, key, async () => JSON.stringify(await partsOfBinary(root)))) as BinaryParts;
}
