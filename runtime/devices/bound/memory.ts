/** Blocks of memory with an owner: guarded when asked for, and refused in words before the system runs out. */
import { CompilerBug, Diagnostic } from "../../../contract/diagnostic.ts";
import { bytesOf, type DType } from "../../../contract/dtype.ts";
import type { DeviceBuffer } from "../device.ts";
import { checkElements, type Elements } from "../elements.ts";
import type { Memory } from "./engine.ts";

export interface Block {
  readonly name: string;
  readonly address: number;
  readonly bytes: number;
  /** Throws a CompilerBug when bytes beside the block were written. Always content when the block is unguarded. */
  check(): void;
  release(): void;
}

const GUARD = 256; // bytes on either side
const GUARD_BYTE = 0xa5;

export function allocateBlock(memory: Memory, name: string, bytes: number, guarded: boolean): Block {
  const guard = guarded ? GUARD : 0;
  const rounded = Math.ceil(bytes / 64) * 64;
  const whole = rounded + 2 * guard;
  const begin = memory.allocate(whole, name);
  const address = begin + guard;
  const fence: readonly (readonly [from: number, length: number])[] = [
    [begin, guard],
    [address + bytes, rounded - bytes + guard],
  ];
  if (guarded) for (const [from, length] of fence) memory.fill(from, GUARD_BYTE, length);
  let released = false;
  return {
    name,
    address,
    bytes,
    check() {
      if (!guarded || released) return;
      for (const [from, length] of fence) {
        const at = memory.differs(from, GUARD_BYTE, length);
        if (at < 0) continue;
        const distance = from + at - address;
        const where = distance < 0 ? `${-distance} bytes before it` : `${distance - bytes} bytes after its end`;
        throw new CompilerBug("a kernel", `memory beside buffer ${name} was written, ${where}`);
      }
    },
    release() {
      if (!released) memory.release(begin, whole);
      released = true;
    },
  };
}

export interface OwnedBuffer {
  readonly block: Block;
  /** Runs that use it at this moment or wait for their turn. */
  users: number;
  freed: boolean;
}

/** State of the caller over a block of ours. Throws when it is touched while a run uses it, or after it was freed. */
export function deviceBuffer(memory: Memory, owned: OwnedBuffer, dtype: DType, elements: number): DeviceBuffer {
  const { block } = owned;
  const width = bytesOf(dtype);
  const use = (offset: number, count: number): void => {
    if (owned.freed) throw new Error(`state ${block.name} was freed`);
    if (owned.users > 0) throw new Error(`state ${block.name} is in use by a run: await the run first`);
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(count) || offset < 0 || count < 0) {
      throw new RangeError(`elements ${offset} to ${offset + count} of state ${block.name} do not exist`);
    }
    if (offset + count > elements) {
      throw new RangeError(`state ${block.name} has ${elements} elements, asked for ${offset} to ${offset + count}`);
    }
  };
  return Object.freeze<DeviceBuffer>({
    name: block.name,
    dtype,
    elements,
    write(values: Elements, offset = 0) {
      checkElements(`state ${block.name}`, dtype, values.length, values);
      use(offset, values.length);
      memory.write(block.address + offset * width, block.bytes - offset * width, dtype, values);
    },
    read(offset = 0, count = elements - offset) {
      use(offset, count);
      return memory.read(block.address + offset * width, block.bytes - offset * width, dtype, count);
    },
    readBytes(offset = 0, count = elements - offset) {
      use(offset, count);
      const bytes = memory.read(block.address + offset * width, block.bytes - offset * width, "u8", count * width);
      return bytes as Uint8Array;
    },
    writeBytes(bytes, offset = 0) {
      use(offset, bytes.length / width);
      const plain = new Uint8Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length);
      memory.write(block.address + offset * width, block.bytes - offset * width, "u8", plain);
    },
    free() {
      if (owned.users > 0) throw new Error(`state ${block.name} is in use by a run: await the run first`);
      owned.freed = true;
      block.release();
    },
  });
}

/** Throws a Diagnostic of kind `memory` when `bytes` more cannot be had. `largest` names what takes the room. */
export function requireMemory(
  memory: Memory,
  what: string,
  bytes: number,
  largest: readonly Pick<Block, "name" | "bytes">[],
): void {
  const available = memory.available();
  if (bytes <= available) return;
  throw new Diagnostic({
    kind: "memory",
    message: `${what} needs ${printBytes(bytes)} more, and ${printBytes(available)} are available`,
    details: largest.map((block) => `${printBytes(block.bytes).padStart(9)}  ${block.name}`),
    fix: "use a smaller batch, fewer or smaller frames, or --set train.recompute=block when compiling",
  });
}

export function printBytes(bytes: number): string {
  const [unit, size] = bytes >= 2 ** 30 ? ["GiB", 2 ** 30] : bytes >= 2 ** 20 ? ["MiB", 2 ** 20] : ["KiB", 2 ** 10];
  return `${(bytes / size).toFixed(1)} ${unit}`;
}
