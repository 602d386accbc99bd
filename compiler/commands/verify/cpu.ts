/** Recorded programs on the CPU: the plan, the kernels and the executor that a training binary would use. */
import type { PlanProgram } from "../../../contract/plan.ts";
import type { Precision } from "../../../contract/precision.ts";
import { evaluateSize } from "../../../contract/size.ts";
import { createCpuDevice } from "../../../runtime/devices/cpu/device.ts";
import { elementsFrom } from "../../../runtime/devices/elements.ts";
import type { Program } from "../../graph/node.ts";
import { compilePlan } from "../../pipeline.ts";
import { nativeSources } from "../../emit/native-sources.ts";
import type { OpenDevice, PreparedProgram } from "./devices.ts";

export async function openCpu(precision: Precision): Promise<OpenDevice> {
  const device = await createCpuDevice(nativeSources());
  let launched = 0;

  const prepare = async (program: Program): Promise<PreparedProgram> => {
    const model = { name: "recorded", config: {}, preset: undefined, recipe: {} };
    const { plan } = compilePlan({ model, parameters: [], programs: [program], precision });
    const loaded = await device.load(plan);
    const own = plan.programs[program.name]!;
    return {
      run: async (inputs, symbols) => {
        const state = new Map(
          own.state.map((port) => {
            const buffer = loaded.createState(port.name, port.dtype, elements(port, symbols));
            const values = inputs.get(port.name);
            if (values !== undefined) buffer.write(elementsFrom(port.dtype, values));
            return [port.name, buffer];
          }),
        );
        const bound = loaded.bind(
          program.name,
          Object.fromEntries(own.symbols.map((name) => [name, symbols.get(name) ?? 1])),
          state,
        );
        for (const port of own.inputs) bound.write(port.name, elementsFrom(port.dtype, inputs.get(port.name) ?? []));
        await bound.run();
        launched += own.steps.length;
        const results = new Map<string, ArrayLike<number>>();
        for (const port of own.outputs) results.set(port.name, bound.read(port.name));
        for (const name of program.next.keys()) results.set(`next.${name}`, state.get(name)?.read() ?? []);
        for (const buffer of state.values()) buffer.free();
        return results;
      },
    };
  };
  return { prepare, launched: () => launched, close: () => device.close() };
}

const elements = (port: PlanProgram["state"][number], symbols: ReadonlyMap<string, number>): number =>
  port.axes.reduce((total, axis) => total * evaluateSize(axis.size, symbols), 1);
