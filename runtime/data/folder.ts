/** What lies in a data folder, and does a name lead out of it? */
import { type Dirent, readdirSync, realpathSync, statSync } from "node:fs";
import { extname, isAbsolute, join, relative, sep } from "node:path";
import { isSystemError } from "../../contract/atomic-file.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";

export const VIDEO_EXTENSIONS: ReadonlySet<string> = new Set(
  ["mp4", "m4v", "mov", "mkv", "webm", "avi", "gif", "mpg", "mpeg", "flv", "ogv", "wmv"].map((name) => `.${name}`),
);

export const isVideoName = (name: string): boolean => VIDEO_EXTENSIONS.has(extname(name).toLowerCase());

export interface DataFolder {
  /** As the user wrote it. */
  readonly given: string;
  /** Without symbolic links: what every file in it must start with. */
  readonly real: string;
  /** Videos in it and below, relative to it, with forward slashes, in a stable order. */
  readonly videos: readonly string[];
}

/** @throws Diagnostic (kind `data`) when there is no such folder, or no video in it */
export function openDataFolder(given: string): DataFolder {
  const real = realFolder(given);
  const videos = filesBelow(real).filter(isVideoName);
  if (videos.length === 0) {
    throw new Diagnostic({
      kind: "data",
      message: `there are no videos in ${given}`,
      details: [`a video is a file named *${[...VIDEO_EXTENSIONS].slice(0, 7).join(", *")} ...`],
      fix: "name the folder that holds the videos with --data",
    });
  }
  return { given, real, videos };
}

function realFolder(given: string): string {
  try {
    const real = realpathSync(given);
    if (statSync(real).isDirectory()) return real;
  } catch (error) {
    if (!isSystemError(error)) throw error;
    const reason = error.code === "ENOENT" ? "does not exist" : `cannot be read (${error.code})`;
    throw new Diagnostic({ kind: "data", message: `the data folder ${given} ${reason}`, fix: "correct --data" });
  }
  throw new Diagnostic({
    kind: "data",
    message: `${given} is a file, not a folder`,
    fix: "name its folder with --data",
  });
}

/** Symbolic links to folders are not followed: they may run in circles, and what is inside is found under its real name. */
function filesBelow(folder: string, prefix = ""): string[] {
  return entriesOf(join(folder, prefix))
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
    .flatMap((entry) => {
      const name = prefix === "" ? entry.name : `${prefix}/${entry.name}`;
      if (entry.name.startsWith(".")) return [];
      if (entry.isDirectory()) return filesBelow(folder, name);
      return entry.isFile() || entry.isSymbolicLink() ? [name] : [];
    });
}

function entriesOf(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new Diagnostic({
      kind: "data",
      message: `the folder ${folder} cannot be read (${error.code})`,
      fix: "give this user the right to read it, or move it out of the data folder",
    });
  }
}

export type Located =
  | { readonly ok: true; readonly path: string; /** Relative, normal form, forward slashes. */ readonly name: string }
  | { readonly ok: false; readonly reason: string; readonly outside: boolean };

/** The file a name means, if it is a regular file that lies in the folder once links are followed. */
export function locate(folder: Pick<DataFolder, "real">, name: string): Located {
  const outside = (reason: string): Located => ({ ok: false, reason, outside: true });
  if (name === "" || name.includes("\0")) return { ok: false, reason: "is not a file name", outside: false };
  if (isAbsolute(name) || /^[A-Za-z]:[\\/]/.test(name)) return outside("is an absolute path");
  if (name.split(/[\\/]/).includes("..")) return outside('leads upwards with ".."');
  let path: string;
  try {
    path = realpathSync(join(folder.real, name));
    if (!isInside(folder.real, path)) return outside(`is a link that leads out of the folder, to ${path}`);
    if (!statSync(path).isFile()) return { ok: false, reason: "is not a regular file", outside: false };
  } catch (error) {
    if (!isSystemError(error)) throw error;
    const reason =
      error.code === "ENOENT" || error.code === "ENOTDIR" ? "does not exist" : `cannot be read (${error.code})`;
    return { ok: false, reason, outside: false };
  }
  return { ok: true, path, name: relative(folder.real, path).split(sep).join("/") };
}

function isInside(folder: string, path: string): boolean {
  const way = relative(folder, path);
  return way !== "" && way !== ".." && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}
