/** What the plan says about the model it runs: the form of its videos and texts, and the recipe of its author. */
import { z } from "zod";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { SAMPLERS, type Sampler } from "../../contract/diffusion.ts";
import type { Plan, Port } from "../../contract/plan.ts";
import { programNamed } from "./fill.ts";

const recipeSchema = z.looseObject({
  process: z.enum(["ddpm", "flow"]).optional(),
  timeShift: z.number().positive().optional(),
  train: z.looseObject({ batch: z.int().positive().optional() }).optional(),
  sample: z
    .looseObject({
      sampler: z.enum(SAMPLERS).optional(),
      steps: z.int().positive().optional(),
      guidance: z.number().optional(),
    })
    .optional(),
});

export interface Recipe {
  /** Clips per step when the user names no number. */
  readonly batch: number;
  readonly sampler: Sampler | undefined;
  readonly steps: number;
  readonly guidance: number;
  /** Of a flow: see `shiftTime`. */
  readonly timeShift: number;
}

/** @throws Diagnostic when the plan's recipe is of another form */
export function recipeOf({ model }: Plan): Recipe {
  const parsed = recipeSchema.safeParse(model.recipe);
  if (!parsed.success) {
    throw new Diagnostic({
      kind: "plan",
      message: "the recipe in this binary is of a form that its runtime does not know",
      details: parsed.error.issues.slice(0, 3).map(({ path, message }) => `${path.join(".")}: ${message}`),
      fix: "compile the model again",
    });
  }
  const { process, timeShift, train, sample } = parsed.data;
  const isFlow = process === "flow" || sample?.sampler === "euler";
  return {
    batch: train?.batch ?? 2,
    sampler: sample?.sampler,
    steps: sample?.steps ?? (isFlow ? 20 : 250),
    guidance: sample?.guidance ?? 4,
    timeShift: timeShift ?? 1,
  };
}

/** A video as the model sees it: patches of `channels` x `patch` x `patch` numbers. */
export interface VideoForm {
  readonly channels: number;
  readonly patch: number;
}

/** From a port [batch, tokens, channels, rows, columns]. @throws Diagnostic when a port has another form */
export function videoFormOf(program: string, port: Port | undefined): VideoForm {
  const [, , channels, rows, columns] = port?.axes.map(({ size }) => size) ?? [];
  const whole = [channels, rows, columns].every((size) => typeof size === "number");
  if (port?.axes.length === 5 && whole && rows === columns) {
    return { channels: Number(channels), patch: Number(rows) };
  }
  throw new Diagnostic({
    kind: "program",
    message: `program ${program} takes no videos in square patches [batch, tokens, channels, patch, patch]`,
    details: port === undefined ? [] : [`${port.name}  [${port.axes.map((axis) => axis.name).join(", ")}]`],
    fix: "this command works on models that do",
  });
}

const RAW_CHANNELS = 3;

/** Videos are compressed by nothing yet: a pixel is three numbers. @throws Diagnostic */
export function requireRawPixels({ channels, patch }: VideoForm): void {
  if (channels === RAW_CHANNELS) return;
  throw new Diagnostic({
    kind: "model",
    message: `this model takes videos of ${channels} channels, and raw pixels have ${RAW_CHANNELS}`,
    details: [`channels ${channels}, patch ${patch}: the latents of a video autoencoder`],
    fix: `compile it for pixels with --set channels=${RAW_CHANNELS}`,
  });
}

/** How wide the text vectors are; 0 for a model that reads no text. */
export function textDimOf(plan: Plan, program: string): number {
  const port = programNamed(plan.programs, program).inputs.find(({ name }) => name === "text");
  const size = port?.axes.at(-1)?.size;
  if (port === undefined) return 0;
  if (typeof size === "number") return size;
  throw new Diagnostic({
    kind: "program",
    message: `the width of the text of program ${program} is open`,
    fix: "give the last axis of text a size in the model file",
  });
}
