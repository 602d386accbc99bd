/**
 * What a machine with an NVIDIA GPU can tell, in one command: do single instructions and kernels do there what they do in
 * the simulator, do the recordings agree, and how fast are operators and training steps beside PyTorch's? Without a GPU it
 * says so and ends well.
 *
 *     npm run gpu:check [-- --out FOLDER] [--only kernels,recordings,operators,steps]
 */
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { Command, CommanderError } from "commander";
import { cudaSources } from "../compiler/emit/cuda-sources.ts";
import { Diagnostic } from "../contract/diagnostic.ts";
import type { Precision } from "../contract/precision.ts";
import { runChild } from "../runtime/devices/cpu/child.ts";
import { createCudaDevice } from "../runtime/devices/cuda/device.ts";
import { openDriver, printVersion } from "../runtime/devices/cuda/driver.ts";
import { openNvrtc } from "../runtime/devices/cuda/nvrtc.ts";
import { describe, measure, type Result } from "./bench.ts";
import { stepsOnGpu } from "./cases.ts";
import { DIT_XL, timeOperators, type Sizes, type Timing } from "./operators.ts";

const PRECISIONS: readonly Precision[] = ["bf16", "f32"];
const RUNS = 20;
/** Turns of a training step. */
const STEPS = 3;
const PEER_SCRIPT = "bench/peer/gpu.py";
const AT_A_TIME = 4;
const PATIENCE = 180_000; // milliseconds that one recording may take

/** Tests that run on the GPU where SORACC_TEST_MACHINE says so: every function of machine.cuh, and every kind of kernel. */
const KERNEL_TESTS = [
  "test/sim/machine.test.ts",
  "test/sim/hopper.test.ts",
  "test/numerics/gpu-kernels.test.ts",
  "test/numerics/hopper-kernels.test.ts",
];

interface Verified {
  readonly recording: string;
  readonly precision: Precision;
  readonly result: "agrees" | "differs" | "fails" | "nothing to compare";
  readonly seconds: number;
  /** The tensor nearest to its tolerance or farthest beyond, and its share of it; else what was said. */
  readonly note: string;
}

/** Names of tests. */
interface Tested {
  readonly passed: readonly string[];
  readonly failed: readonly string[];
}

interface Compared extends Timing {
  readonly precision: Precision;
  /** PyTorch's time for the same; null where python3 has no torch. */
  readonly peerMilliseconds: number | null;
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** Resolves to the exit code. */
export async function main(words: readonly string[], root: string): Promise<number> {
  const options = readOptions(words);
  if (typeof options === "number") return options;
  const { out, parts } = options;
  const recordings = recordingsIn(join(root, "test", "fixtures"));
  const gpu = await gpuOfMachine();
  if (gpu === undefined) {
    say("SKIPPED: the tests of instructions and kernels");
    say(`SKIPPED: ${recordings.length} recordings in ${PRECISIONS.join(" and ")}, and the comparison with PyTorch`);
    return 0;
  }
  await useNvrtcOfPython();
  say(`gpu  ${gpu.name}, driver for CUDA ${gpu.cuda}, NVRTC ${(await openNvrtc()).version}`);
  const folder = resolve(out ?? join(root, "bench", "results"));
  mkdirSync(folder, { recursive: true });
  const date = new Date().toISOString().slice(0, 10);
  const file = join(folder, `${gpu.name.toLowerCase().replace(/[^a-z0-9]+/g, "-")}-${date}.json`);
  const results: Results = {};
  /** What is there is kept, whatever becomes of the rest. */
  const keep = (found: Results): void => {
    Object.assign(results, found);
    writeFileSync(file, `${JSON.stringify({ gpu, date, sizes: DIT_XL, ...results }, null, 2)}\n`);
  };
  // Times first, alone; then what is right or wrong however busy the machine is.
  if (parts.has("steps")) keep(await compareSteps(root));
  if (parts.has("operators")) await compareOperators(root, keep);
  const tests = parts.has("kernels") ? testKernels(root) : null;
  if (parts.has("recordings")) keep({ verified: await verifyAll(recordings, root) });
  if (tests !== null) keep({ tested: await tests });
  const { verified = [], tested, failed = null, failedSteps = [] } = results;
  const wrong = verified.filter(({ result }) => result === "differs" || result === "fails").length;
  say(`${verified.length - wrong} of ${verified.length} verifications are well; written to ${file}`);
  const untrue = wrong + (tested?.failed.length ?? 0);
  return untrue === 0 && failed === null && failedSteps.length === 0 ? 0 : 1;
}

/** What the parts found that were asked for, as far as they have come. */
interface Results extends Partial<Comparison>, Partial<Steps> {
  tested?: Tested | null;
  verified?: readonly Verified[];
}

const PARTS = ["kernels", "recordings", "operators", "steps"] as const;
type Part = (typeof PARTS)[number];

interface Options {
  readonly out: string | undefined;
  readonly parts: ReadonlySet<Part>;
}

/** An exit code where there is nothing to do. */
function readOptions(words: readonly string[]): Options | number {
  const command = new Command("gpu:check")
    .description("tests kernels, verifies recordings and times operators and training steps on this machine's GPU")
    .option("--out <folder>", "for the results (default: bench/results)")
    .option("--only <parts>", `some of ${PARTS.join(",")}`)
    .exitOverride();
  try {
    command.parse([...words], { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode;
    throw error;
  }
  const { out, only } = command.opts<{ out?: string; only?: string }>();
  const named = only?.split(",") ?? PARTS;
  const unknown = named.find((part) => !PARTS.includes(part as Part));
  if (unknown === undefined) return { out, parts: new Set(named as readonly Part[]) };
  process.stderr.write(`gpu:check: there is no part ${unknown}\n  parts  ${PARTS.join(", ")}\n`);
  return 1;
}

interface GpuFacts {
  readonly name: string;
  readonly cuda: string;
}

/** Undefined, after saying why, where there is none. */
async function gpuOfMachine(): Promise<GpuFacts | undefined> {
  try {
    const driver = await openDriver();
    const facts = { name: driver.gpu.name, cuda: printVersion(driver.version) };
    driver.close();
    return facts;
  } catch (error) {
    if (!(error instanceof Diagnostic)) throw error;
    say(`no GPU: ${error.parts.message}`);
    return undefined;
  }
}

/** Where no NVRTC is found, PyTorch's own may be there. */
async function useNvrtcOfPython(): Promise<void> {
  const found = await openNvrtc().catch(() => undefined);
  if (found !== undefined) return;
  const look =
    "import glob, sys; print(*[f for p in sys.path for f in glob.glob(p + '/nvidia/*/lib/libnvrtc.so.1[23]')], sep='\\n')";
  const { stdout } = await runChild("python3", ["-c", look]);
  const [library] = stdout.split("\n");
  if (library !== undefined && library !== "") process.env["SORACC_NVRTC"] = library;
}

/** Null, after saying so, where the packages for tests are not installed. */
async function testKernels(root: string): Promise<Tested | null> {
  const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
  if (!existsSync(vitest)) {
    say("SKIPPED: the tests of instructions and kernels; vitest is not installed");
    return null;
  }
  const folder = mkdtempSync(join(tmpdir(), "soracc-tests-"));
  const report = join(folder, "report.json");
  try {
    const words = [vitest, "run", ...KERNEL_TESTS, "--root", root, "--reporter=json", `--outputFile=${report}`];
    const run = await runChild(process.execPath, words, { cwd: root, environment: { SORACC_TEST_MACHINE: "gpu" } });
    if (!existsSync(report))
      return { passed: [], failed: [`vitest ends with ${run.code ?? run.signal}: ${run.stderr}`] };
    const { testResults: files } = JSON.parse(readFileSync(report, "utf8")) as VitestReport;
    const all = files.flatMap(({ assertionResults }) => assertionResults);
    const named = (status: string): string[] =>
      all.filter((test) => test.status === status).map((test) => test.fullName);
    const broken = files.filter(({ status, assertionResults }) => status === "failed" && assertionResults.length === 0);
    const tested = { passed: named("passed"), failed: [...named("failed"), ...broken.map(({ name }) => name)] };
    say(`tests of instructions and kernels: ${tested.passed.length} pass, ${tested.failed.length} fail`);
    for (const name of tested.failed) say(`  FAILS  ${name}`);
    return tested;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

interface VitestReport {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

/** Files that name a model; the others are tables. */
function recordingsIn(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".safetensors"))
    .map((name) => join(folder, name))
    .filter(namesModel)
    .sort();
}

function namesModel(file: string): boolean {
  const descriptor = openSync(file, "r");
  try {
    const length = Buffer.alloc(8);
    readSync(descriptor, length, 0, 8, 0);
    const header = Buffer.alloc(Number(length.readBigUInt64LE()));
    readSync(descriptor, header, 0, header.length, 8);
    const { __metadata__: facts } = JSON.parse(header.toString("utf8")) as { __metadata__?: { model?: string } };
    return facts?.model !== undefined;
  } finally {
    closeSync(descriptor);
  }
}

/** Each in a process of its own: a kernel that fails takes the GPU's context along. */
async function verifyAll(recordings: readonly string[], root: string): Promise<readonly Verified[]> {
  const work = recordings.flatMap((file) => PRECISIONS.map((precision) => ({ file, precision })));
  const done: Verified[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < work.length; index = next++) {
      const { file, precision } = work[index]!;
      const one = await verifyOne(file, precision, root);
      done[index] = one;
      say(`  ${one.result.padEnd(8)}  ${one.recording} ${precision}, ${one.seconds.toFixed(1)} s  ${one.note}`);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_A_TIME, availableParallelism()) }, worker));
  return done;
}

interface Report {
  readonly ok: boolean;
  readonly tensors: readonly { readonly name: string; readonly error: number | null; readonly tolerance: number }[];
}

async function verifyOne(file: string, precision: Precision, root: string): Promise<Verified> {
  const words = ["verify", file, "--device", "cuda", "--precision", precision, "--json"];
  const started = performance.now();
  const abort = AbortSignal.timeout(PATIENCE);
  const { stdout, stderr, code, signal } = await runChild(process.execPath, [join(root, "bin/soracc.js"), ...words], { abort }); // prettier-ignore
  const seconds = (performance.now() - started) / 1000;
  const facts = { recording: relative(join(root, "test/fixtures"), file), precision, seconds };
  if (stderr.includes("no tensors that are compared")) return { ...facts, result: "nothing to compare", note: "" };
  if (!stdout.startsWith("{")) {
    const said = stderr.trim() === "" ? `exit code ${code ?? signal ?? "unknown"}` : stderr.trim();
    return { ...facts, result: "fails", note: abort.aborted ? `took more than ${PATIENCE / 1000} s` : said };
  }
  const { ok, tensors } = JSON.parse(stdout) as Report;
  const shares = tensors.map(({ name, error, tolerance }) => ({
    name,
    share: error === null ? Infinity : error === 0 ? 0 : error / tolerance,
  }));
  const [worst] = shares.sort((a, b) => b.share - a.share);
  const note = worst === undefined ? "" : `${worst.name} at ${(100 * worst.share).toFixed(1)} % of its tolerance`;
  return { ...facts, result: ok ? "agrees" : "differs", note };
}

interface Comparison {
  readonly operators: readonly Compared[];
  /** The peer's version, or why there is none. */
  readonly peer: string;
  /** Why our own operators could not be timed. */
  readonly failed: string | null;
}

async function compareOperators(root: string, keep: (found: Comparison) => void): Promise<void> {
  const operators: Compared[] = [];
  let peerFacts = "";
  try {
    for (const precision of PRECISIONS) {
      const device = await createCudaDevice({ headers: cudaSources(root).prelude });
      const target = { name: "cuda", arch: device.arch } as const;
      const request = { device, target, precision, sizes: DIT_XL, runs: RUNS };
      const own = await timeOperators(request).finally(() => device.close());
      const { facts, times } = await timesOfPeer(root, precision, DIT_XL);
      peerFacts = facts;
      for (const timing of own) {
        const peer = times.get(timing.name) ?? null;
        operators.push({ ...timing, precision, peerMilliseconds: peer });
        const beside = peer === null ? "" : `; PyTorch ${peer.toFixed(3)} ms, ${(peer / timing.milliseconds).toFixed(2)} of its speed`; // prettier-ignore
        say(`  ${timing.name} ${precision}: ${timing.milliseconds.toFixed(3)} ms, ${timing.teraflops.toFixed(1)} TFLOP/s${beside}`); // prettier-ignore
      }
      keep({ operators, peer: peerFacts, failed: null });
    }
    say(`  peer: ${peerFacts}`);
  } catch (error) {
    if (!(error instanceof Diagnostic)) throw error;
    say(error.message);
    keep({ operators, peer: peerFacts, failed: error.message });
  }
}

interface Steps {
  readonly steps: readonly Result[];
  /** What was said by those of ours that could not be timed. */
  readonly failedSteps: readonly string[];
}

/** Whole training steps, beside torch.compile where python3 has it and the case says how. */
async function compareSteps(root: string): Promise<Steps> {
  const steps: Result[] = [];
  const failedSteps: string[] = [];
  for (const one of stepsOnGpu(availableParallelism())) {
    try {
      const result = await measure(one, root, { runs: String(STEPS), peer: "compile", python: "python3" });
      steps.push(result);
      say(`  ${describe("train", result)}`);
    } catch (error) {
      failedSteps.push((error as Error).message);
      say(`  FAILS  ${(error as Error).message}`);
    }
  }
  return { steps, failedSteps };
}

interface Peer {
  readonly facts: string;
  readonly times: ReadonlyMap<string, number>;
}

async function timesOfPeer(root: string, precision: Precision, sizes: Sizes): Promise<Peer> {
  const { tokens, width, heads } = sizes;
  const words = [join(root, PEER_SCRIPT), ...[tokens, width, heads].map(String), precision, String(RUNS)];
  const { code, stdout, stderr, failure } = await runChild("python3", words, { abort: AbortSignal.timeout(PATIENCE) });
  if (code !== 0) {
    const said = stderr.trim().split("\n").at(-1) ?? "";
    return { facts: `skipped (${failure === undefined ? said : `python3: ${failure}`})`, times: new Map() };
  }
  const { torch, timings } = JSON.parse(stdout) as { torch: string; timings: readonly Omit<Timing, "teraflops">[] };
  return {
    facts: `PyTorch ${torch}`,
    times: new Map(timings.map(({ name, milliseconds }) => [name, milliseconds])),
  };
}
