import { spawn } from "node:child_process";
import { copyFileSync, existsSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { build } from "esbuild";
import { beforeAll, describe, expect, test } from "vitest";
import { printPlan } from "../../contract/plan-schema.ts";
import type { Plan } from "../../contract/plan.ts";
import type { ChildRequest } from "./child-main.ts";
import { hostSource, prelude, smallPlan, waitingPlan } from "./small-plans.ts";
import { temporaryFolder } from "./with-device.ts";

const folder = temporaryFolder();
const script = join(folder, "child"); // no extension, no package.json: CommonJS whatever surrounds it
const addon = join(folder, "extracted-koffi.node");
const shared = join(folder, "cache");

interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly seconds: number;
}

beforeAll(async () => {
  await build({
    entryPoints: [join(import.meta.dirname, "child-main.ts")],
    outfile: script,
    bundle: true,
    platform: "node",
    format: "cjs",
    external: ["koffi"],
  });
  copyFileSync(koffiAddon(), addon);
});

/** The addon that koffi's own loader takes on this machine. */
function koffiAddon(): string {
  const require = createRequire(createRequire(import.meta.url).resolve("koffi"));
  const root = dirname(require.resolve(`@koromix/koffi-${process.platform}-${process.arch}`));
  const musl = process.platform === "linux" && !("glibcVersionRuntime" in header());
  return join(root, `${musl ? "musl" : process.platform}_${process.arch}`, "koffi.node");
}

const header = (): object => (process.report.getReport() as { readonly header: object }).header;

function child(
  plan: Plan,
  action: ChildRequest["action"],
  cacheDir: string,
  onOutput?: (pid: number) => void,
): Promise<Ended> {
  // prettier-ignore
  const file = join(folder, `${action.replaceAll(" ", "-")}.plan.json`);
  writeFileSync(file, printPlan(plan));
  const request: ChildRequest = { plan: file, addon, action, options: { prelude, hostSource, cacheDir } };
  const started = performance.now();
  const process_ = spawn(process.execPath, [script, JSON.stringify(request)], { cwd: folder });
  const output = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    process_[name].on("data", (chunk: Buffer) => {
      output[name] += chunk.toString("utf8");
      if (output.stdout.includes("running") && process_.pid !== undefined) onOutput?.(process_.pid);
    });
  }
  return new Promise((resolve) => {
    process_.once("close", (code, signal) => {
      resolve({ code, signal, ...output, seconds: (performance.now() - started) / 1000 });
    });
  });
}

describe("a process with a CPU device", () => {
  test("two may compile the same kernels at once", async () => {
    const cache = join(folder, "cache-for-two");
    const both = await Promise.all([child(smallPlan(), "load", cache), child(smallPlan(), "load", cache)]);
    expect(both).toMatchObject([{ code: 0, stderr: "" }, { code: 0, stderr: "" }]); // prettier-ignore
    expect(readdirSync(cache).filter((name) => name.startsWith("draft-"))).toEqual([]);
    const third = await child(smallPlan(), "load", cache);
    expect(JSON.parse(third.stdout)).toMatchObject({ kernels: 4, compiled: 0 });
  });

  test("may exit while a plan runs", async () => {
    for (let i = 0; i < 5; i++) {
      const ended = await child(waitingPlan(4, 20), "exit while running", shared);
      expect(ended).toMatchObject({ code: 7, signal: null, stderr: "" });
      expect(ended.seconds).toBeLessThan(30);
    }
  });

  test("may be interrupted while a plan runs", async () => {
    let sent = false;
    const ended = await child(waitingPlan(4, 20), "end by signal", shared, (pid) => {
      if (!sent) process.kill(pid, "SIGINT");
      sent = true;
    });
    expect(ended).toMatchObject({ code: 130, signal: null, stderr: "" });
  });

  test("needs nothing from node_modules", () => {
    expect(existsSync(join(folder, "node_modules"))).toBe(false);
  });
});
