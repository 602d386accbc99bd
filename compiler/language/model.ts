/**
 * `model({ … })`: what a model file exports. It names the model, its settings and presets, and how programs are made
 * from a configuration. Nothing runs until somebody chooses a configuration (`choose`) and traces it (`trace-model.ts`).
 */
import { Diagnostic, didYouMean, type Location } from "../../contract/diagnostic.ts";
import { parseMesh, SINGLE, type Mesh } from "../notation/mesh.ts";
import { currentOrigin } from "../graph/origin.ts";
import { entered } from "./place.ts";
import type { ProgramDefinition } from "./program.ts";
import {
  flatten,
  SAMPLE_SETTINGS,
  TRAIN_SETTINGS,
  type SampleRecipe,
  type TrainOptions,
  type TrainRecipe,
} from "./recipe.ts";
import {
  defaultsOf,
  override,
  overrideText,
  unknownKey,
  type Settings,
  type Source,
  type ValuesOf,
} from "./settings.ts";

/** What must hold between settings: the condition, what to say when it does not, and what to do. */
export type Check = readonly [holds: boolean, message: string, fix: string];

export interface ModelParts<S extends Settings> {
  readonly name: string;
  readonly config: S;
  /** Named configurations: the keys that differ from the defaults, and what they change in the recipe. */
  readonly presets?: Readonly<Record<string, Partial<ValuesOf<S>> & RecipeParts>>;
  readonly checks?: (config: ValuesOf<S>) => readonly Check[];
  /** Sets up the model's components and returns its programs. */
  readonly programs: (config: ValuesOf<S>) => Readonly<Record<string, ProgramDefinition>>;
  /** What the runtime must know besides the configuration. JSON. */
  readonly facts?: (config: ValuesOf<S>) => Readonly<Record<string, unknown>>;
  /** The training recipe; a model without one is not trained. */
  readonly train?: TrainOptions;
  readonly sample?: Partial<SampleRecipe>;
  readonly parallel?: Mesh;
}

interface RecipeParts {
  readonly train?: TrainOptions;
  readonly sample?: Partial<SampleRecipe>;
}

/** The configuration of any model: its own code knows the keys, all others treat it as a record. */
export type Config = ValuesOf<Settings>;

export interface ModelDefinition extends RecipeParts {
  readonly name: string;
  readonly settings: Settings;
  readonly presets: Readonly<Record<string, Readonly<Record<string, unknown>> & RecipeParts>>;
  readonly checks: (config: Config) => readonly Check[];
  readonly programs: (config: Config) => Readonly<Record<string, ProgramDefinition>>;
  readonly facts: (config: Config) => Readonly<Record<string, unknown>>;
  readonly parallel: Mesh;
  /** Where `model(…)` is called. */
  readonly where: () => Location | undefined;
}

const definitions = new WeakSet();

/** Whether a value was made by `model(…)`. */
export const isModel = (value: unknown): value is ModelDefinition =>
  typeof value === "object" && value !== null && definitions.has(value);

export function model<const S extends Settings>(parts: ModelParts<S>): ModelDefinition {
  return entered("model", () => {
    checkParts(parts);
    // The functions below get what `choose` has checked against the very settings that type them.
    const typed =
      <T>(take: (config: ValuesOf<S>) => T) =>
      (config: Config): T =>
        take(config as ValuesOf<S>);
    const definition: ModelDefinition = Object.freeze({
      name: parts.name,
      settings: parts.config,
      presets: parts.presets ?? {},
      checks: typed(parts.checks ?? (() => [])),
      programs: typed(parts.programs),
      facts: typed(parts.facts ?? (() => ({}))),
      ...(parts.train === undefined ? {} : { train: parts.train }),
      ...(parts.sample === undefined ? {} : { sample: parts.sample }),
      parallel: parts.parallel ?? SINGLE,
      where: currentOrigin().locate,
    });
    definitions.add(definition);
    return definition;
  });
}

/** A model file is compiled without checking its types. */
function checkParts(parts: unknown): void {
  const has = (key: string, type: string): boolean =>
    typeof parts === "object" && parts !== null && typeof Reflect.get(parts, key) === type;
  const missing = Object.entries(REQUIRED).find(([key, [type]]) => !has(key, type));
  if (missing === undefined) return;
  const [key, [, words]] = missing;
  throw new Diagnostic({
    kind: "model",
    message: `model(…) wants ${words} as "${key}"`,
    fix: 'write model({ name: "…", config: { … }, programs: (config) => ({ … }) })',
  });
}

const REQUIRED: Readonly<Record<string, readonly [type: string, words: string]>> = {
  name: ["string", "a text"],
  config: ["object", "a record of settings"],
  programs: ["function", "a function from the configuration to programs"],
};

/** A parallel strategy: `mesh("data=2 sequence=4:fastseq zero=2")`. */
export const mesh = (text: string): Mesh => entered("mesh", () => parseMesh(text));

/** What a user chooses about a model. Later ones win: preset, then `config`, then `set`. */
export interface Choices {
  readonly preset?: string | undefined;
  /** Values of configuration keys, from a recording. */
  readonly config?: { readonly values: Readonly<Record<string, unknown>>; readonly source: Source } | undefined;
  /** `key=value`, as given to `--set`; keys of the recipes are `train.KEY` and `sample.KEY`. */
  readonly set?: readonly string[] | undefined;
}

export interface ChosenModel {
  readonly preset: string | undefined;
  readonly config: Config;
  readonly train: TrainRecipe | undefined;
  readonly sample: SampleRecipe;
}

/** The configuration and recipe that the choices give. Errors: unknown presets and keys, wrong values, failed checks. */
export function choose(definition: ModelDefinition, choices: Choices = {}): ChosenModel {
  const where = definition.where();
  const own: Source = { name: `model "${definition.name}"`, where };
  let config = defaultsOf(definition.settings);
  let train = override(TRAIN_SETTINGS, defaultsOf(TRAIN_SETTINGS), flatten(definition.train ?? {}), own, "train.");
  let sample = override(SAMPLE_SETTINGS, defaultsOf(SAMPLE_SETTINGS), definition.sample ?? {}, own, "sample.");
  const preset = choices.preset === undefined ? undefined : presetName(definition, choices.preset);
  if (preset !== undefined) {
    const { train: trainPart, sample: samplePart, ...rest } = definition.presets[preset] ?? {};
    const source: Source = { name: `preset "${preset}"`, where };
    config = override(definition.settings, config, rest, source);
    train = override(TRAIN_SETTINGS, train, flatten(trainPart ?? {}), source, "train.");
    sample = override(SAMPLE_SETTINGS, sample, samplePart ?? {}, source, "sample.");
  }
  if (choices.config !== undefined) {
    config = override(definition.settings, config, choices.config.values, choices.config.source);
  }
  for (const text of choices.set ?? []) {
    const source: Source = { name: `--set ${text}` };
    const [key, value] = splitSetting(text);
    const [part, rest] = [key.split(".", 1)[0], key.slice(key.indexOf(".") + 1)];
    if (part === "train" && key.includes("."))
      train = overrideText(TRAIN_SETTINGS, train, rest, value, source, "train.");
    else if (part === "sample" && key.includes(".")) {
      sample = overrideText(SAMPLE_SETTINGS, sample, rest, value, source, "sample.");
    } else if (Object.hasOwn(definition.settings, key)) {
      config = overrideText(definition.settings, config, key, value, source);
    } else throw unknownKey(key, keysOf(definition), source);
  }
  for (const [holds, message, fix] of definition.checks(config)) {
    if (!holds) throw new Diagnostic({ kind: "config", message, where, fix });
  }
  return { preset, config, train: definition.train === undefined ? undefined : train, sample };
}

function keysOf(definition: ModelDefinition): string[] {
  return [
    ...Object.keys(definition.settings),
    ...Object.keys(TRAIN_SETTINGS).map((key) => `train.${key}`),
    ...Object.keys(SAMPLE_SETTINGS).map((key) => `sample.${key}`),
  ];
}

function splitSetting(text: string): [string, string] {
  const at = text.indexOf("=");
  if (at > 0) return [text.slice(0, at).trim(), text.slice(at + 1)];
  throw new Diagnostic({
    kind: "config",
    message: `--set wants key=value, and got "${text}"`,
    fix: "write it as in --set hidden=96",
  });
}

/** `XL/2`, or `DiT-XL/2` as the published models are called. */
function presetName(definition: ModelDefinition, asked: string): string {
  const names = Object.keys(definition.presets);
  const prefix = `${definition.name}-`;
  const bare = asked.toLowerCase().startsWith(prefix.toLowerCase()) ? asked.slice(prefix.length) : asked;
  if (names.includes(bare)) return bare;
  const near = didYouMean(bare, names);
  throw new Diagnostic({
    kind: "preset",
    message: `model "${definition.name}" has no preset "${asked}"`,
    details: names.length === 0 ? [] : [`presets  ${names.join(", ")}`],
    fix: near === undefined ? "choose one of these, or leave --preset out" : `did you mean "${near}"?`,
  });
}
