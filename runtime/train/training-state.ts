/** The arenas of a training run and the tensors of its checkpoints: the same numbers under two kinds of names. */
import { Diagnostic } from "../../contract/diagnostic.ts";
import type { ModelFacts, ParameterRange, Plan } from "../../contract/plan.ts";
import type { CheckpointState } from "../checkpoint/checkpoint-state.ts";
import {
  compareWithModel,
  SECTIONS,
  type CheckpointContents,
  type CheckpointTensor,
  type LoadedCheckpoint,
  type Section,
} from "../checkpoint/checkpoint.ts";
import type { DeviceBuffer } from "../devices/device.ts";
import type { States } from "../program/fill.ts";
import { lossScaleCounters, restoreLossScale } from "./loss-scale.ts";

/** Which state holds a section of a checkpoint. */
const ARENAS: Readonly<Record<Section, string>> = {
  model: "parameters",
  ema: "average",
  "optimizer.m": "moment1",
  "optimizer.v": "moment2",
};

const countOf = ({ shape }: Pick<ParameterRange, "shape">): number => shape.reduce((a, b) => a * b, 1);

export const parameterCount = (plan: Plan): number => plan.parameters.reduce((sum, one) => sum + countOf(one), 0);

export function stateNamed(states: States, name: string): DeviceBuffer {
  const buffer = states.get(name);
  if (buffer !== undefined) return buffer;
  throw new Diagnostic({
    kind: "program",
    message: `the programs of this binary have no state ${name}`,
    details: [`states  ${[...states.keys()].join(", ")}`],
    fix: "compile the model again",
  });
}

/** Tensors are read from the device when their turn to be written comes. */
export function checkpointOf(plan: Plan, states: States, state: CheckpointState): CheckpointContents {
  const tensors = SECTIONS.flatMap((section): CheckpointTensor[] => {
    const arena = stateNamed(states, ARENAS[section]);
    return plan.parameters.map((range) => ({
      name: `${section}.${range.name}`,
      shape: range.shape,
      data: () => arena.read(range.offset, countOf(range)) as Float32Array,
    }));
  });
  return { tensors, state: { ...state, counters: { ...state.counters, ...lossScaleCounters(states) } } };
}

/** Fills every arena, and the scalars that the checkpoint has. @throws Diagnostic with the tensors or settings that differ */
export function restore(checkpoint: LoadedCheckpoint, plan: Plan, states: States): void {
  checkFits(checkpoint, plan, SECTIONS);
  for (const section of SECTIONS) loadSection(checkpoint, plan, section, stateNamed(states, ARENAS[section]));
  stateNamed(states, "step").write(Int32Array.of(checkpoint.state?.step ?? 0));
  restoreLossScale(checkpoint.state?.counters ?? {}, states);
}

/** The parameters of one section of a checkpoint, or of a file of weights, into an arena. */
export function loadSection(checkpoint: LoadedCheckpoint, plan: Plan, section: Section, arena: DeviceBuffer): void {
  for (const range of plan.parameters) arena.write(checkpoint.read(`${section}.${range.name}`), range.offset);
}

/** @throws Diagnostic: tensors that differ come first, they say most; then settings that no tensor shows */
export function checkFits(checkpoint: LoadedCheckpoint, plan: Plan, sections: readonly Section[]): void {
  const difference = compareWithModel(checkpoint, plan.parameters, { sections });
  if (difference !== undefined) throw difference;
  if (checkpoint.state !== undefined) checkConfiguration(checkpoint.path, checkpoint.state, plan.model);
}

function checkConfiguration(path: string, { model, config }: CheckpointState, facts: ModelFacts): void {
  const own: Readonly<Record<string, unknown>> = facts.config;
  const details = [...new Set([...Object.keys(config), ...Object.keys(own)])]
    .filter((key) => JSON.stringify(config[key]) !== JSON.stringify(own[key]))
    .map((key) => `${key}  binary ${JSON.stringify(own[key])}, checkpoint ${JSON.stringify(config[key])}`);
  if (model !== facts.name) details.unshift(`model  binary ${facts.name}, checkpoint ${model}`);
  if (details.length === 0) return;
  throw new Diagnostic({
    kind: "checkpoint",
    message: "this checkpoint was trained with another configuration, although its tensors fit",
    where: { file: path },
    details,
    fix: "compile the model with the configuration of the checkpoint",
  });
}

/** Configuration and training recipe as a checkpoint keeps them. */
export const plainFacts = ({ config, recipe }: ModelFacts): Required<Pick<CheckpointState, "config" | "recipe">> =>
  JSON.parse(JSON.stringify({ config, recipe: recipe["train"] ?? {} })) as Required<
    Pick<CheckpointState, "config" | "recipe">
  >;
