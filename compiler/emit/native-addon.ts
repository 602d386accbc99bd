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
export function nativeAddons(root: string): readonly Addon[] {
  const [os, cpu] = [platform(), arch()];
  const name = `@koromix/koffi-${os}-${cpu}`;
  const found: Addon[] = [];
  const home = packageFolder(root, name);
  for (const { libc, folder } of home === undefined ? [] : FOLDERS) {
    const inside = folder(os, cpu);
    const path = join(home ?? "", inside, "koffi.node");
    if (inside === "" || !existsSync(path)) continue;
    found.push({ platform: os, arch: cpu, libc, ...pack(readFileSync(path)) });
  }
  if (found.length > 0) return found;
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
