/** Memory of a GPU: zeroed when allocated, reached through pinned memory on a stream of its own. */
import { CompilerBug, Diagnostic } from "../../../contract/diagnostic.ts";
import { bytesOf } from "../../../contract/dtype.ts";
import type { Memory } from "../bound/engine.ts";
import { printBytes } from "../bound/memory.ts";
import { bytesFrom, elementsIn } from "../element-bytes.ts";
import type { Driver } from "./driver.ts";

export interface GpuMemory extends Memory {
  close(): void;
}

/** Bytes of one copy. There are two pieces: while one travels, the other is filled or emptied. */
const PIECE = 2 ** 23;

/** How many of the largest allocations are named when there is no room. */
const NAMED = 6;

export function gpuMemory(driver: Driver): GpuMemory {
  const stream = driver.createStream();
  const pinned = driver.allocatePinned(2 * PIECE);
  const travelled = [driver.createEvent(false), driver.createEvent(false)] as const;
  const held = new Map<number, { readonly purpose: string; readonly bytes: number }>();

  const checkRoom = (what: string, room: number, bytes: number): void => {
    if (bytes > room) throw new RangeError(`${what} ${bytes} bytes where ${room} belong to the buffer`);
  };
  const half = (which: 0 | 1): Uint8Array => pinned.bytes.subarray(which * PIECE, (which + 1) * PIECE);
  /** Blocks: copies of inputs and outputs take less than a turn of the event loop. */
  const waitFor = (which: 0 | 1): void => {
    while (!driver.hasHappened(travelled[which]));
  };

  function writeBytes(address: number, bytes: Uint8Array): void {
    for (let piece = 0; piece * PIECE < bytes.length; piece++) {
      const which = (piece % 2) as 0 | 1;
      const part = bytes.subarray(piece * PIECE, (piece + 1) * PIECE);
      if (piece >= 2) waitFor(which);
      half(which).set(part);
      driver.copyIn(address + piece * PIECE, pinned.address + which * PIECE, part.length, stream);
      driver.record(travelled[which], stream);
    }
    driver.wait(stream);
  }

  function readBytes(address: number, count: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(count);
    const pieces = Math.ceil(count / PIECE);
    const lengthOf = (piece: number): number => Math.min(PIECE, count - piece * PIECE);
    const ask = (piece: number): void => {
      if (piece >= pieces) return;
      const which = (piece % 2) as 0 | 1;
      driver.copyOut(pinned.address + which * PIECE, address + piece * PIECE, lengthOf(piece), stream);
      driver.record(travelled[which], stream);
    };
    ask(0);
    for (let piece = 0; piece < pieces; piece++) {
      const which = (piece % 2) as 0 | 1;
      ask(piece + 1);
      waitFor(which);
      bytes.set(half(which).subarray(0, lengthOf(piece)), piece * PIECE);
    }
    return bytes;
  }

  function fill(address: number, byte: number, bytes: number): void {
    driver.fill(address, byte, bytes, stream);
    driver.wait(stream);
  }

  function noRoom(bytes: number, purpose: string): Diagnostic {
    const largest = [...held.values()].sort((a, b) => b.bytes - a.bytes).slice(0, NAMED);
    const width = 9;
    return new Diagnostic({
      kind: "memory",
      message: `the GPU has no room for ${printBytes(bytes)} of ${purpose}`,
      details: [
        `${printBytes(driver.freeMemory()).padStart(width)}  free of ${printBytes(driver.gpu.memoryBytes)}`,
        ...largest.map((one) => `${printBytes(one.bytes).padStart(width)}  ${one.purpose}`),
      ],
      fix: "use a smaller batch, fewer or smaller frames, or --set train.recompute=block when compiling; nvidia-smi shows who else uses the GPU",
    });
  }

  return {
    allocate(bytes, purpose) {
      if (!Number.isSafeInteger(bytes) || bytes < 0)
        throw new RangeError(`cannot allocate ${bytes} bytes (${purpose})`);
      const address = driver.allocate(bytes);
      if (address === undefined) throw noRoom(bytes, purpose);
      held.set(address, { purpose, bytes });
      fill(address, 0, bytes);
      return address;
    },
    release(address) {
      if (!held.delete(address)) throw new CompilerBug("memory of the GPU", `address ${address} is released twice`);
      driver.free(address);
    },
    write(address, room, dtype, values) {
      const bytes = bytesFrom(dtype, values);
      checkRoom("writing", room, bytes.length);
      writeBytes(address, bytes);
    },
    read(address, room, dtype, count) {
      checkRoom("reading", room, count * bytesOf(dtype));
      return elementsIn(dtype, readBytes(address, count * bytesOf(dtype)));
    },
    fill,
    differs: (address, byte, bytes) => readBytes(address, bytes).findIndex((value) => value !== byte),
    available: () => driver.freeMemory(),
    close() {
      for (const event of travelled) driver.destroyEvent(event);
      driver.destroyStream(stream);
      pinned.free();
    },
  };
}
