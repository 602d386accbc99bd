/**
 * Fetches NVIDIA's libraries into soracc's own folder, with the user's consent. A part appears there by one rename, after
 * its files were checked against their checksums and NVRTC has compiled a kernel.
 */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { isSystemError } from "../../contract/atomic-file.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { startCompileProcess } from "../devices/cuda/compile-process.ts";
import { toolchainFolder } from "../devices/cuda/discover.ts";
import { fetchWheel, withoutNetwork } from "./pip.ts";
import { CUDA_VERSIONS, folderOf, INSTALLED_FILE, type CudaVersion, type Installed, type Part } from "./parts.ts";
import {
  distributionOf,
  fitsMachine,
  isLicense,
  machineTag,
  parseWheelName,
  unpackWheel,
  type WheelName,
} from "./wheel.ts";

export interface InstallRequest {
  readonly part: Part;
  readonly cuda: CudaVersion;
  /** A folder with wheels, in place of the network. */
  readonly wheelFolder?: string | undefined;
  /** Told how many bytes have been fetched. */
  readonly onBytes: (bytes: number) => void;
  /** What Node starts to try NVRTC; default: the launcher of soracc. */
  readonly script?: string | undefined;
}

/** @throws Diagnostic of kind `toolchain`; what was installed before is then as it was */
export async function install(request: InstallRequest): Promise<Installed> {
  const { part } = request;
  const draft = join(dirname(toolchainFolder()), `draft-${process.pid}-${randomBytes(6).toString("hex")}`);
  try {
    mkdirSync(draft, { recursive: true });
    const { path, name, cuda } = await wheelFor(request, join(draft, "fetched"));
    const folder = join(draft, "unpacked");
    const files = unpackWheel(path, folder, (file) => part.isLibrary(basename(file)) || isLicense(file));
    const library = files.filter(part.isMain).sort((a, b) => b.length - a.length)[0];
    if (library === undefined) {
      throw new Diagnostic({
        kind: "toolchain",
        message: `${basename(path)} holds no ${part.title}`,
        fix: `use the wheel of ${part.packages[cuda].name}`,
      });
    }
    if (part.name === "nvrtc") await tryCompiler(join(folder, library), request.script);
    const installed: Installed = { package: part.packages[cuda].name, version: name.version, cuda, library };
    writeFileSync(join(folder, INSTALLED_FILE), `${JSON.stringify(installed, null, 2)}\n`);
    putInPlace(folder, folderOf(part), join(draft, "replaced"));
    return installed;
  } catch (error) {
    throw isSystemError(error) ? explainDisk(error) : error;
  } finally {
    removeQuietly(draft);
  }
}

interface Wheel {
  readonly path: string;
  readonly name: WheelName;
  readonly cuda: CudaVersion;
}

async function wheelFor({ part, cuda, wheelFolder, onBytes }: InstallRequest, folder: string): Promise<Wheel> {
  const { name } = part.packages[cuda];
  if (wheelFolder !== undefined) return chooseWheel(part, cuda, resolve(wheelFolder));
  if (process.platform !== "linux") {
    throw new Diagnostic({
      kind: "toolchain",
      message: `NVIDIA publishes ${name} for Linux, and this is ${process.platform}`,
      fix: "run soracc on Linux, or in WSL on Windows",
    });
  }
  return chooseWheel(part, cuda, await fetchWheel({ name, folder, onBytes }));
}

/** The newest wheel of the part in a folder, for the wanted version of CUDA or an older one. */
function chooseWheel(part: Part, wanted: CudaVersion, folder: string): Wheel {
  const files = existsSync(folder) ? readdirSync(folder).filter((file) => file.endsWith(".whl")) : [];
  const wheels = CUDA_VERSIONS.filter((cuda) => cuda <= wanted).flatMap((cuda) =>
    files
      .map((file) => ({ path: join(folder, file), name: parseWheelName(file), cuda }))
      .filter((wheel): wheel is Wheel => wheel.name?.distribution === distributionOf(part.packages[cuda].name))
      .sort((a, b) => b.name.version.localeCompare(a.name.version, "en", { numeric: true })),
  );
  const fitting = wheels.find(({ name }) => fitsMachine(name));
  if (fitting !== undefined) return fitting;
  const { name } = part.packages[wanted];
  if (wheels.length > 0) {
    throw new Diagnostic({
      kind: "toolchain",
      message: `the wheels of ${name} in ${folder} are for other machines; this is ${machineTag()}`,
      details: wheels.map(({ path }) => basename(path)),
      fix: `fetch it on a machine of this kind, or add --platform to pip's words; ${withoutNetwork(name)}`,
    });
  }
  throw new Diagnostic({
    kind: "toolchain",
    message: existsSync(folder) ? `there is no wheel of ${name} in ${folder}` : `there is no folder ${folder}`,
    details: files.slice(0, 8).map((file) => `it holds ${file}`),
    fix: withoutNetwork(name),
  });
}

const TRIAL = 'extern "C" __global__ void trial(float* x) { x[0] = 1; }';

/** In a process of its own: a library that is not whole takes its process along. */
async function tryCompiler(library: string, script: string | undefined): Promise<void> {
  try {
    const compiler = await startCompileProcess({ library, headers: {}, arch: "sm_80", script });
    await compiler.compile(TRIAL).finally(() => compiler.close());
  } catch (error) {
    throw new Diagnostic({
      kind: "toolchain",
      message: "the NVRTC that was fetched does not compile, and was not installed",
      details: (error instanceof Error ? error.message : String(error)).split("\n").slice(0, 4),
      fix: "try the one of another CUDA version (--cuda 12), or install NVIDIA's CUDA toolkit",
    });
  }
}

/** Whoever looks finds the old folder, for an instant none, then the new one. */
function putInPlace(made: string, place: string, old: string): void {
  mkdirSync(dirname(place), { recursive: true });
  if (existsSync(place)) renameSync(place, old);
  renameSync(made, place);
}

function removeQuietly(folder: string): void {
  try {
    rmSync(folder, { recursive: true, force: true });
  } catch {
    // it never came to be, or it stays as a draft, which the next start of a device removes after a day
  }
}

function explainDisk(error: NodeJS.ErrnoException): Diagnostic {
  const full = ["ENOSPC", "EDQUOT", "EFBIG"].includes(error.code ?? "");
  return new Diagnostic({
    kind: "toolchain",
    message: full
      ? `the disk of ${toolchainFolder()} is full`
      : `${toolchainFolder()} cannot be written (${error.code ?? error.message})`,
    details: full ? ["NVRTC takes about 300 MB while it is unpacked, and 120 MB afterwards"] : [error.message],
    fix: "make room there, or set SORACC_CACHE to a folder on another disk",
  });
}
