/** Bytes to text that fits into a script. */
import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import type { Packed } from "../../contract/payload.ts";

export const pack = (bytes: Uint8Array): Packed => ({
  gzip: gzipSync(bytes, { level: 6 }).toString("base64"),
  sha256: createHash("sha256").update(bytes).digest("hex"),
});
