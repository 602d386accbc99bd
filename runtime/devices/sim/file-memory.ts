/**
 * The memory of the simulated GPU: a file, which the process that runs kernels maps at the address where it begins here.
 * It lies in a folder of memory where there is one with room, else among temporary files.
 */
import { closeSync, ftruncateSync, mkdtempSync, openSync, readdirSync, readSync, rmSync, statfsSync, writeSync } from "node:fs"; // prettier-ignore
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isAlive, isSystemError } from "../../../contract/atomic-file.ts";
import { CompilerBug, Diagnostic } from "../../../contract/diagnostic.ts";
import { bytesOf } from "../../../contract/dtype.ts";
import type { Memory } from "../bound/engine.ts";
import { printBytes } from "../bound/memory.ts";
import { availableMemory } from "../cpu/memory.ts";
import { bytesFrom, elementsIn } from "../element-bytes.ts";

export interface FileMemory extends Memory {
  readonly path: string;
  /** The address of the file's first byte. */
  readonly base: number;
  /** The file's length, whole pages. */
  readonly bytes: number;
  /** Removes the file. */
  close(): void;
}

interface Range {
  readonly at: number;
  readonly bytes: number;
}

/** Far from everything that a process maps by itself. */
const BASE = 2 ** 40;
/** As GPUs align what they allocate. */
const ALIGNMENT = 256;
const PAGE = 4096;
/** What is written or read at once. */
const PIECE = 2 ** 22;
/** A memory folder with less room than this is left to others (containers often have 64 MiB of it). */
const ENOUGH = 2 ** 30;
const MEMORY_FOLDER = "/dev/shm";
const NAME = "soracc-sim-";

export function openFileMemory(): FileMemory {
  const parent = freeBytes(MEMORY_FOLDER) >= ENOUGH ? MEMORY_FOLDER : tmpdir();
  removeAbandoned(parent);
  const folder = mkdtempSync(join(parent, `${NAME}${process.pid}-`));
  const path = join(folder, "memory");
  const file = openSync(path, "wx+", 0o600);
  const remove = (): void => rmSync(folder, { recursive: true, force: true });
  process.once("exit", remove);
  const spare: Range[] = []; // ascending, never adjacent
  let end = 0; // of what was ever allocated

  const sizeOf = (bytes: number): number => Math.max(ALIGNMENT, Math.ceil(bytes / ALIGNMENT) * ALIGNMENT);

  function fill(address: number, byte: number, bytes: number): void {
    const piece = Buffer.alloc(Math.min(bytes, PIECE), byte);
    for (let done = 0; done < bytes;) {
      done += writeSync(file, piece, 0, Math.min(bytes - done, PIECE), address - BASE + done);
    }
  }

  function readBytes(address: number, bytes: number): Uint8Array<ArrayBuffer> {
    const all = new Uint8Array(bytes);
    for (let done = 0; done < bytes;) {
      const got = readSync(file, all, done, Math.min(bytes - done, PIECE), address - BASE + done);
      if (got === 0) throw new CompilerBug("the simulator", `its memory ends ${bytes - done} bytes early`);
      done += got;
    }
    return all;
  }

  const checkRoom = (what: string, room: number, bytes: number): void => {
    if (bytes > room) throw new RangeError(`${what} ${bytes} bytes where ${room} belong to the buffer`);
  };

  return {
    path,
    base: BASE,
    get bytes() {
      return Math.ceil(end / PAGE) * PAGE;
    },
    allocate(bytes, purpose) {
      const size = sizeOf(bytes);
      const index = spare.findIndex((range) => range.bytes >= size);
      const at = index < 0 ? end : spare[index]!.at;
      // Every byte is written now: a page without room behind it would end the simulator with a signal when touched.
      try {
        fill(BASE + at, 0, size);
        if (index < 0) ftruncateSync(file, Math.ceil((at + size) / PAGE) * PAGE);
      } catch (error) {
        throw isSystemError(error) ? noRoom(parent, bytes, purpose) : error;
      }
      if (index < 0) end = at + size;
      else {
        const rest = { at: at + size, bytes: spare[index]!.bytes - size };
        spare.splice(index, 1, ...(rest.bytes > 0 ? [rest] : []));
      }
      return BASE + at;
    },
    release(address, bytes) {
      const at = address - BASE;
      const index = spare.findIndex((range) => range.at > at);
      spare.splice(index < 0 ? spare.length : index, 0, { at, bytes: sizeOf(bytes) });
      joinNeighbours(spare);
    },
    write(address, room, dtype, values) {
      const bytes = bytesFrom(dtype, values);
      checkRoom("writing", room, bytes.length);
      for (let done = 0; done < bytes.length;) {
        done += writeSync(file, bytes, done, Math.min(bytes.length - done, PIECE), address - BASE + done);
      }
    },
    read(address, room, dtype, count) {
      checkRoom("reading", room, count * bytesOf(dtype));
      return elementsIn(dtype, readBytes(address, count * bytesOf(dtype)));
    },
    fill,
    differs(address, byte, bytes) {
      for (let done = 0; done < bytes; done += PIECE) {
        const found = readBytes(address + done, Math.min(bytes - done, PIECE)).findIndex((value) => value !== byte);
        if (found >= 0) return done + found;
      }
      return -1;
    },
    available: () => Math.min(availableMemory(), freeBytes(parent)),
    close() {
      closeSync(file);
      process.off("exit", remove);
      remove();
    },
  };
}

/** Ascending ranges, in place: those that touch become one. */
function joinNeighbours(ranges: Range[]): void {
  for (let i = ranges.length - 1; i > 0; i--) {
    const [before, after] = [ranges[i - 1]!, ranges[i]!];
    if (before.at + before.bytes !== after.at) continue;
    ranges.splice(i - 1, 2, { at: before.at, bytes: before.bytes + after.bytes });
  }
}

function freeBytes(folder: string): number {
  try {
    const disk = statfsSync(folder);
    return disk.bavail * disk.bsize;
  } catch {
    return 0;
  }
}

/** Folders of processes that were killed. */
function removeAbandoned(parent: string): void {
  for (const name of readdirSync(parent)) {
    const [, writer] = /^soracc-sim-(\d+)-/.exec(name) ?? [];
    if (writer === undefined || isAlive(Number(writer))) continue;
    try {
      rmSync(join(parent, name), { recursive: true, force: true });
    } catch {
      // another user's
    }
  }
}

const noRoom = (folder: string, bytes: number, purpose: string): Diagnostic =>
  new Diagnostic({
    kind: "memory",
    message: `the simulated GPU has no room for ${printBytes(bytes)} of ${purpose}`,
    details: [`its memory is a file in ${folder}, where ${printBytes(freeBytes(folder))} are free`],
    fix: "make room there, or simulate a smaller batch",
  });
