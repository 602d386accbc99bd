/**
 * What does a training run keep, and how does it come back?
 *
 * One safetensors file per checkpoint: `model.NAME`, `ema.NAME`, `optimizer.m.NAME`, `optimizer.v.NAME` as float32, and
 * the state (step, seed, data position ...) as JSON in the metadata. A file of published weights has no such state; its
 * tensors are then read as if each name began with `model.`.
 */
import { dirname } from "node:path";
import { type WriteBytes, ensureFolder } from "../../contract/atomic-file.ts";
import { Diagnostic, didYouMean } from "../../contract/diagnostic.ts";
import { type ElementRange, openSafetensors, writeSafetensors } from "../../contract/safetensors.ts";
import { type CheckpointState, decodeState, encodeState, hasState } from "./checkpoint-state.ts";

export type { CheckpointState } from "./checkpoint-state.ts";

/** What a tensor of a checkpoint is for; the first part of its name. */
export const SECTIONS = ["model", "ema", "optimizer.m", "optimizer.v"] as const;
export type Section = (typeof SECTIONS)[number];

export interface CheckpointTensor {
  /** With its section: `ema.blocks.0.mlp.fc1.weight`. */
  readonly name: string;
  readonly shape: readonly number[];
  /** A function is called when its turn to be written comes. */
  readonly data: Float32Array | (() => Float32Array);
}

export interface CheckpointContents {
  readonly tensors: Iterable<CheckpointTensor>;
  readonly state: CheckpointState;
}

export interface LoadedCheckpoint {
  readonly path: string;
  /** `undefined` for a file of weights alone. */
  readonly state: CheckpointState | undefined;
  /** Shapes by name with section. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  readonly has: (section: Section) => boolean;
  /** @throws Diagnostic when there is no such tensor */
  readonly read: (name: string, range?: ElementRange) => Float32Array<ArrayBuffer>;
  readonly close: () => void;
}

export interface NamedShape {
  /** The parameter's own name, without section. */
  readonly name: string;
  readonly shape: readonly number[];
}

/**
 * Saves all or nothing; folders on the way are made.
 * @throws Diagnostic (kind `checkpoint`) when the disk is full or the folder cannot be written; an older file stays.
 */
export function saveCheckpoint(
  path: string,
  { tensors, state }: CheckpointContents,
  options: { readonly write?: WriteBytes | undefined } = {},
): void {
  ensureFolder(dirname(path), "checkpoint");
  const float32 = [...tensors].map((tensor) => ({ ...tensor, dtype: "F32" as const }));
  writeSafetensors(path, float32, encodeState(state), { kind: "checkpoint", write: options.write });
}

/** @throws Diagnostic for a missing, foreign or corrupt file, or one written by a newer soracc */
export function loadCheckpoint(path: string): LoadedCheckpoint {
  const file = openSafetensors(path);
  try {
    const state = hasState(file.metadata) ? decodeState(path, file.metadata) : undefined;
    const prefix = state === undefined ? "model." : "";
    const shapes = new Map([...file.tensors].map(([name, { shape }]) => [prefix + name, shape]));
    return Object.freeze({
      path,
      state,
      shapes,
      has: (section: Section) => [...shapes.keys()].some((name) => name.startsWith(`${section}.`)),
      read: (name: string, range?: ElementRange) => file.readFloat32(name.slice(prefix.length), range),
      close: file.close,
    });
  } catch (error) {
    file.close();
    throw error;
  }
}

export interface CompareOptions {
  /** The sections that must match; `["model"]` unless given. */
  readonly sections?: readonly Section[];
}

/**
 * Do the tensors of a checkpoint fit a model? `undefined` when they do, else a Diagnostic that lists what differs.
 * Tensors a weights file has beyond the model's are no error: `extraTensors` lists them.
 */
export function compareWithModel(
  checkpoint: LoadedCheckpoint,
  expected: readonly NamedShape[],
  { sections = ["model"] }: CompareOptions = {},
): Diagnostic | undefined {
  const extra = checkpoint.state === undefined ? [] : extraTensors(checkpoint, expected, sections);
  const missing: string[] = [];
  const different: string[] = [];
  for (const section of sections) {
    for (const { name, shape } of expected) {
      const full = `${section}.${name}`;
      const stored = checkpoint.shapes.get(full);
      if (stored === undefined) missing.push(`${full}  ${list(shape)}${renamed(full, extra)}`);
      else if (!sameShape(stored, shape)) different.push(`${full}  model ${list(shape)}, file ${list(stored)}`);
    }
  }
  if (missing.length + different.length + extra.length === 0) return undefined;
  const model = checkpoint.state?.model;
  return new Diagnostic({
    kind: "checkpoint",
    message:
      `this ${model === undefined ? "weights file" : `checkpoint of ${JSON.stringify(model)}`} does not fit the model: ` +
      `${missing.length} tensors missing, ${different.length} of another shape, ${extra.length} unknown`,
    where: { file: checkpoint.path },
    details: [...some("shape", different), ...some("missing", missing), ...some("unknown", extra)],
    fix: "use the checkpoint of this model, or compile the model with the configuration the checkpoint was trained with",
  });
}

/** Names in the file that the model does not have. */
export function extraTensors(
  checkpoint: LoadedCheckpoint,
  expected: readonly NamedShape[],
  sections: readonly Section[] = ["model"],
): string[] {
  const known = new Set(sections.flatMap((section) => expected.map(({ name }) => `${section}.${name}`)));
  const inSections = (name: string): boolean => sections.some((section) => name.startsWith(`${section}.`));
  return [...checkpoint.shapes.keys()].filter((name) => inSections(name) && !known.has(name));
}

/** At most eight lines of a family of differences, then how many more there are. */
function some(label: string, lines: readonly string[]): string[] {
  const shown = lines.slice(0, 8).map((line) => `${label.padEnd(8)} ${line}`);
  return lines.length > 8 ? [...shown, `${label.padEnd(8)} ... and ${lines.length - 8} more`] : shown;
}

/** Two published spellings of one name are the usual reason for a missing tensor. */
function renamed(name: string, candidates: readonly string[]): string {
  // Edit distance is quadratic: only worth it when there is something small to search.
  const close = candidates.length > 0 && candidates.length <= 200 ? didYouMean(name, candidates) : undefined;
  return close === undefined ? "" : `  (the file has ${close})`;
}

const list = (shape: readonly number[]): string => `[${shape.join(", ")}]`;

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}
