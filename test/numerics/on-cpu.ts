/** Runs a program as generated code on the CPU and in the float64 interpreter, for tests that compare the two. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { DType } from "../../contract/dtype.ts";
import type { Plan } from "../../contract/plan.ts";
import { takeUndecided } from "../../compiler/graph/shape.ts";
import type { Edge, Program } from "../../compiler/graph/node.ts";
import { compilePlan, type Precision } from "../../compiler/pipeline.ts";
import { interpret } from "../../compiler/reference/interpret.ts";
import { createCpuDevice } from "../../runtime/devices/cpu/device.ts";
import type { Device } from "../../runtime/devices/device.ts";
import type { Elements } from "../../runtime/devices/elements.ts";
import { elementsOf } from "./tensors-of.ts";

const root = process.env["SORACC_ROOT"] ?? process.cwd();

let device: Promise<Device> | undefined;

export function cpu(): Promise<Device> {
  const folder = join(root, "templates/cpu/prelude");
  const prelude = Object.fromEntries(
    readdirSync(folder).map((file) => [file, readFileSync(join(folder, file), "utf8")]),
  );
  device ??= createCpuDevice({
    prelude,
    hostSource: readFileSync(join(root, "templates/cpu/host/executor.cpp"), "utf8"),
  });
  return device;
}

export function program(
  name: string,
  inputs: readonly Edge[],
  outputs: Record<string, Edge>,
  next: Record<string, Edge> = {},
): Program {
  return {
    name,
    inputs,
    outputs: new Map(Object.entries(outputs)),
    next: new Map(Object.entries(next)),
    equalities: takeUndecided(),
  };
}

export function planOf(programs: readonly Program[], precision: Precision = "f32"): Plan {
  const model = { name: "test", config: {}, preset: undefined, recipe: {} };
  return compilePlan({ model, parameters: [], programs, precision }).plan;
}

export type Values = ReadonlyMap<string, ArrayLike<number>>;

export interface BothRuns {
  readonly expected: ReadonlyMap<string, ArrayLike<number>>;
  readonly got: ReadonlyMap<string, ArrayLike<number>>;
  readonly plan: Plan;
}

/** Outputs under their names, next states under `next.NAME`. */
export async function runBoth(
  subject: Program,
  given: Values,
  symbols: Readonly<Record<string, number>> = {},
  precision: Precision = "f32",
): Promise<BothRuns> {
  const reference = interpret(subject, given, new Map(Object.entries(symbols)));
  const expected = new Map([...reference].map(([name, tensor]) => [name, tensor.data]));
  const plan = planOf([subject], precision);
  const loaded = await (await cpu()).load(plan);
  const ports = plan.programs[subject.name]!;
  const state = new Map(
    ports.state.map((port) => {
      const elements = elementsOf(port, symbols);
      const buffer = loaded.createState(port.name, port.dtype, elements);
      const values = given.get(port.name);
      if (values !== undefined) buffer.write(carried(port.dtype, values));
      return [port.name, buffer];
    }),
  );
  const bound = loaded.bind(subject.name, symbols, state);
  for (const port of ports.inputs) bound.write(port.name, carried(port.dtype, given.get(port.name)!));
  await bound.run();
  const got = new Map<string, ArrayLike<number>>();
  for (const port of ports.outputs) got.set(port.name, bound.read(port.name));
  for (const name of subject.next.keys()) got.set(`next.${name}`, state.get(name)!.read());
  await loaded.close();
  return { expected, got, plan };
}

/** The values as the typed array that a port of this type takes. */
export function carried(dtype: DType, values: ArrayLike<number>): Elements {
  if (dtype === "f64") return Float64Array.from(values);
  if (dtype === "i32") return Int32Array.from(values);
  if (dtype === "u32") return Uint32Array.from(values);
  return dtype === "u8" || dtype === "bool" ? Uint8Array.from(values) : Float32Array.from(values);
}

/** The largest difference, relative to the largest magnitude of the expected values. */
export function relativeError(expected: ArrayLike<number>, got: ArrayLike<number>): number {
  if (expected.length !== got.length) return Infinity;
  let largest = 1e-30;
  let difference = 0;
  for (let i = 0; i < expected.length; i++) {
    largest = Math.max(largest, Math.abs(expected[i]!));
    const apart = Math.abs(expected[i]! - got[i]!);
    difference = Number.isNaN(apart) ? Infinity : Math.max(difference, apart);
  }
  return difference / largest;
}
