/**
 * `diffusion({ … })`: the programs of a diffusion model, from its process and its network.
 *
 *   denoise        x, t, conditions -> prediction
 *   loss           x, t, noise, conditions -> loss [batch], its terms, x_t
 *   sample.start   seed -> next.z (noise), next.step = 0
 *   sample.NAME    one step of a sampler: state z and step, conditions, guidance, tables -> next.z, next.step
 */
import { multiply } from "../../graph/dim.ts";
import { axisNamed } from "../../graph/shape.ts";
import { asUser } from "../place.ts";
import {
  drawn,
  drawTensor,
  f32,
  i32,
  program,
  state,
  u32,
  type InputSpec,
  type InputSpecs,
  type Outputs,
  type ProgramDefinition,
  type TensorsOf,
} from "../program.ts";
import { concat, type Tensor } from "../tensor.ts";
import type { Predict, Process, SamplerRule } from "./process.ts";
import { constant as scalar } from "./scalar.ts";

export interface DiffusionOptions<Conditions extends InputSpecs> {
  readonly process: Process;
  /** Videos cut in patches: f32("batch tokens channels rows columns", …). */
  readonly video: InputSpec;
  /** What the network sees besides x and t: text, masks, positions. */
  readonly conditions: Conditions;
  /** The condition that guidance takes away, by zeros, and training drops now and then. */
  readonly text: keyof Conditions & string;
  /** The 0/1 mask over tokens that the loss respects. */
  readonly mask?: keyof Conditions & string;
  readonly network: (inputs: { readonly x: Tensor; readonly t: Tensor } & TensorsOf<Conditions>) => Tensor;
}

/** Tensors by name; those that a configuration does without are absent. */
type Tensors = Readonly<Record<string, Tensor>>;

export function diffusion<Conditions extends InputSpecs>(
  options: DiffusionOptions<Conditions>,
): Readonly<Record<string, ProgramDefinition>> {
  const { process, video, text, mask } = options;
  const conditions = Object.fromEntries(
    Object.entries(options.conditions).filter((entry): entry is [string, InputSpec] => entry[1] !== undefined),
  );
  const network = ({ x, t, ...rest }: Tensors): Tensor =>
    // The rest are the tensors of the conditions, which is what their type says.
    asUser(() => options.network({ x, t, ...rest } as { x: Tensor; t: Tensor } & TensorsOf<Conditions>));
  const conditionsOf = (tensors: Tensors): Tensors =>
    Object.fromEntries(Object.keys(conditions).map((name) => [name, tensors[name]!]));

  const textSpec = conditions[text];
  const whileTraining =
    textSpec === undefined ? conditions : { ...conditions, [text]: { ...textSpec, isDropped: true } };
  return {
    denoise: program({ x: video, t: process.time, ...conditions }, (tensors) => ({ prediction: network(tensors) })),
    loss: program(
      { x: video, t: process.time, noise: drawn(video, "normal"), ...whileTraining },
      ({ x, t, noise, ...rest }: Tensors) => {
        const predict: Predict = (noisy, time) => network({ ...conditionsOf(rest), x: noisy, t: time });
        const valid = mask === undefined ? undefined : rest[mask];
        return process.loss({ x: x!, t: t!, noise: noise!, mask: valid }, predict);
      },
    ),
    "sample.start": program({ seed: u32() }, ({ seed }) => ({
      "next.z": drawTensor("normal", "sample.start.z", video.shape, { seed, step: scalar(0, "u32") }),
      "next.step": scalar(0, "i32"),
    })),
    ...Object.fromEntries(
      Object.entries(process.samplers).map(([name, rule]) => [
        `sample.${name}`,
        samplerStep(rule, { process, video, conditions, text, network }),
      ]),
    ),
  };
}

interface SamplerParts {
  readonly process: Process;
  readonly video: InputSpec;
  readonly conditions: Readonly<Record<string, InputSpec>>;
  readonly text: string;
  readonly network: (tensors: Tensors) => Tensor;
}

/** One step of a sampler. Its noise is drawn by seed and step, or given where a recording has it. */
function samplerStep(
  rule: SamplerRule,
  { process, video, conditions, text, network }: SamplerParts,
): ProgramDefinition {
  const table = (dtype: "f32" | "i32"): InputSpec => (dtype === "f32" ? f32("steps") : i32("steps"));
  const inputs: Readonly<Record<string, InputSpec>> = {
    z: state(video),
    step: state(i32()),
    ...conditions,
    guidance: f32(),
    timestep: table(process.time.dtype === "i32" ? "i32" : "f32"),
    ...Object.fromEntries(rule.tables.map((name) => [name, table("f32")])),
    ...(rule.isNoisy ? { noise: drawn(video, "normal") } : {}),
  };
  const run = (tensors: Tensors): Outputs => {
    const { z, step, guidance, noise } = tensors;
    const at = (name: string): Tensor => tensors[name]!.gather(step!, "steps");
    const both = doubled(conditions, tensors, text);
    const twice = concat([z!, z!], "batch");
    const batch = { name: "batch", size: multiply(2, z!.size("batch")) };
    const t = at("timestep").expand([batch]);
    const [conditional, unconditional] = network({ ...both, x: twice, t }).split(2, "batch");
    const prediction = process.guide(conditional, unconditional, guidance!);
    return { "next.z": rule.step({ z: z!, prediction, noise, at }), "next.step": step!.apply("x + 1") };
  };
  return program(inputs, run, { drawsByStep: true });
}

/** Conditions of one batch in which every sample stands twice, the second time without text. */
function doubled(conditions: Readonly<Record<string, InputSpec>>, tensors: Tensors, text: string): Tensors {
  return Object.fromEntries(
    Object.keys(conditions).map((name) => {
      const condition = tensors[name]!;
      if (axisNamed(condition.shape, "batch") === undefined) return [name, condition];
      return [name, concat([condition, name === text ? condition.zerosLike() : condition], "batch")];
    }),
  );
}
