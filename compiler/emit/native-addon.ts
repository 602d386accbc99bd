/** koffi's native addon as installed here, for the binary to carry. */
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { arch, platform } from "node:os";
import { dirname, join } from "node:path";
import { Diagnostic } from "../../contract/diagnostic.ts";
import type { Addon } from "../../contract/payload.ts";
import { pack } from "./pack.ts";

/** On Linux the package may hold one addon per C library; both are carried when both are there. */
const FOLDERS: readonly { readonly libc: Addon["libc"]; readonly folder: (os: string, cpu: string) => string }[] = [
  { libc: "glibc", folder: (os, cpu) => (os === "linux" ? `linux_${cpu}` : "") },
  { libc: "musl", folder: (os, cpu) => (os === "linux" ? `musl_${cpu}` : "") },
  { libc: "system", folder: (os, cpu) => (os === "linux" ? "" : `${os}_${cpu}`) },
];

/** @throws Diagnostic when the package is not installed for this machine */
export async function nativeAddons(root: string): Promise<readonly Addon[]> {
  const [os, cpu] = [platform(), arch()];
  const name = `@koromix/koffi-${os}-${cpu}`;
  const home = packageFolder(root, name);
  const found = (home === undefined ? [] : FOLDERS)
    .filter(({ folder }) => folder(os, cpu) !== "")
    .map(({ libc, folder }) => ({ libc, path: join(home!, folder(os, cpu), "koffi.node") }))
    .filter(({ path }) => existsSync(path))
    .map(async ({ libc, path }) => ({ platform: os, arch: cpu, libc, ...(await pack(readFileSync(path))) }));
  if (found.length > 0) return Promise.all(found);
  throw new Diagnostic({
    kind: "install",
    message: `the package ${name}, which every training binary carries, is not installed`,
    fix: `cd ${root} && npm ci --ignore-scripts`,
  });
}

function packageFolder(root: string, name: string): string | undefined {
  try {
    const fromRoot = createRequire(join(root, "package.json"));
    const fromKoffi = createRequire(fromRoot.resolve("koffi"));
    return dirname(fromKoffi.resolve(`${name}/package.json`));
  } catch {
    return undefined;
  }
}
