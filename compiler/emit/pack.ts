/** Bytes to text that fits into a script. */
import { createHash } from "node:crypto";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import type { Packed } from "../../contract/payload.ts";

const compress = promisify(gzip);

export const pack = async (bytes: Uint8Array): Promise<Packed> => ({
  gzip: (await compress(bytes, { level: 6 })).toString("base64"),
  sha256: createHash("sha256").update(bytes).digest("hex"),
});
