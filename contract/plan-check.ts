/** Whether the parts of a plan fit together: indices, phases, lives of temporaries, what a step may touch. */
import { bytesOf } from "./dtype.ts";
import type { Plan, PlanBuffer, PlanKernel, PlanProgram, PlanStep, TensorMapSpec } from "./plan.ts";
import type { Size } from "./size.ts";

/** The first thing that does not fit, in words; undefined when all is well. */
export function findPlanFault(plan: Plan): string | undefined {
  if ((plan.target === "cuda") !== (plan.arch !== undefined))
    return `its target ${plan.target} has no such architecture`;
  const phases = new Map<string, string>();
  for (const kernel of plan.kernels) {
    const wrong = launchFault(plan, kernel) ?? sizeFault(kernel);
    if (wrong !== undefined) return `kernel ${kernel.symbol}: ${wrong}`;
    for (const phase of kernel.phases) {
      const other = phases.get(phase);
      if (other !== undefined) return `kernels ${other} and ${kernel.symbol} both have a phase called ${phase}`;
      phases.set(phase, kernel.symbol);
    }
  }
  for (const [name, program] of Object.entries(plan.programs)) {
    const fault = findProgramFault(plan, program);
    if (fault !== undefined) return `program ${name}: ${fault}`;
  }
  return undefined;
}

function findProgramFault(plan: Plan, program: PlanProgram): string | undefined {
  const symbols = new Set(program.symbols);
  const unknown = (...sizes: readonly Size[]): string | undefined => {
    for (const size of sizes) {
      const found = unknownSymbol(size, symbols);
      if (found !== undefined) return `the size "${found}" is not among its symbols`;
    }
    return undefined;
  };

  for (const [index, buffer] of program.buffers.entries()) {
    const fault = bufferFault(plan, program, buffer) ?? unknown(buffer.bytes);
    if (fault !== undefined) return `buffer ${index} (${buffer.name}): ${fault}`;
  }
  for (const [role, ports] of [
    ["input", program.inputs],
    ["output", program.outputs],
    ["state", program.state],
  ] as const) {
    for (const port of ports) {
      const buffer = program.buffers[port.buffer];
      const fault = portFault(role, buffer) ?? unknown(...port.axes.map(({ size }) => size));
      if (fault !== undefined) return `${role} ${port.name}: ${fault}`;
    }
    if (new Set(ports.map(({ name }) => name)).size < ports.length) return `two ${role}s have the same name`;
  }
  const named = new Set(program.state.map(({ buffer }) => buffer));
  for (const [index, { kind, name }] of program.buffers.entries()) {
    if (kind === "state" && !named.has(index)) return `buffer ${index} (${name}) is state without a name`;
  }
  const owners = new Map<number, boolean>(); // temporaries by whether a once step touches them
  for (const [index, step] of program.steps.entries()) {
    const fault = stepFault(plan, program, step, index, owners) ?? unknown(step.scratch, ...step.sizes, ...step.tasks);
    if (fault !== undefined) return `step ${index} (${step.origin}): ${fault}`;
    for (const { offset } of step.arguments) {
      const wrong = unknown(offset);
      if (wrong !== undefined) return `step ${index} (${step.origin}): ${wrong}`;
    }
  }
  for (const guard of program.guards) {
    const fault = unknown(guard.left, guard.right);
    if (fault !== undefined) return `guard "${guard.message}": ${fault}`;
  }
  return undefined;
}

const sizesOf = ({ offset, sizes, strides }: TensorMapSpec): readonly Size[] => [offset, ...sizes, ...strides];

/** A kernel's sizes are in names of its own. */
function sizeFault({ sizes: names, work, gpu }: PlanKernel): string | undefined {
  const known = new Set(names);
  for (const size of [work.flops, work.bytes, ...(gpu?.tensorMaps ?? []).flatMap(sizesOf)]) {
    const found = unknownSymbol(size, known);
    if (found !== undefined) return `the size "${found}" is not among its own`;
  }
  return undefined;
}

/** A GPU launch is described for every phase, and every box has as many dimensions as its matrix. */
function launchFault(plan: Plan, { phases, gpu }: PlanKernel): string | undefined {
  if ((plan.target === "cuda") !== (gpu !== undefined)) return `the target is ${plan.target}`;
  if (gpu === undefined) return undefined;
  if (gpu.phases.length !== phases.length) return `${phases.length} phases and ${gpu.phases.length} launches`;
  const wrong = gpu.tensorMaps.findIndex(
    ({ sizes, strides, box }) => strides.length !== sizes.length - 1 || box.length !== sizes.length,
  );
  return wrong < 0 ? undefined : `tensor map ${wrong} has sizes, strides and a box of different ranks`;
}

function bufferFault(plan: Plan, program: PlanProgram, buffer: PlanBuffer): string | undefined {
  if (buffer.kind === "constant") {
    const constant = plan.constants[buffer.constant ?? -1];
    if (constant === undefined) return `there is no constant ${buffer.constant ?? "for it"}`;
    const bytes = base64Bytes(constant.data);
    if (bytes % bytesOf(constant.dtype) !== 0) return `its constant has ${bytes} bytes, not a multiple of its type`;
    if (typeof buffer.bytes === "number" && buffer.bytes > bytes) {
      return `its constant has ${bytes} bytes, it needs ${buffer.bytes}`;
    }
  }
  if (buffer.kind === "temporary") {
    const { first, last } = buffer;
    if (first === undefined || last === undefined) return "a temporary without a life";
    if (first > last || last >= program.steps.length) return `its life, steps ${first} to ${last}, is none`;
  }
  return undefined;
}

function portFault(role: "input" | "output" | "state", buffer: PlanBuffer | undefined): string | undefined {
  if (buffer === undefined) return "its buffer does not exist";
  if (role === "output")
    return buffer.kind === "temporary" ? "a temporary is dead when the caller reads it" : undefined;
  return buffer.kind === role ? undefined : `its buffer is of kind ${buffer.kind}`;
}

function stepFault(
  plan: Plan,
  program: PlanProgram,
  step: PlanStep,
  index: number,
  owners: Map<number, boolean>,
): string | undefined {
  const kernel = plan.kernels[step.kernel];
  if (kernel === undefined) return `there is no kernel ${step.kernel}`;
  if (kernel.phases.length !== step.tasks.length) {
    return `kernel ${kernel.symbol} has ${kernel.phases.length} phases, ${step.tasks.length} task counts are given`;
  }
  if (kernel.sizes.length > step.sizes.length) {
    return `kernel ${kernel.symbol} has ${kernel.sizes.length} sizes, ${step.sizes.length} are given`;
  }
  const unreachable = kernel.gpu?.tensorMaps.find(({ argument }) => argument >= step.arguments.length);
  if (unreachable !== undefined) {
    return `kernel ${kernel.symbol} copies from argument ${unreachable.argument}, and ${step.arguments.length} are given`;
  }
  for (const argument of step.arguments) {
    const buffer = program.buffers[argument.buffer];
    if (buffer === undefined) return `there is no buffer ${argument.buffer}`;
    if (buffer.kind === "temporary") {
      const { first = 0, last = -1 } = buffer;
      if (index < first || index > last) return `buffer ${buffer.name} is dead here: it lives from ${first} to ${last}`;
      if ((owners.get(argument.buffer) ?? step.once) !== step.once) {
        return `buffer ${buffer.name} is touched by steps that run once and by steps that run every time`;
      }
      owners.set(argument.buffer, step.once);
    } else if (step.once && (buffer.kind === "input" || buffer.kind === "state")) {
      return `it runs once but touches ${buffer.kind} ${buffer.name}`;
    }
  }
  return undefined;
}

function unknownSymbol(size: Size, symbols: ReadonlySet<string>): string | undefined {
  if (typeof size === "number") return undefined;
  if (typeof size === "string") return symbols.has(size) ? undefined : size;
  for (let i = 1; i < size.length; i++) {
    const found = unknownSymbol(size[i]!, symbols);
    if (found !== undefined) return found;
  }
  return undefined;
}

const base64Bytes = (text: string): number =>
  Math.floor((text.length * 3) / 4) - (text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0);
