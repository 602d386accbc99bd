/** `soracc toolchain install`: NVRTC (and NCCL) for machines without a CUDA toolkit. */
import { createInterface } from "node:readline/promises";
import { InvalidArgumentError, Option, type Command } from "commander";
import { Diagnostic } from "../../contract/diagnostic.ts";
import type { CudaVersion, Installed, Part } from "../../runtime/toolchain/parts.ts";

const EXAMPLES = `
Examples:
  soracc toolchain install
  soracc toolchain install --yes --with nccl
  soracc toolchain install --wheel-dir wheels     # without network: wheels that pip download fetched elsewhere`;

interface InstallOptions {
  readonly yes?: true;
  readonly with?: "nccl";
  readonly wheelDir?: string;
  readonly cuda?: CudaVersion;
  readonly force?: true;
}

export function configure(command: Command, finish: (exitCode: number) => void): void {
  command
    .command("install")
    .description("fetch NVIDIA's NVRTC, which compiles CUDA kernels, into soracc's cache folder")
    .exitOverride()
    .showSuggestionAfterError()
    .option("--yes", "do not ask")
    .addOption(new Option("--with <part>", "fetch this as well").choices(["nccl"]))
    .option("--wheel-dir <folder>", "take the wheels from this folder, without network")
    .option("--cuda <version>", "12 or 13 (default: what the NVIDIA driver takes, else 13)", cudaVersion)
    .option("--force", "fetch what is there already, too")
    .addHelpText("after", EXAMPLES)
    .action(async (options: InstallOptions) => finish(await installWhatIsMissing(options)));
}

function cudaVersion(text: string): CudaVersion {
  if (text === "12") return 12;
  if (text === "13") return 13;
  throw new InvalidArgumentError("12 or 13 is expected.");
}

const print = (line: string): void => void process.stdout.write(`${line}\n`);
const say = (line: string): void => void process.stderr.write(`${line}\n`);

/** Resolves to the exit code. @throws Diagnostic of kind `toolchain` */
async function installWhatIsMissing(options: InstallOptions): Promise<number> {
  const { PARTS, folderOf } = await import("../../runtime/toolchain/parts.ts");
  const { install } = await import("../../runtime/toolchain/install.ts");
  const cuda = options.cuda ?? (await versionForDriver());
  const missing: Part[] = [];
  for (const part of [PARTS.nvrtc, ...(options.with === "nccl" ? [PARTS.nccl] : [])]) {
    const there = options.force === true ? undefined : await whatIsThere(part, cuda);
    if (there === undefined) missing.push(part);
    else print(`${part.title} is there: ${there}`);
  }
  if (missing.length === 0) return 0;
  if (!(await isWanted(missing, cuda, options))) {
    say("nothing was fetched");
    return 1;
  }
  for (const part of missing) {
    const progress = await fetching(part, cuda, options);
    const installed = await install({
      ...{ part, cuda, wheelFolder: options.wheelDir },
      onBytes: (bytes) => progress.update(megabytes(bytes)),
    }).finally(progress.stop);
    print(`${part.title} is installed: ${describe(installed)} in ${folderOf(part)}`);
  }
  return 0;
}

const describe = ({ package: name, version }: Installed): string => `${name} ${version}`;

/** A driver of CUDA 12 takes nothing that NVRTC 13 makes. Without a driver: the newest. */
async function versionForDriver(): Promise<CudaVersion> {
  const { openDriver } = await import("../../runtime/devices/cuda/driver.ts");
  try {
    const driver = await openDriver();
    const { version } = driver;
    driver.close();
    return version < 13000 ? 12 : 13;
  } catch (error) {
    if (error instanceof Diagnostic) return 13;
    throw error;
  }
}

/** Undefined when it has to be fetched. @throws Diagnostic when SORACC_NVRTC names something else than NVRTC */
async function whatIsThere(part: Part, cuda: CudaVersion): Promise<string | undefined> {
  const { folderOf, installedOf } = await import("../../runtime/toolchain/parts.ts");
  if (part.name === "nccl") {
    const installed = installedOf(part);
    return installed === undefined || installed.cuda > cuda ? undefined : `${describe(installed)} in ${folderOf(part)}`;
  }
  const { openNvrtc } = await import("../../runtime/devices/cuda/nvrtc.ts");
  try {
    const { version, from } = await openNvrtc();
    return Number.parseInt(version) > cuda ? undefined : `${version} (${from})`;
  } catch (error) {
    if (!(error instanceof Diagnostic) || (process.env["SORACC_NVRTC"] ?? "").trim() !== "") throw error;
    return undefined;
  }
}

/** Says what will be done, and asks on a terminal. @throws Diagnostic where there is nobody to ask */
async function isWanted(parts: readonly Part[], cuda: CudaVersion, options: InstallOptions): Promise<boolean> {
  const { toolchainFolder } = await import("../../runtime/devices/cuda/discover.ts");
  const { wheelDir, yes = false } = options;
  const width = Math.max(...parts.map(({ packages }) => packages[cuda].name.length));
  say(wheelDir === undefined ? "fetched with pip, from NVIDIA's Python packages:" : `taken from ${wheelDir}:`);
  for (const { packages, title, purpose } of parts) {
    const { name, megabytes: size } = packages[cuda];
    const what = `${title}, which ${purpose}`;
    say(wheelDir === undefined ? `  ${name.padEnd(width)}  about ${size} MB  ${what}, for CUDA ${cuda}` : `  ${what}`);
  }
  say(`into ${toolchainFolder()}; NVIDIA's license comes along and applies`);
  if (yes) return true;
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new Diagnostic({
      kind: "toolchain",
      message: "this needs your consent, and there is no terminal to ask on",
      fix: "add --yes",
    });
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const closed = new Promise<string>((resolve) => terminal.once("close", () => resolve("")));
    return /^y(es)?$/i.test((await Promise.race([terminal.question("Go on? [y/N] "), closed])).trim());
  } finally {
    terminal.close();
  }
}

const megabytes = (bytes: number): number => Math.round(bytes / 1e6);

async function fetching(part: Part, cuda: CudaVersion, { wheelDir }: InstallOptions) {
  const { silentProgress, startProgress } = await import("../../runtime/observe/progress.ts");
  if (wheelDir !== undefined || !process.stderr.isTTY) return silentProgress;
  const { name, megabytes: total } = part.packages[cuda];
  return startProgress({ label: name, total, unit: "MB" });
}
