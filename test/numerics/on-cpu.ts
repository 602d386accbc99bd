/** Runs a program as generated code on the CPU and in the float64 interpreter, for tests that compare the two. */
import type { Plan } from "../../contract/plan.ts";
import { takeUndecided } from "../../compiler/graph/shape.ts";
import type { Edge, Program } from "../../compiler/graph/node.ts";
import { nativeSources } from "../../compiler/emit/native-sources.ts";
import { compilePlan, CPU, type Precision, type Target } from "../../compiler/pipeline.ts";
import { interpret } from "../../compiler/reference/interpret.ts";
import { createCpuDevice } from "../../runtime/devices/cpu/device.ts";
import type { Device } from "../../runtime/devices/device.ts";
import { elementsFrom } from "../../runtime/devices/elements.ts";
import { elementsOf } from "./tensors-of.ts";

let device: Promise<Device> | undefined;

export function cpu(): Promise<Device> {
  device ??= createCpuDevice(nativeSources());
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

export function planOf(programs: readonly Program[], precision: Precision = "f32", target: Target = CPU): Plan {
  const model = { name: "test", config: {}, preset: undefined, recipe: {} };
  return compilePlan({ model, parameters: [], programs, precision, target }).plan;
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
      if (values !== undefined) buffer.write(elementsFrom(port.dtype, values));
      return [port.name, buffer];
    }),
  );
  const bound = loaded.bind(subject.name, symbols, state);
  for (const port of ports.inputs) bound.write(port.name, elementsFrom(port.dtype, given.get(port.name)!));
  await bound.run();
  const got = new Map<string, ArrayLike<number>>();
  for (const port of ports.outputs) got.set(port.name, bound.read(port.name));
  for (const name of subject.next.keys()) got.set(`next.${name}`, state.get(name)!.read());
  await loaded.close();
  return { expected, got, plan };
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
