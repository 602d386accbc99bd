/**
 * Reads JSON strictly and remembers where things stood.
 *
 * `JSON.parse` silently keeps the last of two equal keys, lets `__proto__` through as an own property that later copies
 * act upon, and does not always say where a mistake is. Here objects become Maps, an equal key is a mistake, and every
 * mistake and every container has an offset that `lineAndColumn` turns into a place a user can jump to.
 */

export type Json = null | boolean | number | string | JsonArray | JsonObject;
export type JsonArray = readonly Json[];
export type JsonObject = ReadonlyMap<string, Json>;

export type JsonResult =
  | {
      readonly ok: true;
      readonly value: Json;
      /** Where each object and array opens, as an offset into the text. */
      readonly offsets: ReadonlyMap<JsonArray | JsonObject, number>;
    }
  | { readonly ok: false; readonly message: string; readonly offset: number };

/** Deeper than anything a caption file or a tensor header needs, shallow enough for the stack. */
const MAX_DEPTH = 64;

export const isJsonObject = (value: Json | undefined): value is JsonObject => value instanceof Map;
export const isJsonArray = (value: Json | undefined): value is JsonArray => Array.isArray(value);

/** The line and column (from 1) of an offset; a column counts UTF-16 units, as editors do. */
export function lineAndColumn(text: string, offset: number): { readonly line: number; readonly column: number } {
  let line = 1;
  let lineStart = 0;
  for (let at = text.indexOf("\n"); at !== -1 && at < offset; at = text.indexOf("\n", at + 1)) {
    line++;
    lineStart = at + 1;
  }
  return { line, column: offset - lineStart + 1 };
}

export function parseJson(text: string): JsonResult {
  const reader: Reader = { text, at: 0, offsets: new Map() };
  try {
    const value = readValue(reader, 0);
    skipSpace(reader);
    if (reader.at < text.length) fail(reader, `unexpected ${describe(reader)} after the end of the value`);
    return { ok: true, value, offsets: reader.offsets };
  } catch (error) {
    if (error instanceof JsonMistake) return { ok: false, message: error.message, offset: error.offset };
    throw error;
  }
}

interface Reader {
  readonly text: string;
  at: number;
  readonly offsets: Map<JsonArray | JsonObject, number>;
}

class JsonMistake extends Error {
  readonly offset: number;
  constructor(message: string, offset: number) {
    super(message);
    this.offset = offset;
  }
}

function fail(reader: Reader, message: string, offset = reader.at): never {
  throw new JsonMistake(message, offset);
}

/** What stands at the cursor, as a sentence can name it. */
function describe(reader: Reader): string {
  const code = reader.text.codePointAt(reader.at);
  if (code === undefined) return "end of the text";
  if (code < 0x20 || code === 0x7f) return `control character ${code}`;
  return JSON.stringify(String.fromCodePoint(code));
}

function skipSpace(reader: Reader): void {
  const { text } = reader;
  for (; reader.at < text.length; reader.at++) {
    const code = text.charCodeAt(reader.at);
    if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
  }
}

function readValue(reader: Reader, depth: number): Json {
  if (depth > MAX_DEPTH) fail(reader, `nested more than ${MAX_DEPTH} deep`);
  skipSpace(reader);
  const first = reader.text[reader.at];
  if (first === "{") return readObject(reader, depth);
  if (first === "[") return readArray(reader, depth);
  if (first === '"') return readString(reader);
  for (const [word, value] of WORDS) {
    if (!reader.text.startsWith(word, reader.at)) continue;
    reader.at += word.length;
    return value;
  }
  return readNumber(reader);
}

const WORDS: readonly (readonly [string, null | boolean])[] = [
  ["null", null],
  ["true", true],
  ["false", false],
];

function readObject(reader: Reader, depth: number): JsonObject {
  const object = new Map<string, Json>();
  reader.offsets.set(object, reader.at);
  reader.at++;
  skipSpace(reader);
  if (reader.text[reader.at] === "}") {
    reader.at++;
    return object;
  }
  for (;;) {
    skipSpace(reader);
    const keyAt = reader.at;
    if (reader.text[reader.at] !== '"') fail(reader, `a key in double quotes is expected, ${describe(reader)} found`);
    const key = readString(reader);
    if (object.has(key)) fail(reader, `the key ${JSON.stringify(key)} appears twice`, keyAt);
    skipSpace(reader);
    if (reader.text[reader.at] !== ":") fail(reader, `":" is expected after a key, ${describe(reader)} found`);
    reader.at++;
    object.set(key, readValue(reader, depth + 1));
    if (!another(reader, "}")) return object;
  }
}

function readArray(reader: Reader, depth: number): JsonArray {
  const array: Json[] = [];
  reader.offsets.set(array, reader.at);
  reader.at++;
  skipSpace(reader);
  if (reader.text[reader.at] === "]") {
    reader.at++;
    return array;
  }
  do array.push(readValue(reader, depth + 1));
  while (another(reader, "]"));
  return array;
}

/** Consumes `,` (true) or the closing bracket (false). */
function another(reader: Reader, close: "]" | "}"): boolean {
  skipSpace(reader);
  const found = reader.text[reader.at];
  if (found !== "," && found !== close) fail(reader, `"," or "${close}" is expected, ${describe(reader)} found`);
  reader.at++;
  return found === ",";
}

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['"', '"'],
  ["\\", "\\"],
  ["/", "/"],
  ["b", "\b"],
  ["f", "\f"],
  ["n", "\n"],
  ["r", "\r"],
  ["t", "\t"],
]);

function readString(reader: Reader): string {
  const { text } = reader;
  const opened = reader.at;
  let value = "";
  let plainFrom = ++reader.at;
  for (;;) {
    const code = text.charCodeAt(reader.at);
    if (reader.at >= text.length) fail(reader, "this string is never closed", opened);
    if (code < 0x20) fail(reader, "a string cannot hold a raw line break or control character");
    if (code === 0x22) {
      value += text.slice(plainFrom, reader.at++);
      return value;
    }
    if (code !== 0x5c) {
      reader.at++;
      continue;
    }
    value += text.slice(plainFrom, reader.at) + readEscape(reader);
    plainFrom = reader.at;
  }
}

function readEscape(reader: Reader): string {
  const letter = reader.text[reader.at + 1] ?? "";
  if (letter === "u") {
    const digits = reader.text.slice(reader.at + 2, reader.at + 6);
    if (!/^[0-9a-fA-F]{4}$/.test(digits)) fail(reader, "\\u needs four hexadecimal digits");
    reader.at += 6;
    return String.fromCharCode(Number.parseInt(digits, 16));
  }
  const plain = ESCAPES.get(letter);
  if (plain === undefined) fail(reader, `\\${letter} is not an escape`);
  reader.at += 2;
  return plain;
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?/y;

function readNumber(reader: Reader): number {
  NUMBER.lastIndex = reader.at;
  const digits = NUMBER.exec(reader.text)?.[0];
  if (digits === undefined) return fail(reader, `a value is expected, ${describe(reader)} found`);
  reader.at += digits.length;
  return Number(digits);
}
