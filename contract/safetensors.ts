/**
 * Reads and writes safetensors files of any size: recorded tensors, published weights, checkpoints.
 *
 * Reading opens the file once, checks the whole header (safetensors-header.ts) and reads each tensor when it is asked
 * for. Writing is all or nothing (atomic-file.ts). Both assume a little-endian machine, as the format and every
 * platform Node supports in earnest are.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { type WriteBytes, isSystemError, writeFileAtomically } from "./atomic-file.ts";
import { CompilerBug, Diagnostic } from "./diagnostic.ts";
import {
  LENGTH_BYTES,
  SAFETENSORS_BYTES,
  type SafetensorsHeader,
  type SafetensorsType,
  type TensorEntry,
  elementCount,
  headerLength,
  parseHeader,
} from "./safetensors-header.ts";

export type { SafetensorsType, TensorEntry } from "./safetensors-header.ts";

export type TensorData =
  | Uint8Array<ArrayBuffer>
  | Int8Array<ArrayBuffer>
  | Int16Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Float32Array<ArrayBuffer>
  | Float64Array<ArrayBuffer>
  | BigInt64Array<ArrayBuffer>
  | BigUint64Array<ArrayBuffer>;

/** A part of a tensor, in elements of its row-major order. */
export interface ElementRange {
  readonly first: number;
  readonly count: number;
}

export interface SafetensorsFile extends SafetensorsHeader {
  readonly path: string;
  /** The elements as stored: F16, BF16 and F8 come as their bits, BOOL as 0 and 1. @throws Diagnostic */
  readonly read: (name: string, range?: ElementRange) => TensorData;
  /** Any stored type as float32: 16-bit floats widened exactly, wider types rounded. @throws Diagnostic */
  readonly readFloat32: (name: string, range?: ElementRange) => Float32Array<ArrayBuffer>;
  /** Any stored type as float64; 64-bit integers beyond 2^53 are rounded. @throws Diagnostic */
  readonly readFloat64: (name: string, range?: ElementRange) => Float64Array<ArrayBuffer>;
  readonly close: () => void;
}

/** Single reads of 2 GiB and more are refused by Node. */
const READ_BYTES = 64 * 2 ** 20;

/**
 * Opens a file and checks its header against the bytes that are there. Call `close` when done.
 * @throws Diagnostic (kind `safetensors`) for a missing, foreign, corrupt or truncated file.
 */
export function openSafetensors(path: string): SafetensorsFile {
  const descriptor = openForReading(path);
  let header: SafetensorsHeader;
  try {
    const stat = fstatSync(descriptor);
    if (!stat.isFile()) throw unreadable(path, "this is not a regular file");
    const start = readBytes(path, descriptor, 0, Math.min(LENGTH_BYTES, stat.size));
    const length = headerLength(path, start, stat.size);
    header = parseHeader(path, readBytes(path, descriptor, LENGTH_BYTES, length), stat.size);
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }

  let open = true;
  const read = (name: string, range?: ElementRange): TensorData => {
    if (!open) throw new CompilerBug("safetensors", `${path} was read after it was closed`);
    const entry = header.tensors.get(name);
    if (entry === undefined) throw missing(path, name, header);
    const size = SAFETENSORS_BYTES[entry.dtype];
    const { first, count } = range ?? { first: 0, count: elementCount(entry.shape) };
    if (first < 0 || entry.begin + (first + count) * size > entry.end) {
      throw new CompilerBug(
        "safetensors",
        `elements ${first} to ${first + count} of ${name} were asked for, ${path} has fewer`,
      );
    }
    const bytes = readBytes(path, descriptor, entry.begin + first * size, count * size);
    return view(entry.dtype, bytes.buffer, count);
  };
  return Object.freeze({
    ...header,
    path,
    read,
    readFloat32: (name: string, range?: ElementRange) =>
      toFloat32(read(name, range), typeOf(path, name, header), path, name),
    readFloat64: (name: string, range?: ElementRange) =>
      toFloat64(read(name, range), typeOf(path, name, header), path, name),
    close: () => {
      if (open) closeSync(descriptor);
      open = false;
    },
  });
}

/** A tensor to be written. A function is called when its turn comes, so that not all need to be in memory at once. */
export interface TensorToWrite {
  readonly name: string;
  readonly dtype: SafetensorsType;
  readonly shape: readonly number[];
  readonly data: ArrayBufferView | (() => ArrayBufferView);
}

export interface WriteSafetensorsOptions {
  /** Kind of the Diagnostic when the file cannot be written. */
  readonly kind?: string | undefined;
  readonly write?: WriteBytes | undefined;
}

/**
 * Writes all tensors under a temporary name, flushes, renames. Wider elements come first, so that every tensor is
 * aligned to its element size.
 * @throws Diagnostic (kind `checkpoint` unless named otherwise) when the file cannot be written; the old one stays.
 */
export function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToWrite>,
  metadata: ReadonlyMap<string, string> = new Map(),
  options: WriteSafetensorsOptions = {},
): void {
  const bytesPer = (tensor: TensorToWrite): number => SAFETENSORS_BYTES[tensor.dtype];
  const ordered = [...tensors].sort((a, b) => bytesPer(b) - bytesPer(a));
  const header = encodeHeader(ordered, metadata);
  const dataBytes = ordered.reduce((sum, tensor) => sum + elementCount(tensor.shape) * bytesPer(tensor), 0);
  writeFileAtomically(path, chunksOf(header, ordered), {
    kind: options.kind ?? "checkpoint",
    bytesNeeded: header.byteLength + dataBytes,
    write: options.write,
  });
}

function* chunksOf(header: Uint8Array, tensors: readonly TensorToWrite[]): Generator<Uint8Array> {
  yield header;
  for (const { name, dtype, shape, data } of tensors) {
    const view = typeof data === "function" ? data() : data;
    const expected = elementCount(shape) * SAFETENSORS_BYTES[dtype];
    if (view.byteLength !== expected) {
      throw new CompilerBug(
        "safetensors",
        `${name} is ${dtype} [${shape.join(", ")}], its data has ${view.byteLength} bytes`,
      );
    }
    yield new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  }
}

/** Length and JSON, filled with spaces to a multiple of 8 bytes so that the data after it is aligned. */
function encodeHeader(tensors: readonly TensorToWrite[], metadata: ReadonlyMap<string, string>): Uint8Array {
  const entries: string[] = [];
  const member = (key: string, value: unknown): void => {
    entries.push(`${JSON.stringify(key)}:${JSON.stringify(value)}`);
  };
  if (metadata.size > 0) {
    const pairs = [...metadata].map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
    entries.push(`"__metadata__":{${pairs.join(",")}}`);
  }
  const names = new Set(["__metadata__"]);
  let offset = 0;
  for (const { name, dtype, shape } of tensors) {
    if (names.has(name)) throw new CompilerBug("safetensors", `the name ${name} is written twice`);
    names.add(name);
    const end = offset + elementCount(shape) * SAFETENSORS_BYTES[dtype];
    member(name, { dtype, shape, data_offsets: [offset, end] });
    offset = end;
  }
  const json = new TextEncoder().encode(`{${entries.join(",")}}`);
  const length = Math.ceil(json.byteLength / 8) * 8;
  const header = new Uint8Array(LENGTH_BYTES + length).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(json, LENGTH_BYTES);
  return header;
}

function openForReading(path: string): number {
  try {
    return openSync(path, "r");
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw unreadable(path, error.code === "ENOENT" ? "there is no such file" : `it cannot be opened (${error.code})`);
  }
}

function readBytes(path: string, descriptor: number, position: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = allocate(path, length);
  for (let done = 0; done < length;) {
    let got: number;
    try {
      got = readSync(descriptor, bytes, done, Math.min(length - done, READ_BYTES), position + done);
    } catch (error) {
      throw isSystemError(error) ? unreadable(path, `reading it failed (${error.code})`) : error;
    }
    if (got === 0) throw unreadable(path, `it became shorter while it was read: ${length - done} bytes are gone`);
    done += got;
  }
  return bytes;
}

function allocate(path: string, length: number): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(length);
  } catch (error) {
    throw error instanceof RangeError ? unreadable(path, `${length} bytes at once do not fit in memory`) : error;
  }
}

function view(dtype: SafetensorsType, buffer: ArrayBuffer, count: number): TensorData {
  switch (dtype) {
    case "BOOL":
    case "U8":
    case "F8_E5M2":
    case "F8_E4M3":
      return new Uint8Array(buffer, 0, count);
    case "I8":
      return new Int8Array(buffer, 0, count);
    case "I16":
      return new Int16Array(buffer, 0, count);
    case "U16":
    case "F16":
    case "BF16":
      return new Uint16Array(buffer, 0, count);
    case "I32":
      return new Int32Array(buffer, 0, count);
    case "U32":
      return new Uint32Array(buffer, 0, count);
    case "F32":
      return new Float32Array(buffer, 0, count);
    case "F64":
      return new Float64Array(buffer, 0, count);
    case "I64":
      return new BigInt64Array(buffer, 0, count);
    case "U64":
      return new BigUint64Array(buffer, 0, count);
    default:
      return dtype satisfies never;
  }
}

function toFloat32(stored: TensorData, dtype: SafetensorsType, path: string, name: string): Float32Array<ArrayBuffer> {
  if (stored instanceof Float32Array) return stored;
  if (dtype === "BF16" && stored instanceof Uint16Array) {
    // A bfloat16 is the upper half of the float32 with the same value.
    return new Float32Array(Uint32Array.from(stored, (bits) => bits << 16).buffer);
  }
  return Float32Array.from(toFloat64(stored, dtype, path, name));
}

function toFloat64(stored: TensorData, dtype: SafetensorsType, path: string, name: string): Float64Array<ArrayBuffer> {
  if (stored instanceof Float64Array) return stored;
  if (stored instanceof BigInt64Array || stored instanceof BigUint64Array) {
    const wide = new Float64Array(stored.length);
    stored.forEach((value, i) => (wide[i] = Number(value)));
    return wide;
  }
  if (dtype === "BF16") return Float64Array.from(toFloat32(stored, dtype, path, name));
  if (dtype === "F16") return Float64Array.from(stored, halfToNumber);
  if (dtype === "F8_E4M3" || dtype === "F8_E5M2") {
    throw new Diagnostic({
      kind: "safetensors",
      message: `tensor ${JSON.stringify(name)} is stored as ${dtype}, which soracc does not compute with`,
      where: { file: path },
      fix: "store it as F32, BF16 or F16",
    });
  }
  return Float64Array.from(stored);
}

/** IEEE half: sign, 5 bits of exponent (bias 15), 10 bits of fraction. */
function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function typeOf(path: string, name: string, header: SafetensorsHeader): SafetensorsType {
  const entry: TensorEntry | undefined = header.tensors.get(name);
  if (entry === undefined) throw missing(path, name, header);
  return entry.dtype;
}

function missing(path: string, name: string, header: SafetensorsHeader): Diagnostic {
  return new Diagnostic({
    kind: "safetensors",
    message: `there is no tensor ${JSON.stringify(name)}`,
    where: { file: path },
    details: [`it has ${header.tensors.size} tensors, among them ${[...header.tensors.keys()].slice(0, 5).join(", ")}`],
    fix: "give a file that holds this tensor",
  });
}

function unreadable(path: string, message: string): Diagnostic {
  return new Diagnostic({ kind: "safetensors", message, where: { file: path }, fix: "check the path and the file" });
}
