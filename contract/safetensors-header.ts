/**
 * Is this the header of a well-formed safetensors file?
 *
 * A file is: 8 bytes, the header's length N (little endian); N bytes of JSON, `{"name": {dtype, shape, data_offsets}}`
 * with an optional `__metadata__` of strings; then the tensors' bytes, which must fill the rest without hole or overlap.
 * Everything in it is untrusted: sizes are checked before memory is asked for, names never become object properties.
 */
import { type Json, type JsonObject, isJsonArray, isJsonObject, lineAndColumn, parseJson } from "./json-text.ts";
import { Diagnostic } from "./diagnostic.ts";

/** The element types of the format, and their bytes. */
export const SAFETENSORS_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  F64: 8,
  I64: 8,
  U64: 8,
} as const;

export type SafetensorsType = keyof typeof SAFETENSORS_BYTES;

export interface TensorEntry {
  readonly dtype: SafetensorsType;
  readonly shape: readonly number[];
  /** Byte range from the start of the file, `end` excluded. */
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
}

/** The bound of the reference implementation: a longer header is an attack or another format. */
export const MAX_HEADER_BYTES = 100_000_000;
export const LENGTH_BYTES = 8;

const METADATA = "__metadata__";
const FIX = "download or record the file again; it must be a safetensors file";

export const elementCount = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

/** The header's length, from the file's first eight bytes. @throws Diagnostic */
export function headerLength(file: string, start: Uint8Array, fileBytes: number): number {
  if (start.byteLength < LENGTH_BYTES) {
    throw foreign(file, `${fileBytes} bytes are too few for a safetensors file, which starts with an 8-byte length`);
  }
  const length = new DataView(start.buffer, start.byteOffset).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw foreign(file, `the header claims ${length} bytes, the format allows ${MAX_HEADER_BYTES}`);
  }
  const available = fileBytes - LENGTH_BYTES;
  if (Number(length) > available) {
    throw foreign(file, `the header claims ${length} bytes and ${available} follow; the file is cut short or foreign`);
  }
  if (length < 2n) throw foreign(file, `the header claims ${length} bytes, the smallest is {}`);
  return Number(length);
}

/** @throws Diagnostic with the offending tensor and, for broken JSON, the line and column within the header. */
export function parseHeader(file: string, header: Uint8Array, fileBytes: number): SafetensorsHeader {
  const root = parseRoot(file, header);
  const dataStart = LENGTH_BYTES + header.byteLength;
  const dataBytes = fileBytes - dataStart;
  const metadata = parseMetadata(file, root.get(METADATA));
  const tensors = new Map<string, TensorEntry>();
  for (const [name, value] of root) {
    if (name === METADATA) continue;
    const entry = parseEntry(file, name, value);
    tensors.set(name, { ...entry, begin: entry.begin + dataStart, end: entry.end + dataStart });
  }
  checkCoverage(file, tensors, dataStart, dataBytes);
  return { metadata, tensors };
}

function parseRoot(file: string, header: Uint8Array): JsonObject {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(header);
  } catch {
    throw foreign(file, "the header is not UTF-8 text");
  }
  const parsed = parseJson(text);
  if (!parsed.ok) {
    const { line, column } = lineAndColumn(text, parsed.offset);
    throw foreign(file, `the header is not JSON: ${parsed.message} (header line ${line}, column ${column})`);
  }
  if (!isJsonObject(parsed.value) || !text.startsWith("{")) throw foreign(file, "the header is not a JSON object");
  return parsed.value;
}

function parseMetadata(file: string, value: Json | undefined): ReadonlyMap<string, string> {
  const metadata = new Map<string, string>();
  if (value === undefined) return metadata;
  if (!isJsonObject(value)) throw foreign(file, `${METADATA} is not an object`);
  for (const [key, text] of value) {
    if (typeof text !== "string") throw foreign(file, `${METADATA} may hold strings only, ${quote(key)} is none`);
    metadata.set(key, text);
  }
  return metadata;
}

/** Offsets here still count from the end of the header. */
function parseEntry(file: string, name: string, value: Json): TensorEntry {
  const broken = (what: string): Diagnostic => foreign(file, `tensor ${quote(name)}: ${what}`);
  if (!isJsonObject(value)) throw broken("its entry is not an object");
  for (const key of value.keys()) {
    if (key !== "dtype" && key !== "shape" && key !== "data_offsets") throw broken(`unknown key ${quote(key)}`);
  }

  const dtype = value.get("dtype");
  if (!isSafetensorsType(dtype)) {
    throw broken(`unknown dtype ${display(dtype)}; known are ${Object.keys(SAFETENSORS_BYTES).join(", ")}`);
  }

  const shape = value.get("shape");
  if (!isJsonArray(shape)) throw broken("its shape is not a list");
  const sizes = shape.map((size) => {
    if (!isOffset(size)) throw broken(`shape ${display(shape)} holds ${display(size)}, not a whole number below 2^53`);
    return size;
  });

  const offsets = value.get("data_offsets");
  if (!isJsonArray(offsets) || offsets.length !== 2) throw broken("data_offsets is not a pair");
  const [begin, end] = offsets;
  if (!isOffset(begin) || !isOffset(end)) {
    throw broken(`data_offsets ${display(offsets)} are not two whole numbers from 0 to 2^53 - 1`);
  }
  if (end < begin) throw broken(`data_offsets ${display(offsets)} end before they begin`);

  const bytes = elementCount(sizes) * SAFETENSORS_BYTES[dtype];
  if (!Number.isSafeInteger(bytes)) throw broken(`shape ${display(shape)} has more than 2^53 bytes`);
  if (bytes !== end - begin) {
    throw broken(`${dtype} ${display(shape)} is ${bytes} bytes, its data_offsets hold ${end - begin}`);
  }
  return { dtype, shape: Object.freeze(sizes), begin, end };
}

/** Every byte after the header belongs to exactly one tensor. */
function checkCoverage(
  file: string,
  tensors: ReadonlyMap<string, TensorEntry>,
  dataStart: number,
  dataBytes: number,
): void {
  const ordered = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let covered = dataStart;
  let previous = "the header";
  for (const [name, { begin, end }] of ordered) {
    if (begin < covered) throw foreign(file, `tensor ${quote(name)} overlaps ${previous} by ${covered - begin} bytes`);
    if (begin > covered)
      throw foreign(file, `${begin - covered} bytes between ${previous} and ${quote(name)} belong to no tensor`);
    covered = end;
    previous = quote(name);
  }
  const used = covered - dataStart;
  if (used > dataBytes)
    throw foreign(file, `its tensors need ${used} bytes and ${dataBytes} are there; the file is cut short`);
  if (used < dataBytes) throw foreign(file, `${dataBytes - used} bytes after ${previous} belong to no tensor`);
}

function isSafetensorsType(value: Json | undefined): value is SafetensorsType {
  return typeof value === "string" && Object.hasOwn(SAFETENSORS_BYTES, value);
}

function isOffset(value: Json | undefined): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

/** Names come from the file: quoted, and never long enough to flood a terminal. */
function quote(text: string): string {
  return JSON.stringify(text.length > 120 ? `${text.slice(0, 117)}...` : text);
}

function display(value: Json | undefined): string {
  if (isJsonArray(value)) return `[${value.slice(0, 12).map(display).join(", ")}${value.length > 12 ? ", ..." : ""}]`;
  if (isJsonObject(value)) return "{...}";
  return typeof value === "string" ? quote(value) : String(value);
}

function foreign(file: string, message: string): Diagnostic {
  return new Diagnostic({ kind: "safetensors", message, where: { file }, fix: FIX });
}
