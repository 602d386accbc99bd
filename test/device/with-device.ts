/** Devices for tests: one cache folder per test file, closed and removed at its end. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { createCpuDevice, type CpuDeviceOptions } from "../../runtime/devices/cpu/device.ts";
import type { Device } from "../../runtime/devices/device.ts";
import { hostSource, prelude } from "./small-plans.ts";

const opened: Device[] = [];
const folders: string[] = [];

afterAll(async () => {
  for (const device of opened) await device.close();
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "soracc-test-"));
  folders.push(folder);
  return folder;
}

/** Kernels of all tests of a file are compiled once. */
const shared = temporaryFolder();

export async function cpu(options: Partial<CpuDeviceOptions> = {}): Promise<Device> {
  const device = await createCpuDevice({ prelude, hostSource, cacheDir: shared, ...options });
  opened.push(device);
  return device;
}

/** Runs `work` with these environment variables, and puts the old ones back. */
export async function withEnvironment<T>(
  variables: Readonly<Record<string, string>>,
  work: () => Promise<T>,
): Promise<T> {
  const before = Object.keys(variables).map((name): [string, string | undefined] => [name, process.env[name]]);
  Object.assign(process.env, variables);
  try {
    return await work();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = value;
    }
  }
}

/** The Diagnostic that `work` ends with. */
export async function diagnosticOf(work: () => unknown): Promise<Diagnostic> {
  try {
    await work();
  } catch (error) {
    if (error instanceof Diagnostic) return error;
    throw error;
  }
  throw new Error("expected a Diagnostic, nothing was thrown");
}
