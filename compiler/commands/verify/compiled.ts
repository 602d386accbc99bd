/** Recorded programs on a device: the plan, the kernels and the way of running them that a training binary would use. */
import type { Arch, PlanProgram } from "../../../contract/plan.ts";
import type { Precision } from "../../../contract/precision.ts";
import { evaluateSize } from "../../../contract/size.ts";
import type { Device } from "../../../runtime/devices/device.ts";
import { elementsFrom } from "../../../runtime/devices/elements.ts";
import { cudaSources } from "../../emit/cuda-sources.ts";
import { nativeSources } from "../../emit/native-sources.ts";
import type { Program } from "../../graph/node.ts";
import { compilePlan, CPU, type Target } from "../../pipeline.ts";
import type { OpenDevice, PreparedProgram } from "./devices.ts";

export async function openCpu(precision: Precision): Promise<OpenDevice> {
  const { createCpuDevice } = await import("../../../runtime/devices/cpu/device.ts");
  return openCompiled(await createCpuDevice(nativeSources()), precision, CPU);
}

export async function openSim(precision: Precision, arch: Arch, seed: number): Promise<OpenDevice> {
  const { createSimDevice } = await import("../../../runtime/devices/sim/device.ts");
  const device = await createSimDevice({ sources: cudaSources().sim, seed });
  return openCompiled(device, precision, { name: "cuda", arch });
}

/** For the GPU that is there, unless told otherwise. */
export async function openCuda(precision: Precision, arch: Arch | undefined): Promise<OpenDevice> {
  const { createCudaDevice } = await import("../../../runtime/devices/cuda/device.ts");
  const device = await createCudaDevice({ headers: cudaSources().prelude });
  return openCompiled(device, precision, { name: "cuda", arch: arch ?? device.arch });
}

function openCompiled(device: Device, precision: Precision, target: Target): OpenDevice {
  let launched = 0;

  const prepare = async (program: Program): Promise<PreparedProgram> => {
    const model = { name: "recorded", config: {}, preset: undefined, recipe: {} };
    const { plan } = compilePlan({ model, parameters: [], programs: [program], precision, target });
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
