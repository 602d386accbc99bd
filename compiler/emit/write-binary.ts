/** Puts a training binary in its place: whole, executable, and over nothing that is not ours. */
import { chmodSync, closeSync, lstatSync, openSync, readSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { ensureFolder, replaceWithFinished, temporaryName, writeFileAtomically } from "../../contract/atomic-file.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { BINARY_MARK } from "../../contract/payload.ts";

/**
 * @param force replaces a file that soracc did not write
 * @returns the bytes written
 * @throws Diagnostic when the path is taken by something else, or cannot be written
 */
export function writeBinary(path: string, text: string, force: boolean): number {
  checkPlace(path, force);
  const bytes = new TextEncoder().encode(text);
  ensureFolder(dirname(path), "binary");
  // Executable before it has its name: whoever sees the file can run it.
  const finished = temporaryName(path);
  writeFileAtomically(finished, [bytes], { kind: "binary", bytesNeeded: bytes.byteLength });
  const { mode } = statSync(finished);
  chmodSync(finished, mode | ((mode & 0o444) >> 2)); // whoever may read it may run it
  replaceWithFinished(finished, path, "binary");
  return bytes.byteLength;
}

/** Asked before the work of compiling, too. @throws Diagnostic */
export function checkPlace(path: string, force: boolean): void {
  const facts = lstatSync(path, { throwIfNoEntry: false });
  if (facts === undefined || (facts.isFile() && (force || isOurs(path)))) return;
  throw new Diagnostic({
    kind: "output",
    message: facts.isDirectory()
      ? `${path} is a folder`
      : `${path} exists and is not a training binary that soracc wrote`,
    fix: facts.isFile() ? "choose another name with -o, or replace it with --force" : "choose another name with -o",
  });
}

function isOurs(path: string): boolean {
  const head = Buffer.alloc(256);
  const descriptor = openSync(path, "r");
  try {
    readSync(descriptor, head, 0, head.length, 0);
  } finally {
    closeSync(descriptor);
  }
  return head.toString("latin1").split("\n")[1]?.startsWith(BINARY_MARK) === true;
}
