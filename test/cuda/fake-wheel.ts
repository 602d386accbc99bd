/** Wheels for tests: zip archives with a RECORD, as pip fetches them. */
import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { crc32, deflateRawSync } from "node:zlib";

export interface FakeWheel {
  /** `nvidia_cuda_nvrtc_cu12` */
  readonly distribution: string;
  readonly version: string;
  /** Default: that of this machine. */
  readonly platform?: string;
  readonly files: Readonly<Record<string, Uint8Array | string>>;
  /** Files whose bytes are not those that RECORD promises. */
  readonly changed?: readonly string[];
}

const PROCESSOR = process.arch === "arm64" ? "aarch64" : "x86_64";
const FIRST_STORED = 1; // the others are deflated

/** Writes the wheel into `folder` and returns its path. */
export function writeWheel(folder: string, wheel: FakeWheel): string {
  const { distribution, version, files, changed = [], platform = `manylinux_2_17_${PROCESSOR}` } = wheel;
  const home = `${distribution}-${version}.dist-info`;
  const contents = Object.entries(files).map(([name, bytes]): [string, Buffer] => [name, Buffer.from(bytes)]);
  contents.push([`${home}/licenses/License.txt`, Buffer.from("the license of a test\n")]);
  const record = contents.map(([name, bytes]) => {
    const promised = changed.includes(name) ? Buffer.from("something else") : bytes;
    return `${name},sha256=${createHash("sha256").update(promised).digest("base64url")},${promised.length}`;
  });
  contents.push([`${home}/RECORD`, Buffer.from([...record, `${home}/RECORD,,`, ""].join("\n"))]);
  const path = join(folder, `${distribution}-${version}-py3-none-${platform}.whl`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(path, zip(contents));
  return path;
}

function zip(contents: readonly (readonly [string, Buffer])[]): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const [index, [name, bytes]] of contents.entries()) {
    const stored = index < FIRST_STORED;
    const packed = stored ? bytes : deflateRawSync(bytes);
    // Version, flags, method, time, date, checksum, packed and unpacked bytes, length of the name, extra bytes.
    const facts = Buffer.alloc(26);
    facts.writeUInt16LE(20, 0);
    facts.writeUInt16LE(stored ? 0 : 8, 4);
    facts.writeUInt32LE(crc32(bytes), 10);
    facts.writeUInt32LE(packed.length, 14);
    facts.writeUInt32LE(bytes.length, 18);
    facts.writeUInt16LE(name.length, 22);
    const place = Buffer.alloc(14); // comment, disk, attributes, where the file's own header begins
    place.writeUInt32LE(at, 10);
    directory.push(Buffer.from([0x50, 0x4b, 1, 2, 20, 3]), facts, place, Buffer.from(name));
    const own = [Buffer.from([0x50, 0x4b, 3, 4]), facts, Buffer.from(name), packed];
    parts.push(...own);
    at += own.reduce((sum, part) => sum + part.length, 0);
  }
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(contents.length, 8);
  end.writeUInt16LE(contents.length, 10);
  end.writeUInt32LE(
    directory.reduce((sum, part) => sum + part.length, 0),
    12,
  );
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...parts, ...directory, end]);
}
