/**
 * A Python wheel: a zip archive whose name says what it is for, and whose RECORD holds the size and the SHA-256 of every
 * file. What is unpacked is checked against it.
 */
import { createHash } from "node:crypto";
import { closeSync, fstatSync, mkdirSync, openSync, readSync, writeFileSync } from "node:fs";
import { arch, platform } from "node:os";
import { basename, join } from "node:path";
import { inflateRawSync } from "node:zlib";
import { Diagnostic } from "../../contract/diagnostic.ts";

export interface WheelName {
  /** In the spelling of file names: `nvidia_cuda_nvrtc`. */
  readonly distribution: string;
  readonly version: string;
  /** `manylinux_2_17_x86_64`, several with dots between. */
  readonly platform: string;
}

/** `nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux_2_17_x86_64.whl`; undefined for any other file. */
export function parseWheelName(file: string): WheelName | undefined {
  const [, distribution, version, platformTag] =
    /^([^-]+)-([^-]+)(?:-\d[^-]*)?-[^-]+-[^-]+-([^-]+)\.whl$/.exec(basename(file)) ?? [];
  if (distribution === undefined || version === undefined || platformTag === undefined) return undefined;
  return { distribution: distribution.toLowerCase(), version, platform: platformTag };
}

/** The spelling of a package in the names of its wheels. */
export const distributionOf = (packageName: string): string => packageName.toLowerCase().replace(/[-_.]+/g, "_");

const PROCESSORS: Readonly<Record<string, string>> = { x64: "x86_64", arm64: "aarch64" };

/** What the wheels of this machine have in their name. */
export const machineTag = (): string => `${platform()} ${PROCESSORS[arch()] ?? arch()}`;

/** Whether libraries of a wheel can be loaded on this machine. */
export const fitsMachine = ({ platform: tags }: WheelName): boolean =>
  tags.split(".").some((tag) => {
    if (tag === "any") return true;
    return platform() === "linux" && /^(many)?linux/.test(tag) && tag.endsWith(`_${PROCESSORS[arch()] ?? "?"}`);
  });

interface ZipEntry {
  readonly name: string;
  readonly method: number;
  readonly packedBytes: number;
  readonly bytes: number;
  /** Where its local header begins. */
  readonly header: number;
}

const END = 0x06054b50;
const CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;
const STORED = 0;
const DEFLATED = 8;
const LONGEST_COMMENT = 65_535;
/** No file of a wheel of ours is that large; a length that is damaged may be. */
const MOST_BYTES = 2 ** 31 - 1;

/**
 * Unpacks the chosen files into `folder`, all on one level.
 *
 * @returns their base names
 * @throws Diagnostic of kind `toolchain` for a file that is no wheel or is damaged
 */
export function unpackWheel(path: string, folder: string, isWanted: (name: string) => boolean): readonly string[] {
  const file = openSync(path, "r");
  try {
    const entries = entriesOf(file, path);
    const record = entries.find(({ name }) => /^[^/]+\.dist-info\/RECORD$/.test(name));
    if (record === undefined) throw damaged(path, "it has no RECORD");
    const promised = promisesOf(contentOf(file, record, path).toString("utf8"));
    const wanted = entries.filter(({ name }) => !name.endsWith("/") && isWanted(name));
    mkdirSync(folder, { recursive: true });
    return wanted.map((entry) => {
      const content = contentOf(file, entry, path);
      const hash = createHash("sha256").update(content).digest("base64url");
      if (promised.get(entry.name) !== hash) throw damaged(path, `${entry.name} does not match its checksum`);
      const name = basename(entry.name);
      writeFileSync(join(folder, name), content);
      return name;
    });
  } finally {
    closeSync(file);
  }
}

/** SHA-256 by file, in base64 for addresses: lines `NAME,sha256=HASH,BYTES`. */
function promisesOf(record: string): ReadonlyMap<string, string> {
  const lines = record.split(/\r?\n/).map((line) => /^"?(.+?)"?,sha256=([\w-]+),\d*$/.exec(line));
  return new Map(lines.flatMap((line) => (line === null ? [] : [[line[1]!, line[2]!] as const])));
}

/** What the archive's directory lists. It lies at the end; archives of more than 4 GB, which need another one, are refused. */
function entriesOf(file: number, path: string): readonly ZipEntry[] {
  const { size } = fstatSync(file);
  const tail = read(file, Math.max(0, size - LONGEST_COMMENT - 22), Math.min(size, LONGEST_COMMENT + 22), path);
  let end = tail.length - 22;
  while (end >= 0 && tail.readUInt32LE(end) !== END) end--;
  if (end < 0) throw damaged(path, "it is no zip archive, or its end is missing");
  const [count, bytes, start] = [tail.readUInt16LE(end + 10), tail.readUInt32LE(end + 12), tail.readUInt32LE(end + 16)];
  const directory = read(file, start, bytes, path);
  const entries: ZipEntry[] = [];
  for (let at = 0; entries.length < count;) {
    if (at + 46 > directory.length || directory.readUInt32LE(at) !== CENTRAL)
      throw damaged(path, "its directory is cut");
    const [name, extra, comment] = [28, 30, 32].map((field) => directory.readUInt16LE(at + field)) as [number, number, number]; // prettier-ignore
    entries.push({
      name: directory.toString("utf8", at + 46, at + 46 + name),
      method: directory.readUInt16LE(at + 10),
      packedBytes: directory.readUInt32LE(at + 20),
      bytes: directory.readUInt32LE(at + 24),
      header: directory.readUInt32LE(at + 42),
    });
    at += 46 + name + extra + comment;
  }
  return entries;
}

function contentOf(file: number, { name, method, packedBytes, bytes, header }: ZipEntry, path: string): Buffer {
  if (bytes > MOST_BYTES) throw damaged(path, `${name} is ${bytes} bytes long`);
  const local = read(file, header, 30, path);
  if (local.readUInt32LE(0) !== LOCAL) throw damaged(path, `${name} is not where the directory says`);
  const packed = read(file, header + 30 + local.readUInt16LE(26) + local.readUInt16LE(28), packedBytes, path);
  if (method !== STORED && method !== DEFLATED) throw damaged(path, `${name} is packed in an unknown way (${method})`);
  try {
    return method === STORED ? packed : inflateRawSync(packed, { maxOutputLength: Math.max(1, bytes) });
  } catch {
    throw damaged(path, `${name} cannot be unpacked`);
  }
}

function read(file: number, start: number, bytes: number, path: string): Buffer {
  if (bytes > MOST_BYTES) throw damaged(path, `a part of ${bytes} bytes`);
  const buffer = Buffer.alloc(bytes);
  if (bytes > 0 && readSync(file, buffer, 0, bytes, start) !== bytes) throw damaged(path, "its end is missing");
  return buffer;
}

const damaged = (path: string, why: string): Diagnostic =>
  new Diagnostic({
    kind: "toolchain",
    message: `${path} is damaged: ${why}`,
    fix: "fetch it again",
  });

/** The license texts of a wheel. */
export const isLicense = (name: string): boolean => /\.dist-info\/(?:.*\/)?(?:licen[cs]e|notice)[^/]*$/i.test(name);
