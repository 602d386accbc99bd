/**
 * Programs: what a model can do, each a pure function from named inputs to named outputs.
 *
 * `program({ x: f32("batch tokens width", { width: 64 }) }, ({ x }) => ({ y: layerNorm(x) }))`. Axes without a size
 * are symbols: one compiled program runs for every value of them. An output called `next.NAME` is the new value of the
 * state input NAME. An input can be `drawn`: in training chance gives it, in `soracc verify` the recording does.
 */
import { Diagnostic, type Location } from "../../contract/diagnostic.ts";
import type { DType } from "../../contract/dtype.ts";
import { currentOrigin } from "../graph/origin.ts";
import type { Shape } from "../graph/shape.ts";
import { input, random } from "../ops/source.ts";
import { shapeOf, type Sizes } from "./axes.ts";
import { asUser, entered } from "./place.ts";
import { formula, Tensor } from "./tensor.ts";

export interface InputSpec {
  readonly dtype: DType;
  readonly shape: Shape;
  readonly role: "given" | "state";
  /** 0/1 along its last axis, ones first: which elements of padded samples exist. Absent, all do. */
  readonly isMask?: boolean;
  /** Training replaces some samples of it by zeros, so that the model learns to do without (text). */
  readonly isDropped?: boolean;
  /** How chance makes it. */
  readonly draw?: Draw;
}

export interface Draw {
  readonly distribution: "uniform" | "normal";
  /** A formula over `u` (uniform in (0, 1)) or `n` (standard normal); absent: the draw itself. */
  readonly formula?: string;
}

const spec =
  (dtype: DType) =>
  (axes = "", sizes: Sizes = {}): InputSpec =>
    entered(dtype, () => ({ dtype, shape: shapeOf(axes, sizes), role: "given" }));

/** Inputs by element type: `f32("batch tokens width", { width: 64 })`; without axes, a scalar. */
export const f32 = spec("f32");
export const i32 = spec("i32");
export const u32 = spec("u32");

/** A 0/1 mask over samples padded to one length: ones, then zeros, along its last axis. */
export const mask = (axes: string): InputSpec => ({ ...i32(axes), isMask: true });

/** State: the input lives across runs and `next.NAME` replaces it. */
export const state = (of: InputSpec): InputSpec => ({ ...of, role: "state" });

/** An input that chance gives in training: `drawn(i32("batch"), "uniform", "i32(u * 1000)")`. */
export const drawn = (of: InputSpec, distribution: Draw["distribution"], text?: string): InputSpec => ({
  ...of,
  draw: text === undefined ? { distribution } : { distribution, formula: text },
});

export type InputSpecs = Readonly<Record<string, InputSpec | undefined>>;

/** The tensors of declared inputs; an input that may be absent gives a tensor that may be. */
export type TensorsOf<Specs extends InputSpecs> = {
  readonly [Name in keyof Specs]: undefined extends Specs[Name] ? Tensor | undefined : Tensor;
};

export type Outputs = Readonly<Record<string, Tensor>>;

/** A program before it is traced. */
export interface ProgramDefinition {
  readonly inputs: Readonly<Record<string, InputSpec>>;
  readonly body: (tensors: Readonly<Record<string, Tensor>>) => Outputs;
  /** Every run draws its drawn inputs, by an input `seed` and its state `step`; only a recording gives them. */
  readonly drawsByStep?: true;
  /** Where it is defined, for mistakes that have no line of their own. */
  readonly where?: () => Location | undefined;
}

/** Defines a program. Inputs that are `undefined` do not exist for this configuration. */
export function program<Specs extends InputSpecs>(
  inputs: Specs,
  body: (tensors: TensorsOf<Specs>) => Outputs,
  options: Pick<ProgramDefinition, "drawsByStep"> = {},
): ProgramDefinition {
  const present = Object.entries(inputs).filter((entry): entry is [string, InputSpec] => entry[1] !== undefined);
  return entered("program", () => ({
    inputs: Object.fromEntries(present),
    // The tensors that arrive are those of the specs, by construction of every caller in this folder.
    body: (tensors) => asUser(() => body(tensors as TensorsOf<Specs>)),
    where: currentOrigin().locate,
    ...options,
  }));
}

/** The tensors that stand for the inputs of a program. */
export const inputTensors = (inputs: Readonly<Record<string, InputSpec>>): Record<string, Tensor> =>
  Object.fromEntries(
    Object.entries(inputs).map(([name, { dtype, shape, role }]) => [name, new Tensor(input(name, dtype, shape, role))]),
  );

/** The words that key a program's random numbers besides the path of each draw. */
export interface RandomKey {
  readonly seed: Tensor;
  /** u32: another number with every run that must draw anew. */
  readonly step: Tensor;
}

/** Independent draws: uniform in (0, 1), or standard normal. The path names the draw and keeps draws apart. */
export const drawTensor = (
  distribution: Draw["distribution"],
  path: string,
  shape: Shape,
  { seed, step }: RandomKey,
): Tensor => entered("random", () => new Tensor(random(distribution, path, shape, seed.edge, step.edge)));

/** The program in which chance gives the drawn inputs, under `path`; `key` says what makes them differ between runs. */
export function withDraws(
  path: string,
  { inputs, body }: ProgramDefinition,
  keyInputs: Readonly<Record<string, InputSpec>>,
  key: (tensors: Readonly<Record<string, Tensor>>) => RandomKey,
): ProgramDefinition {
  const given = Object.entries(inputs).filter(([, each]) => each.draw === undefined);
  return {
    inputs: { ...Object.fromEntries(given), ...keyInputs },
    body: (tensors) => {
      const random = key(tensors);
      const draws = Object.entries(inputs).flatMap(([name, each]): [string, Tensor][] =>
        each.draw === undefined ? [] : [[name, drawInput(`${path}.${name}`, each, each.draw, random)]],
      );
      return body({ ...tensors, ...Object.fromEntries(draws) });
    },
  };
}

function drawInput(path: string, { shape, dtype }: InputSpec, draw: Draw, key: RandomKey): Tensor {
  const value = drawTensor(draw.distribution, path, shape, key);
  const name = draw.distribution === "uniform" ? "u" : "n";
  const made = draw.formula === undefined ? value : formula(draw.formula, { [name]: value });
  if (made.dtype === dtype) return made;
  throw new Diagnostic({
    kind: "type",
    message: `the draw of "${path}" is ${made.dtype}, and the input is ${dtype}`,
    fix: `end its formula in ${dtype}(…)`,
  });
}
