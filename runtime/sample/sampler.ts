/**
 * From texts to videos: noise, then the sampler's step program run as often as there are steps, then pixels.
 *
 * The tables of the noise process and all conditions are inputs of the bound step; state `step` tells a run which entry
 * is its own, so that the repetition happens natively.
 */
import { Diagnostic } from "../../contract/diagnostic.ts";
import { samplerTables, SAMPLERS, type Sampler } from "../../contract/diffusion.ts";
import type { Plan } from "../../contract/plan.ts";
import type { Frames } from "../data/ffmpeg.ts";
import { patchesToFrames } from "../data/patches.ts";
import type { TextEncoder } from "../data/text.ts";
import type { DeviceBuffer, LoadedPlan, Symbols } from "../devices/device.ts";
import { conditionSources, stackTexts } from "../program/conditions.ts";
import { recipeOf, videoFormOf, type VideoForm } from "../program/facts.ts";
import {
  bindFilled,
  bindSized,
  createStates,
  programNamed,
  scalarGiven,
  vectorGiven,
  type States,
} from "../program/fill.ts";

export interface SampleSize {
  readonly frames: number;
  readonly height: number;
  readonly width: number;
}

export interface SampleSettings {
  readonly size: SampleSize;
  readonly seed: number;
  readonly sampler: Sampler;
  readonly steps: number;
  readonly guidance: number;
}

export interface SamplingModel {
  readonly loaded: LoadedPlan;
  /** The arena of weights to sample from. */
  readonly parameters: DeviceBuffer;
  readonly encoder: TextEncoder;
}

/** The samplers this binary has programs for, the recipe's own first. */
export function samplersOf(plan: Plan): readonly Sampler[] {
  const own = recipeOf(plan).sampler;
  const there = SAMPLERS.filter((name) => plan.programs[`sample.${name}`] !== undefined);
  return own !== undefined && there.includes(own) ? [own, ...there.filter((name) => name !== own)] : there;
}

/** @throws Diagnostic when this model cannot be sampled, or not in this way */
export function chooseSampler(plan: Plan, asked: string | undefined): Sampler {
  const there = samplersOf(plan);
  const chosen = asked === undefined ? there[0] : there.find((name) => name === asked);
  if (chosen !== undefined) return chosen;
  throw new Diagnostic({
    kind: "sampler",
    message: asked === undefined ? "this model has no sampler" : `this model has no sampler ${asked}`,
    details: there.length === 0 ? [] : [`samplers  ${there.join(", ")}`],
    fix: there.length === 0 ? "define sampling programs in the model file" : "choose one of these with --sampler",
  });
}

/** The programs that sampling runs. */
export const samplingPrograms = (sampler: Sampler): readonly string[] => ["sample.start", `sample.${sampler}`];

export const samplingForm = (plan: Plan, sampler: Sampler): VideoForm => {
  const name = `sample.${sampler}`;
  return videoFormOf(
    name,
    programNamed(plan.programs, name).state.find((port) => port.name === "z"),
  );
};

/** @throws Diagnostic when a video of this size cannot be cut into whole patches */
export function checkSize({ frames, height, width }: SampleSize, patch: number): void {
  for (const [name, value] of [
    ["height", height],
    ["width", width],
  ] as const) {
    if (value > 0 && value % patch === 0) continue;
    const below = Math.floor(value / patch) * patch;
    const near = below > 0 ? `${below} or ${below + patch}` : String(patch);
    throw new Diagnostic({
      kind: "size",
      message: `a ${name} of ${value} is not a whole number of patches of ${patch}`,
      fix: `give --${name} ${near}`,
    });
  }
  if (frames >= 1) return;
  throw new Diagnostic({
    kind: "size",
    message: "a video without frames was asked for",
    fix: "give more --seconds, or --frames 1 or more",
  });
}

export interface VideoSampler {
  /**
   * One video per prompt, all in one batch.
   * @param told after every few steps
   */
  readonly sample: (
    prompts: readonly string[],
    settings: SampleSettings,
    told?: (stepsDone: number) => void,
  ) => Promise<readonly Frames[]>;
  /** Gives the memory of noise and steps back; the weights stay. */
  readonly close: () => void;
}

/** Videos of one shape use the same memory and the same bound programs, however often they are sampled. */
export function openSampler({ loaded, parameters, encoder }: SamplingModel): VideoSampler {
  const byShape = new Map<string, States>();
  const weights = new Map([["parameters", parameters]]);

  const statesFor = (name: string, sizes: Symbols): States => {
    const key = JSON.stringify([name, sizes]);
    const states = byShape.get(key) ?? createStates(loaded, ["sample.start", name], sizes, weights);
    byShape.set(key, states);
    return states;
  };

  return Object.freeze<VideoSampler>({
    sample: async (prompts, { size, seed, sampler, steps, guidance }, told = () => undefined) => {
      const name = `sample.${sampler}`;
      const { patch, channels } = samplingForm(loaded.plan, sampler);
      checkSize(size, patch);
      const [rows, columns] = [size.height / patch, size.width / patch];
      const tokens = size.frames * rows * columns;
      const batch = prompts.length;
      const tables = Object.entries(samplerTables(sampler, steps, recipeOf(loaded.plan).timeShift));
      const sources = {
        ...conditionSources({
          ...{ batch, tokens },
          videoLengths: new Int32Array(batch).fill(tokens),
          grids: Int32Array.from(prompts.flatMap(() => [size.frames, rows, columns])),
          ...stackTexts(await encoder.encode(prompts), encoder.textDim),
        }),
        ...Object.fromEntries(tables.map(([table, values]) => [table, () => vectorGiven(values)])),
        seed: () => scalarGiven(seed),
        guidance: () => scalarGiven(guidance),
      };
      const [batchSize, tokenSize] = zSymbols(loaded.plan, name);
      const sizes = { [batchSize]: batch, [tokenSize]: tokens };
      const states = statesFor(name, sizes);
      await bindSized(loaded, "sample.start", sizes, sources, states).run();
      const bound = bindFilled(loaded, name, sources, states);
      const piece = Math.ceil(steps / 20);
      for (let done = 0; done < steps; done += piece) {
        await bound.run(Math.min(piece, steps - done));
        told(Math.min(done + piece, steps));
      }
      const z = states.get("z")!.read() as Float32Array;
      checkFinite(z, steps, guidance);
      const perVideo = tokens * channels * patch * patch;
      return prompts.map((_, b) => patchesToFrames(z, size, patch, b * perVideo));
    },
    close: () => {
      for (const states of byShape.values()) {
        for (const [name, buffer] of states) if (!weights.has(name)) buffer.free();
      }
      byShape.clear();
    },
  });
}

/** The names of the two open sizes of a batch of videos. */
function zSymbols(plan: Plan, program: string): readonly [string, string] {
  const port = programNamed(plan.programs, program).state.find(({ name }) => name === "z");
  const [batch, tokens] = port?.axes.map(({ size }) => size) ?? [];
  if (typeof batch === "string" && typeof tokens === "string") return [batch, tokens];
  throw new Diagnostic({
    kind: "program",
    message: `program ${program} samples no batch of open size`,
    fix: "leave the axes batch and tokens without a size in the model file",
  });
}

function checkFinite(z: Float32Array, steps: number, guidance: number): void {
  if (z.every((value) => Number.isFinite(value))) return;
  throw new Diagnostic({
    kind: "sampler",
    message: "sampling ended in numbers that are not finite",
    details: [`${steps} steps, guidance ${guidance}`],
    fix: "use a checkpoint of a run whose loss is finite, or a lower --guidance",
  });
}
