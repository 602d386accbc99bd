/** Where a training binary starts. */
import type { Payload } from "../contract/payload.ts";
import { main } from "./main.ts";

/** Given by the script around the bundle, see compiler/emit/binary-text.ts. */
declare const SORACC_PAYLOAD: Payload;

void main(process.argv.slice(2), SORACC_PAYLOAD).then((exitCode) => {
  process.exitCode = exitCode;
});
