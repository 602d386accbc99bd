/** Wheels by pip: the user's own, with the package index, proxy and certificates that it is set up for. */
import { mkdirSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { runChild, type ChildResult } from "../devices/cpu/child.ts";

const PYTHON = "python3";

export interface FetchRequest {
  /** The package's name for pip. */
  readonly name: string;
  /** An empty folder, for the wheel and for pip's temporary files. */
  readonly folder: string;
  /** Told now and then how many bytes are there. */
  readonly onBytes: (bytes: number) => void;
}

const INTERVAL = 250; // milliseconds between two looks at the folder

/**
 * Fetches a package without what it depends on; returns the folder with the wheel.
 * @throws Diagnostic of kind `toolchain`: no python3, no pip, no network, no such package for this machine, a full disk
 */
export async function fetchWheel({ name, folder, onBytes }: FetchRequest): Promise<string> {
  const wheels = join(folder, "wheels");
  const temporary = join(folder, "temporary");
  for (const each of [wheels, temporary]) mkdirSync(each, { recursive: true });
  const words = ["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"];
  const patience = ["--disable-pip-version-check", "--progress-bar", "off", "--retries", "2", "--timeout", "20"];
  const watch = setInterval(() => onBytes(bytesIn(folder)), INTERVAL);
  let result: ChildResult;
  try {
    const asked = [...words, ...patience, "--dest", wheels, name];
    result = await runChild(PYTHON, asked, { environment: { TMPDIR: temporary } });
  } finally {
    clearInterval(watch);
  }
  if (result.code === 0) return wheels;
  throw explain(name, result);
}

/** What can be done on a machine that cannot fetch by itself. */
export const withoutNetwork = (name: string): string =>
  `on a machine that can: ${PYTHON} -m pip download --no-deps --only-binary :all: -d wheels ${name}; ` +
  "bring the folder here: soracc toolchain install --wheel-dir wheels";

interface Reason {
  readonly words: RegExp;
  readonly message: string;
  readonly fix: string;
}

const INSTALL_PIP = "sudo apt-get install python3-pip (Debian, Ubuntu) or sudo dnf install python3-pip (Fedora, RHEL)";

const REASONS: readonly Reason[] = [
  { words: /No module named pip/, message: `${PYTHON} is there, and its pip is not`, fix: INSTALL_PIP },
  {
    words: /No space left on device|Disk quota exceeded/,
    message: "the disk is full",
    fix: "make room in the cache folder, or set SORACC_CACHE to a folder on another disk",
  },
  {
    words: /NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|name resolution|timed out/i,
    message: "pip does not reach its package index",
    fix: "check the network and pip's settings for index and proxy (python3 -m pip config list)",
  },
  {
    words: /No matching distribution|from versions: none/,
    message: "pip finds no such package for this machine",
    fix: "check the package index that pip is set up for (python3 -m pip config list)",
  },
];

function explain(name: string, { failure, stdout, stderr, signal }: ChildResult): Diagnostic {
  if (failure !== undefined) {
    return new Diagnostic({
      kind: "toolchain",
      message: `${name} is fetched by pip, and ${PYTHON} ${failure === "ENOENT" ? "is not installed" : `cannot be run (${failure})`}`,
      fix: `${INSTALL_PIP}; or, ${withoutNetwork(name)}`,
    });
  }
  const reason = REASONS.find(({ words }) => words.test(stderr));
  const why = reason?.message ?? (signal === null ? "pip fails" : `pip was ended by ${signal}`);
  return new Diagnostic({
    kind: "toolchain",
    message: `${name} was not fetched: ${why}`,
    details: lastLines(`${stdout}\n${stderr}`),
    fix: `${reason?.fix ?? "see pip's words above"}; or, ${withoutNetwork(name)}`,
  });
}

/** What pip said at the end, without the addresses of machines. */
function lastLines(text: string): readonly string[] {
  const lines = text
    .split("\n")
    .map((line) => line.replace(/https?:\/\/[^\s'")]+/g, "(address)").replace(/host='[^']*'/g, "host=…"))
    .map((line) => (line.length > 200 ? `${line.slice(0, 200)} …` : line).trim())
    .filter((line) => line !== "");
  const errors = lines.filter((line) => line.startsWith("ERROR"));
  return [...new Set(errors.length > 0 ? errors : lines)].slice(-3).map((line) => `pip: ${line}`);
}

function bytesIn(folder: string): number {
  let bytes = 0;
  try {
    for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
      const facts = statSync(join(folder, name), { throwIfNoEntry: false });
      if (facts?.isFile() === true) bytes += facts.size;
    }
  } catch {
    // pip moves its folders about: the next look will do
  }
  return bytes;
}
