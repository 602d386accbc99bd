/**
 * Which ffmpeg and ffprobe does this machine have, and what can they do?
 *
 * Order: SORACC_FFMPEG and SORACC_FFPROBE, then PATH, then the npm-packaged ones. The packaged builds are years old; they
 * serve the demo and the tests, and are named as such wherever they are used.
 */
import { execFile } from "node:child_process";
import { accessSync, chmodSync, constants, copyFileSync, existsSync, mkdirSync, renameSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { basename, delimiter, dirname, isAbsolute, join } from "node:path";
import { temporaryName } from "../../contract/atomic-file.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";

export type ProgramName = "ffmpeg" | "ffprobe";
export type ProgramOrigin = "environment" | "path" | "packaged";

export interface VideoProgram {
  readonly path: string;
  readonly origin: ProgramOrigin;
}

export interface VideoTools {
  readonly ffmpeg: VideoProgram;
  readonly ffprobe: VideoProgram;
}

/** What is printed beside the path of a packaged program. */
export const PACKAGED_NOTE = "packaged ffmpeg, for demo and tests; not for untrusted video";

const VARIABLES = { ffmpeg: "SORACC_FFMPEG", ffprobe: "SORACC_FFPROBE" } as const;

export interface FindOptions {
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Folders whose node_modules may hold the packaged programs; SORACC_ROOT and the working directory are added. */
  readonly roots?: readonly string[];
}

/** @throws Diagnostic that names what is missing and the command that installs it */
export function findVideoTools(options: FindOptions = {}): VideoTools {
  const ffmpeg = findProgram("ffmpeg", options);
  const ffprobe = findProgram("ffprobe", options);
  if (ffmpeg !== undefined && ffprobe !== undefined) return { ffmpeg, ffprobe };
  const missing = [ffmpeg === undefined ? "ffmpeg" : "", ffprobe === undefined ? "ffprobe" : ""].filter(Boolean);
  throw new Diagnostic({
    kind: "ffmpeg",
    message: `${missing.join(" and ")} not found; video cannot be read or written without`,
    details: ["looked at SORACC_FFMPEG and SORACC_FFPROBE, at PATH, and for the packaged ones in node_modules"],
    fix: process.platform === "darwin" ? "brew install ffmpeg" : "sudo apt-get install ffmpeg",
  });
}

/** `/usr/bin/ffmpeg`, or `.../ffmpeg (packaged ffmpeg, for demo and tests; not for untrusted video)` */
export function describeProgram({ path, origin }: VideoProgram): string {
  return origin === "packaged" ? `${path} (${PACKAGED_NOTE})` : path;
}

/** One program, or `undefined`. @throws Diagnostic when the environment names one that cannot be run */
export function findProgram(name: ProgramName, options: FindOptions = {}): VideoProgram | undefined {
  const environment = options.environment ?? process.env;
  const variable = VARIABLES[name];
  const named = environment[variable];
  if (named !== undefined && named !== "") {
    if (isExecutable(named)) return { path: named, origin: "environment" };
    throw new Diagnostic({
      kind: "ffmpeg",
      message: `${variable} is ${JSON.stringify(named)}, which is not a program that can be run`,
      fix: `set ${variable} to the full path of ${name}, or unset it`,
    });
  }
  for (const folder of (environment["PATH"] ?? "").split(delimiter)) {
    // Relative entries of PATH would run whatever lies in a data folder.
    const path = join(folder, name);
    if (isAbsolute(folder) && isExecutable(path)) return { path, origin: "path" };
  }
  const packaged = findPackaged(name, options.roots ?? [], environment);
  return packaged === undefined ? undefined : { path: packaged, origin: "packaged" };
}

function findPackaged(
  name: ProgramName,
  roots: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): string | undefined {
  const candidates = [...roots, environment["SORACC_ROOT"] ?? "", process.cwd()].filter((root) => root !== "");
  const scope = `@${name}-installer`;
  for (const root of candidates) {
    try {
      const fromRoot = createRequire(join(root, "package.json"));
      const installer = fromRoot.resolve(`${scope}/${name}/package.json`);
      // The program sits in a package of its own per platform, a dependency of the installer.
      const platform = `${scope}/${process.platform}-${process.arch}/package.json`;
      const program = join(dirname(createRequire(installer).resolve(platform)), name);
      if (existsSync(program)) return madeExecutable(program, environment);
    } catch {
      // Not installed under this root.
    }
  }
  return undefined;
}

/** An installation without scripts leaves the program without its execute bit, perhaps in a folder of another user. */
function madeExecutable(program: string, environment: Readonly<Record<string, string | undefined>>): string {
  if (isExecutable(program)) return program;
  try {
    chmodSync(program, 0o755);
    return program;
  } catch {
    const { size, mtimeMs } = statSync(program);
    const configured = environment["XDG_CACHE_HOME"];
    const cache = configured === undefined || configured === "" ? join(homedir(), ".cache") : configured;
    const folder = join(cache, "soracc", "ffmpeg", `${size}-${Math.floor(mtimeMs)}`);
    const copy = join(folder, basename(program));
    if (isExecutable(copy)) return copy;
    mkdirSync(folder, { recursive: true });
    const temporary = temporaryName(copy);
    copyFileSync(program, temporary);
    chmodSync(temporary, 0o755);
    renameSync(temporary, copy);
    return copy;
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** What differs between versions and builds of ffmpeg. */
export interface Capabilities {
  /** The first line it prints about itself. */
  readonly version: string;
  /** Flags that pass every frame on once, as it was stored; renamed in ffmpeg 5.1. */
  readonly everyFrameOnce: readonly string[];
  readonly encoder: "libx264" | "mpeg4" | undefined;
}

const known = new Map<string, Promise<Capabilities>>();

/** Asked once per program and process. */
export function capabilitiesOf(program: VideoProgram): Promise<Capabilities> {
  let answer = known.get(program.path);
  if (answer === undefined) {
    answer = askCapabilities(program.path);
    known.set(program.path, answer);
  }
  return answer;
}

async function askCapabilities(path: string): Promise<Capabilities> {
  const ask = (...flags: string[]): Promise<string> =>
    new Promise((resolve, reject) => {
      execFile(path, ["-hide_banner", ...flags], { maxBuffer: 2 ** 26, timeout: 30_000 }, (error, stdout) =>
        error === null ? resolve(stdout) : reject(broken(path, error)),
      );
    });
  const [version, help, encoders] = await Promise.all([ask("-version"), ask("-h", "long"), ask("-encoders")]);
  const has = (encoder: string): boolean => new RegExp(`^ V\\S+ ${encoder} `, "m").test(encoders);
  return {
    version: version.split("\n", 1)[0] ?? "",
    everyFrameOnce: help.includes("-fps_mode") ? ["-fps_mode", "passthrough"] : ["-vsync", "passthrough"],
    encoder: has("libx264") ? "libx264" : has("mpeg4") ? "mpeg4" : undefined,
  };
}

function broken(path: string, error: Error): Diagnostic {
  return new Diagnostic({
    kind: "ffmpeg",
    message: `${path} does not run`,
    details: [error.message.split("\n", 1)[0] ?? ""],
    fix: "install ffmpeg again, or name another one with SORACC_FFMPEG and SORACC_FFPROBE",
  });
}
