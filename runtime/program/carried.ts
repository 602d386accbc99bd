/** What the binary carries, unpacked when it is asked for. */
import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { arch, platform } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { Diagnostic } from "../../contract/diagnostic.ts";
import type { Addon, Packed, Payload } from "../../contract/payload.ts";
import { parsePlan } from "../../contract/plan-schema.ts";
import type { Plan } from "../../contract/plan.ts";
import { cached, hashOf, openCacheFolder } from "../devices/cpu/cache-folder.ts";
import { createCpuDevice } from "../devices/cpu/device.ts";
import type { Koffi, LoadKoffi } from "../devices/cpu/host.ts";
import { createCudaDevice } from "../devices/cuda/device.ts";
import type { Device } from "../devices/device.ts";

/** A training binary from the inside. */
export interface Carried {
  readonly soracc: string;
  /** @throws Diagnostic when the file was damaged on its way here */
  readonly plan: () => Plan;
  /** The device that the plan is for. @throws Diagnostic when this machine lacks what it takes */
  readonly openDevice: (options?: OpenOptions) => Promise<Device>;
  /** How native libraries are reached from inside a binary. */
  readonly loadKoffi: LoadKoffi;
}

export interface OpenOptions {
  /** Of the CPU device; a GPU's kernels are compiled by so many at a time. */
  readonly threads?: number | undefined;
}

export function openPayload(payload: Payload): Carried {
  let known: Plan | undefined;
  const plan = (): Plan => (known ??= parsePlan(new TextDecoder().decode(unpack(payload.plan, "plan"))));
  const fromPayload: LoadKoffi = () => loadKoffi(payload.addons);
  return Object.freeze({
    soracc: payload.soracc,
    plan,
    loadKoffi: fromPayload,
    openDevice: async ({ threads }: OpenOptions = {}) => {
      const { prelude, hostSource = "" } = payload;
      const shared = { threads, loadKoffi: fromPayload };
      return plan().target === "cuda"
        ? createCudaDevice({ headers: prelude, script: process.argv[1], ...shared })
        : createCpuDevice({ prelude, hostSource, ...shared });
    },
  });
}

function unpack({ gzip, sha256 }: Packed, what: string): Uint8Array {
  try {
    const bytes = gunzipSync(Buffer.from(gzip, "base64"));
    if (createHash("sha256").update(bytes).digest("hex") === sha256) return bytes;
  } catch {
    // Said below.
  }
  throw new Diagnostic({
    kind: "binary",
    message: `this training binary is damaged: its ${what} does not match its checksum`,
    fix: "copy the file again, or compile the model again",
  });
}

/** Written once to the cache folder, under the hash of its content. */
async function loadKoffi(addons: readonly Addon[]): Promise<Koffi> {
  const addon = addonFor(addons);
  const cache = await openCacheFolder(undefined, (message) => void process.stderr.write(`soracc: ${message}\n`));
  const { path } = await cached(cache, hashOf("addon", addon.sha256), "koffi.node", (folder) =>
    writeFile(join(folder, "koffi.node"), unpack(addon, "native addon")),
  );
  const module = { exports: {} };
  try {
    process.dlopen(module, path);
  } catch (error) {
    throw new Diagnostic({
      kind: "binary",
      message: "the native addon cannot be loaded",
      details: [error instanceof Error ? (error.message.split("\n", 1)[0] ?? "") : String(error)],
      fix: "if that folder's disk forbids execution (noexec), set SORACC_CACHE to another one",
    });
  }
  return module.exports as Koffi;
}

function addonFor(addons: readonly Addon[]): Addon {
  const machine = { platform: platform(), arch: arch(), libc: libcOfNode() };
  const found = addons.find((one) =>
    (Object.keys(machine) as (keyof typeof machine)[]).every((key) => one[key] === machine[key]),
  );
  if (found !== undefined) return found;
  const describe = (one: Pick<Addon, "platform" | "arch" | "libc">): string =>
    `${one.platform} ${one.arch}${one.libc === "system" ? "" : ` (${one.libc})`}`;
  throw new Diagnostic({
    kind: "binary",
    message: `this training binary was made for ${addons.map(describe).join(" and ")}, this machine is ${describe(machine)}`,
    fix: "compile the model on a machine of this kind",
  });
}

/** Node reports the version of glibc it runs with; with another C library there is none. */
function libcOfNode(): Addon["libc"] {
  if (platform() !== "linux") return "system";
  const report = process.report.getReport() as { readonly header?: { readonly glibcVersionRuntime?: string } };
  return report.header?.glibcVersionRuntime === undefined ? "musl" : "glibc";
}
