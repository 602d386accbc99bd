/**
 * A folder of build results, each in a folder of its own named by a hash of everything it was made from.
 *
 * An entry appears by one rename, so that two processes may build the same thing at once, and carries the size and
 * the hash of its artefact, so that a damaged one is noticed and built again.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { Diagnostic } from "../../../contract/diagnostic.ts";

export interface CacheFolder {
  readonly path: string;
}

/**
 * `chosen`, else SORACC_CACHE, else XDG_CACHE_HOME/soracc, else ~/.cache/soracc. When that folder cannot be written, a
 * folder for temporary files takes its place and `notify` is told.
 */
export async function openCacheFolder(
  chosen: string | undefined,
  notify: (message: string) => void,
  environment: NodeJS.ProcessEnv = process.env,
): Promise<CacheFolder> {
  const wanted = resolve(chosen ?? environment["SORACC_CACHE"] ?? defaultFolder(environment));
  const problem = await whyNotWritable(wanted);
  if (problem === undefined) {
    await removeLeftovers(wanted);
    return { path: wanted };
  }
  const path = await temporaryFolder();
  notify(`the cache folder ${wanted} cannot be written (${problem}); compiled kernels go to ${path} for now`);
  return { path };
}

export const hashOf = (...parts: readonly string[]): string =>
  createHash("sha256").update(JSON.stringify(parts)).digest("hex").slice(0, 40);

export interface CacheEntry {
  /** The artefact's path. */
  readonly path: string;
  /** False when it was there already. */
  readonly built: boolean;
}

/** The artefact of entry `key`, made by `build` (in an empty folder, under the name `artefact`) unless it is there. */
export async function cached(
  cache: CacheFolder,
  key: string,
  artefact: string,
  build: (folder: string) => Promise<void>,
): Promise<CacheEntry> {
  const shelf = join(cache.path, key.slice(0, 2));
  const final = join(shelf, key);
  if (await isWhole(final, artefact)) return { path: join(final, artefact), built: false };
  const draft = join(cache.path, `draft-${process.pid}-${randomBytes(6).toString("hex")}`);
  try {
    await mkdir(draft, { recursive: true });
    await build(draft);
    const bytes = await readFile(join(draft, artefact));
    await writeFile(join(draft, "entry.json"), JSON.stringify({ bytes: bytes.length, hash: contentHash(bytes) }));
    await mkdir(shelf, { recursive: true });
    for (let attempt = 0; ; attempt++) {
      try {
        await rename(draft, final);
        break;
      } catch (error) {
        // Somebody else was faster, or a damaged entry is in the way.
        if (attempt === 5 || !["ENOTEMPTY", "EEXIST"].includes(codeOf(error))) throw error;
        if (await isWhole(final, artefact)) break;
        const grave = `${draft}-damaged${attempt}`;
        await rename(final, grave).catch(() => undefined);
        await rm(grave, { recursive: true, force: true });
      }
    }
    return { path: join(final, artefact), built: true };
  } catch (error) {
    throw explainDisk(error, cache);
  } finally {
    await rm(draft, { recursive: true, force: true }).catch(() => undefined);
  }
}

/**
 * The text of entry `key`, from the cache or made now. A disk that cannot keep it is no reason to lose what was made;
 * whoever needs the room for more will tell.
 */
export async function keptText(cache: CacheFolder, key: string, make: () => Promise<string>): Promise<string> {
  let made: string | undefined;
  try {
    const { path } = await cached(cache, key, "text", async (folder) => {
      made = await make();
      await writeFile(join(folder, "text"), made);
    });
    return made ?? (await readFile(path, "utf8"));
  } catch (error) {
    if (made !== undefined && error instanceof Diagnostic && error.parts.kind === "cache") return made;
    throw error;
  }
}

/** A Diagnostic where the disk is at fault; anything else as it came. */
export function explainDisk(error: unknown, cache: CacheFolder): unknown {
  const reason = DISK_FAILURES[codeOf(error)];
  if (reason === undefined) return error;
  return new Diagnostic({
    kind: "cache",
    message: `compiled kernels cannot be kept in ${cache.path}: ${reason}`,
    fix: "make room there, or set SORACC_CACHE to a folder on another disk",
  });
}

const DISK_FAILURES: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full",
  EDQUOT: "your quota is used up",
  EFBIG: "a limit on the size of files (ulimit -f) is reached",
  EROFS: "it is read-only",
  EACCES: "permission denied",
  EPERM: "permission denied",
};

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException | undefined)?.code ?? "";

const contentHash = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

async function isWhole(folder: string, artefact: string): Promise<boolean> {
  try {
    const promised = JSON.parse(await readFile(join(folder, "entry.json"), "utf8")) as Record<string, unknown>;
    const bytes = await readFile(join(folder, artefact));
    return promised["bytes"] === bytes.length && promised["hash"] === contentHash(bytes);
  } catch {
    return false;
  }
}

export function defaultFolder(environment: NodeJS.ProcessEnv): string {
  const base = environment["XDG_CACHE_HOME"];
  return join(base !== undefined && base !== "" ? base : join(homedir(), ".cache"), "soracc");
}

async function whyNotWritable(folder: string): Promise<string | undefined> {
  const trial = join(folder, `draft-${process.pid}-${randomBytes(6).toString("hex")}`);
  try {
    await mkdir(folder, { recursive: true });
    await writeFile(trial, "x");
    await rm(trial);
    return undefined;
  } catch (error) {
    return DISK_FAILURES[codeOf(error)] ?? (error instanceof Error ? error.message : String(error));
  }
}

/** Shared by all runs of a user, unless somebody else owns a folder of that name: compiled code is loaded from it. */
async function temporaryFolder(): Promise<string> {
  const user = process.getuid?.() ?? 0;
  const folder = join(tmpdir(), `soracc-${user}`);
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const facts = await stat(folder);
    if (facts.uid === user && (facts.mode & 0o022) === 0) return folder;
  } catch {
    // taken by a file, or not ours to look at
  }
  return mkdtemp(join(tmpdir(), "soracc-"));
}

/** Drafts of processes that were killed. */
async function removeLeftovers(folder: string): Promise<void> {
  const yesterday = Date.now() - 24 * 3600 * 1000;
  for (const name of await readdir(folder)) {
    if (!name.startsWith("draft-")) continue;
    const path = join(folder, name);
    const facts = await stat(path).catch(() => undefined);
    if (facts !== undefined && facts.mtimeMs < yesterday) await rm(path, { recursive: true, force: true });
  }
}
