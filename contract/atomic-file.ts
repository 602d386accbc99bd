/**
 * Replaces a file all at once, or not at all.
 *
 * The bytes go to a temporary name in the same folder; they are flushed to the disk, and only then take the final name.
 * A reader sees the old file or the new one, never a part; a failure removes the temporary file and leaves the old one.
 */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statfsSync,
  writeSync,
} from "node:fs";
import { hostname } from "node:os";
import { basename, dirname, join } from "node:path";
import { Diagnostic } from "./diagnostic.ts";

/** Writes up to `length` bytes and returns how many it wrote, as `fs.writeSync` does. Tests inject their own. */
export type WriteBytes = (descriptor: number, bytes: Uint8Array, offset: number, length: number) => number;

export interface AtomicWriteOptions {
  /** The kind of the Diagnostic when writing fails: `checkpoint`, `video`. */
  readonly kind: string;
  /** The size of the whole file, for the message when the disk is full. */
  readonly bytesNeeded?: number | undefined;
  readonly write?: WriteBytes | undefined;
}

/** Node refuses single writes of 2 GiB and more; smaller pieces also keep the page cache flowing to the disk. */
const CHUNK_BYTES = 64 * 2 ** 20;

/** Codes that mean "there is no room", whichever way the file system says it. */
const NO_ROOM = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** Some file systems cannot flush a folder; the rename is then as durable as they allow. */
const FOLDER_FLUSH_UNSUPPORTED = new Set(["EINVAL", "ENOTSUP", "EPERM", "EISDIR", "EBADF"]);

/** @throws Diagnostic of `options.kind` when the file cannot be written; what was at `path` before is then intact. */
export function writeFileAtomically(path: string, chunks: Iterable<Uint8Array>, options: AtomicWriteOptions): void {
  const temporary = temporaryName(path);
  const write: WriteBytes = options.write ?? ((fd, bytes, offset, length) => writeSync(fd, bytes, offset, length));
  let descriptor: number | undefined;
  try {
    descriptor = openSync(temporary, "wx");
    for (const chunk of chunks) writeAll(descriptor, chunk, write);
    fsyncSync(descriptor);
    closeSync(descriptor);
    descriptor = undefined;
    renameSync(temporary, path);
  } catch (error) {
    if (descriptor !== undefined) closeQuietly(descriptor);
    // The free space is measured before the temporary file gives its own back.
    const failure = isSystemError(error) ? writeFailure(path, error, options) : error;
    rmSync(temporary, { force: true });
    throw failure;
  }
  flushFolder(dirname(path));
}

/** Gives `path` to a file that another program finished under a temporary name, flushing it first. */
export function replaceWithFinished(temporary: string, path: string, kind: string): void {
  try {
    const descriptor = openSync(temporary, "r+");
    try {
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw isSystemError(error) ? writeFailure(path, error, { kind }) : error;
  }
  flushFolder(dirname(path));
}

/** Makes a folder and those above it. @throws Diagnostic of `kind` */
export function ensureFolder(folder: string, kind: string): void {
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw new Diagnostic({
      kind,
      message: `the folder ${folder} cannot be made`,
      details: [error instanceof Error ? error.message : String(error)],
      fix: "choose a folder this user can write to",
    });
  }
}

/** `.step-000200.safetensors.HOST.PID.RANDOM.partial`: hidden, beside its file, and traceable to its writer. */
export function temporaryName(path: string): string {
  const writer = `${hostname()}.${process.pid}.${randomBytes(4).toString("hex")}`;
  return join(dirname(path), `.${basename(path)}.${writer}.partial`);
}

/** Removes what killed processes of this machine left behind in a folder; returns the names removed. */
export function removeAbandoned(folder: string): string[] {
  const abandoned = readdirSync(folder).filter((name) => {
    const match = /^\..+\.(\d+)\.[0-9a-f]{8}\.partial$/.exec(name);
    if (match === null || !name.includes(`.${hostname()}.`)) return false;
    return !isAlive(Number(match[1]));
  });
  for (const name of abandoned) rmSync(join(folder, name), { force: true });
  return abandoned;
}

/** A short write is no error to Node, so the loop goes on until every byte is down; a write of nothing is a full disk. */
function writeAll(descriptor: number, bytes: Uint8Array, write: WriteBytes): void {
  for (let done = 0; done < bytes.byteLength;) {
    const wanted = Math.min(bytes.byteLength - done, CHUNK_BYTES);
    const written = write(descriptor, bytes, done, wanted);
    if (written <= 0) throw Object.assign(new Error("the disk took no more bytes"), { code: "ENOSPC" });
    done += written;
  }
}

export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && "code" in error && typeof error.code === "string";
}

function writeFailure(path: string, error: NodeJS.ErrnoException, options: AtomicWriteOptions): Diagnostic {
  const folder = dirname(path);
  const full = NO_ROOM.has(error.code ?? "");
  const details: string[] = [];
  if (full && options.bytesNeeded !== undefined) details.push(`needed     ${formatBytes(options.bytesNeeded)}`);
  if (full) details.push(`available  ${formatAvailable(folder)} in ${folder}`);
  if (!full) details.push(error.message);
  return new Diagnostic({
    kind: options.kind,
    message: full ? `the disk is full, ${path} was not written` : `${path} cannot be written (${error.code})`,
    details: [...details, "what was saved before is untouched"],
    fix: full
      ? `free some space in ${folder}, or write to another disk`
      : (FIXES[error.code ?? ""] ?? "see the reason above"),
  });
}

const FIXES: Readonly<Record<string, string>> = {
  EACCES: "give this user the right to write in that folder, or choose another one",
  EPERM: "give this user the right to write in that folder, or choose another one",
  EROFS: "choose a folder on a disk that can be written",
  ENOENT: "make the folder first, or correct its name",
  ENOTDIR: "a part of the path is a file; choose another name",
  EISDIR: "there is a folder of that name; choose another name",
  ENAMETOOLONG: "choose a shorter name",
};

function formatAvailable(folder: string): string {
  try {
    const disk = statfsSync(folder);
    return formatBytes(disk.bavail * disk.bsize);
  } catch {
    return "unknown";
  }
}

/** `1.5 GB`: powers of 1000, three digits. */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = Math.min(bytes < 1 ? 0 : Math.floor(Math.log10(bytes) / 3), units.length - 1);
  return `${Number((bytes / 1000 ** power).toPrecision(3))} ${units[power] ?? ""}`;
}

/** The name change itself is only durable once the folder is flushed. */
function flushFolder(folder: string): void {
  try {
    const descriptor = openSync(folder, "r");
    try {
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    if (!isSystemError(error) || !FOLDER_FLUSH_UNSUPPORTED.has(error.code ?? "")) throw error;
  }
}

function closeQuietly(descriptor: number): void {
  try {
    closeSync(descriptor);
  } catch {
    // The failure that brought us here is the one to report.
  }
}

/** Whether a process of this machine runs. */
export function isAlive(processId: number): boolean {
  try {
    process.kill(processId, 0);
    return true;
  } catch (error) {
    return isSystemError(error) && error.code === "EPERM";
  }
}
