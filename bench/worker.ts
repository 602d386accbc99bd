/**
 * One case of the benchmark in a process of its own, as bench/peer/worker.py is for PyTorch. On standard output one JSON
 * object a line: first `about`, after the runs that warm up; then, for every line of standard input, the `ms` of one turn:
 * the median of as many runs as TURN holds, and at least of one; when the input ends, `peakMib`, the most memory this
 * process ever had, and for products `ofPeak`, their share of the peak that this processor then has.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { build } from "../compiler/commands/compile/build.ts";
import { cudaSources } from "../compiler/emit/cuda-sources.ts";
import { nativeSources } from "../compiler/emit/native-sources.ts";
import { readModel } from "../compiler/read-model.ts";
import { CPU } from "../compiler/pipeline.ts";
import type { Arch, Plan } from "../contract/plan.ts";
import { createCpuDevice } from "../runtime/devices/cpu/device.ts";
import { measurePeaks } from "../runtime/devices/cpu/peaks.ts";
import { createCudaDevice } from "../runtime/devices/cuda/device.ts";
import type { Device } from "../runtime/devices/device.ts";
import { builtInTextEncoder } from "../runtime/data/text.ts";
import { loadPrograms } from "../runtime/program/load.ts";
import { chooseSampler, openSampler, samplingPrograms } from "../runtime/sample/sampler.ts";
import { prepareStep } from "../runtime/train/bench.ts";
import { median } from "./median.ts";
import type { Case, CompileCase, ModelCase, OperatorCase } from "./cases.ts";
import { noise, operatorsFor, prepareOperator } from "./operators.ts";

/** Milliseconds. Caches and threads are cold at the beginning of a turn, which must not decide what short runs take. */
const TURN = 100;

interface Prepared {
  readonly about: string;
  /** Resolves to milliseconds. */
  readonly run: () => Promise<number>;
  /** The operations of a run, and the processor's peak in 10^9 of them a second; of products only. */
  readonly judge?: () => Promise<{ readonly flops: number; readonly peak: number }>;
  /** Bytes that a plan asks for on a GPU; else what counts is the most memory this process ever had. */
  readonly planned?: number;
  readonly close: () => Promise<void>;
}

export async function work(one: Case, root: string): Promise<void> {
  const say = (facts: object): void => void process.stdout.write(`${JSON.stringify(facts)}\n`);
  const { about, run, judge, planned, close } = await prepare(one, root);
  for (let i = 0; i < one.warmup; i++) await run();
  say({ about });
  const times: number[] = [];
  for await (const _ of createInterface({ input: process.stdin })) say({ ms: times[times.push(await turn(run)) - 1] });
  const peakMib = planned === undefined ? process.resourceUsage().maxRSS / 1024 : planned / 2 ** 20;
  const judged = await judge?.();
  say({ peakMib, ...(judged === undefined ? {} : { ofPeak: judged.flops / median(times) / 1e6 / judged.peak }) });
  await close();
}

async function turn(run: () => Promise<number>): Promise<number> {
  const times: number[] = [];
  const started = performance.now();
  do times.push(await run());
  while (performance.now() - started < TURN);
  return median(times);
}

function prepare(one: Case, root: string): Promise<Prepared> {
  switch (one.suite) {
    case "train":
      return prepareTraining(one, root);
    case "sample":
      return prepareSampling(one, root);
    case "contract":
    case "attention":
      return prepareProduct(one);
    case "compile":
      return prepareCommand(one, root);
  }
}

const timed = async (run: () => Promise<unknown>): Promise<number> => {
  const started = performance.now();
  await run();
  return performance.now() - started;
};

type OpenDevice = Device & { readonly arch?: Arch };

const openDevice = ({ device, threads }: ModelCase, root: string): Promise<OpenDevice> =>
  device === "cuda"
    ? createCudaDevice({ headers: cudaSources(root).prelude })
    : createCpuDevice({ ...nativeSources(root), threads });

async function planOf(one: ModelCase, { arch }: OpenDevice, root: string, set: readonly string[] = []): Promise<Plan> {
  const { preset, conditioning, precision, device } = one;
  const text = await readModel(join(root, "models", "dit.sora.ts"));
  const target = { target: device, ...(arch === undefined ? {} : { arch }) };
  const { plan } = await build(text, {
    preset,
    set: [`conditioning=${conditioning}`, ...one.set, ...set],
    precision,
    ...target,
  });
  return plan;
}

/** Frames of 8 by 8 tokens. */
const sizeOf = (tokens: number) => ({ frames: Math.ceil(tokens / 64), height: 16, width: 16 });

async function prepareTraining(one: ModelCase, root: string): Promise<Prepared> {
  const device = await openDevice(one, root);
  const plan = await planOf(one, device, root);
  const step = await prepareStep(plan, device, { size: sizeOf(one.tokens), batch: 1, textTokens: one.textTokens });
  return {
    about: device.description,
    run: () => timed(() => step.take()),
    close: () => device.close(),
    ...(one.device === "cuda" ? { planned: step.peakBytes } : {}),
  };
}

const SAMPLED_STEPS = 10;

/** Steps of a sampler, with the conversion to pixels at their end; a time is that of one step. */
async function prepareSampling(one: ModelCase, root: string): Promise<Prepared> {
  const device = await openDevice(one, root);
  const plan = await planOf(one, device, root, ["channels=3"]);
  const sampler = chooseSampler(plan, "ddim");
  const loaded = await loadPrograms(device, plan, samplingPrograms(sampler));
  const count = plan.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const weights = loaded.createState("parameters", "f32", count);
  const some = noise(2 ** 16).map((value) => value / 16);
  for (let at = 0; at < count; at += some.length) weights.write(some.subarray(0, count - at), at);
  const sampling = openSampler({ loaded, parameters: weights, encoder: builtInTextEncoder(512) });
  const settings = { size: sizeOf(one.tokens), seed: 0, sampler, steps: SAMPLED_STEPS, guidance: 4 };
  const prompt = Array.from({ length: one.textTokens }, (_, i) => `word${i}`).join(" ");
  return {
    about: device.description,
    run: async () => (await timed(() => sampling.sample([prompt], settings))) / SAMPLED_STEPS,
    close: () => device.close(),
  };
}

async function prepareProduct(one: OperatorCase): Promise<Prepared> {
  const { tokens, width, heads, precision, threads } = one;
  const device = await createCpuDevice({ ...nativeSources(), threads });
  const sizes = { tokens, width, heads };
  const operator = operatorsFor(sizes).find(({ name }) => name === one.operator)!;
  const prepared = await prepareOperator(operator, { device, target: CPU, precision, sizes });
  const end = async (): Promise<void> => {
    await prepared.close();
    await device.close();
  };
  const judge = async (): Promise<{ flops: number; peak: number }> => {
    const { gflops } = await measurePeaks(device);
    return { flops: operator.flops, peak: precision === "bf16" ? gflops.bf16 : gflops.f32 };
  };
  return { about: device.description, run: () => prepared.run(), judge, close: end };
}

/** The training step of DiT-XL/2, from the model's text to kernels that can run; and how long `soracc --help` takes. */
async function prepareCommand({ what, threads }: CompileCase, root: string): Promise<Prepared> {
  const start = (words: readonly string[], cache: string): void => {
    const env = { ...process.env, SORACC_CACHE: cache };
    const all = [join(root, "bin", "soracc.js"), ...words];
    const { status, stderr } = spawnSync(process.execPath, all, { encoding: "utf8", env });
    if (status !== 0) throw new Error(`soracc ${words.join(" ")}: ${stderr}`);
  };
  const folder = mkdtempSync(join(tmpdir(), "soracc-bench-"));
  const close = async (): Promise<void> => rmSync(folder, { recursive: true, force: true });
  if (what === "help") {
    start(["--help"], folder);
    return { about: "soracc --help", run: () => timed(async () => start(["--help"], folder)), close };
  }
  const file = join(root, "models", "dit.sora.ts");
  const { plan } = await build(await readModel(file), { preset: "XL/2", set: [], target: "cpu" });
  const compileAndLoad = async (cacheDir: string): Promise<void> => {
    start(["compile", file, "--preset", "XL/2", "--force", "-o", join(folder, "dit")], cacheDir);
    const device = await createCpuDevice({ ...nativeSources(root), threads, cacheDir });
    await loadPrograms(device, plan, ["initialize", "accumulate", "update"]);
    await device.close();
  };
  let runs = 0;
  const next = (): string => join(folder, what === "warm" ? "warm" : `cold-${runs++}`);
  if (what === "warm") await compileAndLoad(next());
  return { about: "soracc compile, and the kernels of a training step", run: () => timed(() => compileAndLoad(next())), close }; // prettier-ignore
}
