/** What does the model say where the recording says something? Runs every recorded program and pairs the tensors. */
import { Diagnostic } from "../../../contract/diagnostic.ts";
import {
  DIFFUSION_STEPS,
  gaussianSchedule,
  linearBetas,
  respacedSchedule,
  respacedTimesteps,
  SAMPLERS,
  samplerTables,
  type GaussianSchedule,
} from "../../../contract/diffusion.ts";
import type { Precision } from "../../../contract/precision.ts";
import { staticValue } from "../../graph/dim.ts";
import type { Program } from "../../graph/node.ts";
import { TRAIN_SETTINGS } from "../../language/recipe.ts";
import type { TracedModel } from "../../language/trace-model.ts";
import type { Comparison, Kind } from "./agreement.ts";
import { isCompared } from "./agreement.ts";
import type { OpenDevice, Values } from "./devices.ts";
import { bindInputs, type InputSource } from "./inputs.ts";
import type { RecordedProgram, RecordedTensor, Recording } from "./recording.ts";

export interface Replay {
  readonly recording: Recording;
  readonly model: TracedModel;
  readonly device: OpenDevice;
  readonly precision: Precision;
}

export async function replay(run: Replay): Promise<Comparison[]> {
  const arena = fillArena(run);
  const comparisons: Comparison[] = [];
  for (const [name, recorded] of run.recording.programs) {
    comparisons.push(...(await (REPLAYS[name] ?? replayProgram)(run, arena, name, recorded)));
  }
  return comparisons;
}

type ReplayOne = (
  run: Replay,
  arena: Float64Array,
  name: string,
  recorded: RecordedProgram,
) => Promise<readonly Comparison[]>;

/** Programs that are recorded in a form of their own. */
const REPLAYS: Readonly<Record<string, ReplayOne>> = {
  train: replayTraining,
  sample: replaySampling,
  schedule: replaySchedule,
};

/** The arena of parameters as the recording has them. Errors: missing, foreign and misshapen parameters, all at once. */
function fillArena({ recording, model }: Replay): Float64Array {
  const { layout } = model;
  const arena = new Float64Array(layout.elements);
  const wrong: string[] = [];
  const known = new Set<string>();
  for (const { name, shape, offset } of layout.parameters) {
    known.add(name);
    const sizes = shape.map((axis) => staticValue(axis.size) ?? 0);
    const tensor = recording.parameters.get(name);
    if (tensor === undefined) wrong.push(`missing  ${name} [${sizes.join(", ")}]`);
    else if (tensor.shape.join() !== sizes.join()) {
      wrong.push(`shape    ${name} is [${tensor.shape.join(", ")}], the model has [${sizes.join(", ")}]`);
    } else arena.set(tensor.data, offset);
  }
  for (const [name, { shape }] of recording.parameters) {
    if (!known.has(name)) wrong.push(`foreign  ${name} [${shape.join(", ")}]`);
  }
  if (wrong.length === 0) return arena;
  throw new Diagnostic({
    kind: "recording",
    message: `${wrong.length} of the recorded parameters are not those of model "${model.name}"`,
    where: { file: recording.path },
    details: wrong.length > 12 ? [...wrong.slice(0, 12), `… and ${wrong.length - 12} more`] : wrong,
    fix: "check `config` in the metadata: the names and sizes follow from it",
  });
}

async function replayProgram(
  run: Replay,
  arena: Float64Array,
  name: string,
  recorded: RecordedProgram,
): Promise<Comparison[]> {
  refuseAfter(run, name, recorded);
  const { model, device } = run;
  const comparisons: Comparison[] = [];
  if (recorded.out.size > 0) {
    const results = await runOnce(device, model.recorded.program(name), sourceOf(run, name, recorded, arena));
    comparisons.push(...pair(run, "output", `${name}.out`, recorded.out, results, recorded.valid));
  }
  if (recorded.grad.size > 0) {
    const results = await gradientsOf(run, arena, name, recorded);
    comparisons.push(...pair(run, "gradient", `${name}.grad`, recorded.grad, results));
  }
  return comparisons;
}

/** In f16, those of a scaled loss, as training takes them: from its first scale down until all of them are finite. */
async function gradientsOf(run: Replay, arena: Float64Array, name: string, recorded: RecordedProgram): Promise<Values> {
  const { model, device, precision } = run;
  if (precision !== "f16") {
    return runOnce(device, model.recorded.gradients(name), sourceOf(run, name, recorded, arena));
  }
  const program = model.recorded.gradients(name, true);
  const prepared = await device.prepare(program);
  for (let lossScale = TRAIN_SETTINGS.lossScale.default; ; lossScale /= 2) {
    const source = sourceOf(run, name, recorded, arena, { lossScale: scalar(lossScale) });
    const { values, symbols } = bindInputs(program, source);
    const results = await prepared.run(values, symbols);
    const isFinite = [...results.values()].every((each) => Array.prototype.every.call(each, Number.isFinite));
    if (isFinite || lossScale <= 1) return results;
  }
}

async function runOnce(device: OpenDevice, program: Program, source: InputSource): Promise<Values> {
  const prepared = await device.prepare(program);
  const { values, symbols } = bindInputs(program, source);
  return prepared.run(values, symbols);
}

/** The recorded inputs of a program, its parameters, and what else it needs. */
function sourceOf(
  { recording, model }: Replay,
  program: string,
  recorded: RecordedProgram,
  arena: Float64Array,
  more: Readonly<Record<string, RecordedTensor>> = {},
): InputSource {
  const tensors = new Map([...recorded.in, ...Object.entries(more), ["parameters", flat(arena)] as const]);
  return { file: recording.path, program, tensors, masks: model.masks };
}

const flat = (data: Float64Array): RecordedTensor => ({ shape: [data.length], data });
const scalar = (value: number): RecordedTensor => ({ shape: [], data: Float64Array.of(value) });

/** Recorded tensors beside computed ones. Errors: the program has no output of a recorded name, or of another size. */
function pair(
  { recording }: Replay,
  kind: Kind,
  prefix: string,
  recorded: ReadonlyMap<string, RecordedTensor>,
  computed: Values,
  valid: ReadonlyMap<string, RecordedTensor> = new Map(),
): Comparison[] {
  return [...recorded].map(([name, tensor]) => {
    const values = computed.get(name);
    const flags = valid.get(name);
    if (flags !== undefined && flags.shape.join() !== tensor.shape.slice(0, flags.shape.length).join()) {
      throw new Diagnostic({
        kind: "recording",
        message: `the valid entries of "${prefix}.${name}" are [${flags.shape.join(", ")}], it is [${tensor.shape.join(", ")}]`,
        where: { file: recording.path },
        fix: "give a 0 or 1 for every index of its leading axes",
      });
    }
    if (values?.length === tensor.data.length) {
      return { name: `${prefix}.${name}`, kind, recorded: tensor, computed: values, valid: flags };
    }
    throw new Diagnostic({
      kind: "recording",
      message:
        values === undefined
          ? `the model computes no "${prefix}.${name}"`
          : `"${prefix}.${name}" holds ${tensor.data.length} values, and the model computes ${values.length}`,
      where: { file: recording.path },
      details: [`it computes ${[...computed.keys()].filter((each) => !each.startsWith("next.")).join(", ")}`],
      fix: "record the outputs of the model that the file names",
    });
  });
}

/** Optimizer steps on the inputs of `loss`: the loss before each, the parameters after the last. */
async function replayTraining(
  run: Replay,
  arena: Float64Array,
  _: string,
  recorded: RecordedProgram,
): Promise<Comparison[]> {
  const { recording, model, device, precision } = run;
  if (!isCompared("trained", precision)) return [];
  const { steps, optimizer } = trainingOf(recording);
  const program = model.recorded.training(optimizer);
  const loss = recording.programs.get("loss");
  if (loss === undefined) throw lacks(recording, "train", "the inputs of program `loss`, which training runs on");
  const zeros = flat(new Float64Array(arena.length));
  const start = { moment1: zeros, moment2: zeros, average: flat(arena), step: scalar(0), totalSteps: scalar(steps) };
  const { values, symbols } = bindInputs(program, sourceOf(run, "loss", loss, arena, start));
  const prepared = await device.prepare(program);
  const losses = new Map<string, ArrayLike<number>>();
  for (let step = 0; step < steps; step++) {
    const results = await prepared.run(values, symbols);
    losses.set(`loss${step}`, results.get("loss") ?? []);
    for (const name of program.next.keys()) values.set(name, results.get(`next.${name}`) ?? []);
  }
  const trained = Float64Array.from(values.get("parameters") ?? []);
  const parameters = new Map(
    model.layout.parameters.map((each) => [each.name, trained.subarray(each.offset, each.offset + each.elements)]),
  );
  return [
    ...pair(run, "output", "train.out", recorded.out, losses),
    ...pair(run, "trained", "train.param", recorded.param, parameters),
  ];
}

function trainingOf(recording: Recording): { readonly steps: number; readonly optimizer: RecordedOptimizer } {
  const { optimizer, lr, betas, eps, weightDecay, steps } = recording.train ?? {};
  const [beta1, beta2] = Array.isArray(betas) ? (betas as unknown[]) : [];
  const isKnown = optimizer === "adam" || optimizer === "adamw";
  if (isKnown && isNumber(lr) && isNumber(beta1) && isNumber(beta2) && isNumber(eps) && isNumber(steps)) {
    const decay = isNumber(weightDecay) ? weightDecay : 0;
    return { steps, optimizer: { optimizer, rate: lr, betas: [beta1, beta2], eps, weightDecay: decay } };
  }
  throw lacks(
    recording,
    "train",
    "metadata `train` with optimizer (adam or adamw), lr, betas, eps, weightDecay, steps",
  );
}

type RecordedOptimizer = Parameters<TracedModel["recorded"]["training"]>[0];

const isNumber = (value: unknown): value is number => typeof value === "number";

/** A whole chain of sampling steps for every recorded sampler, from the recorded noise. */
async function replaySampling(
  run: Replay,
  arena: Float64Array,
  _: string,
  recorded: RecordedProgram,
): Promise<Comparison[]> {
  const { recording, model, device, precision } = run;
  if (!isCompared("sampled", precision)) return [];
  const { steps, guidance } = recording.sample ?? {};
  if ((!isNumber(steps) && typeof steps !== "string") || !isNumber(guidance)) {
    throw lacks(recording, "sample", "metadata `sample` with steps and guidance");
  }
  const { noise, ...inputs } = Object.fromEntries(recorded.in);
  const samples = new Map<string, ArrayLike<number>>();
  for (const name of recorded.out.keys()) {
    const sampler = SAMPLERS.find((each) => each === name);
    if (sampler === undefined)
      throw lacks(recording, "sample", `outputs named by a sampler (${SAMPLERS.join(", ")}), not "${name}"`);
    const program = model.recorded.program(`sample.${sampler}`);
    const tables = Object.entries(samplerTables(sampler, steps)).map(([table, data]) => [table, flat(data)] as const);
    const count = tables[0]?.[1].data.length ?? 0;
    const takes = new Set(
      program.inputs.map((edge) => (edge.node.operation.op === "input" ? edge.node.operation.name : "")),
    );
    const drawn = takes.has("noise") ? { noise: noiseOf(recording, noise, 0, count) } : {};
    const more = { ...Object.fromEntries(tables), ...drawn, guidance: scalar(guidance), step: scalar(0) };
    const given: RecordedProgram = { ...recorded, in: new Map(Object.entries(inputs)) };
    const { values, symbols } = bindInputs(program, sourceOf(run, "sample", given, arena, more));
    const prepared = await device.prepare(program);
    for (let step = 0; step < count; step++) {
      if (takes.has("noise")) values.set("noise", noiseOf(recording, noise, step, count).data);
      const results = await prepared.run(values, symbols);
      for (const state of program.next.keys()) values.set(state, results.get(`next.${state}`) ?? []);
    }
    samples.set(name, values.get("z") ?? []);
  }
  return pair(run, "sampled", "sample.out", recorded.out, samples);
}

/** The noise of one step: the recording has that of all steps, in the order in which they run. */
function noiseOf(recording: Recording, noise: RecordedTensor | undefined, step: number, count: number): RecordedTensor {
  if (noise?.shape[0] !== count) throw lacks(recording, "sample", `sample.in.noise for ${count} steps`);
  const size = noise.data.length / count;
  return { shape: noise.shape.slice(1), data: noise.data.subarray(step * size, (step + 1) * size) };
}

const SCHEDULE: Readonly<Record<string, (schedule: GaussianSchedule) => readonly number[]>> = {
  timesteps: ({ timesteps }) => timesteps,
  betas: ({ betas }) => betas,
  alphas_cumprod: ({ alphasCumprod }) => alphasCumprod,
  posterior_variance: ({ posteriorVariance }) => posteriorVariance,
};

/** The schedule of the sampled steps, from which the sampler's tables follow. */
async function replaySchedule(
  run: Replay,
  _: Float64Array,
  name: string,
  recorded: RecordedProgram,
): Promise<Comparison[]> {
  const { steps } = run.recording.sample ?? {};
  if (!isNumber(steps) && typeof steps !== "string") return [];
  const schedule = respacedSchedule(gaussianSchedule(linearBetas()), respacedTimesteps(steps, DIFFUSION_STEPS));
  const computed = new Map(Object.entries(SCHEDULE).map(([key, take]) => [key, Float64Array.from(take(schedule))]));
  const known = new Map([...recorded.out].filter(([key]) => computed.has(key)));
  return pair(run, "output", name, known, computed);
}

function refuseAfter({ recording }: Replay, name: string, { after }: RecordedProgram): void {
  if (after.size > 0) throw lacks(recording, name, `no buffers after the run (${[...after.keys()].join(", ")})`);
}

const lacks = (recording: Recording, program: string, what: string): Diagnostic =>
  new Diagnostic({
    kind: "recording",
    message: `to replay \`${program}\`, verify needs ${what}`,
    where: { file: recording.path },
    fix: "record it, or leave the program out of the file",
  });
