/** The steps of a program and the memory they use, as text. */
import type { Plan, PlanProgram, PlanStep } from "../../../contract/plan.ts";
import { printSize } from "../../../contract/size.ts";

/** One line per launch: its kernel, what it reads and writes, where in the model it comes from. */
export function describeSteps(plan: Plan, program: PlanProgram): readonly string[] {
  const names = program.buffers.map(({ name }, index) => `${name}#${index}`);
  return program.steps.map((step, index) => {
    const symbol = plan.kernels[step.kernel]?.symbol ?? "?";
    const where = step.origin === "" ? "" : `  // ${step.origin}`;
    return `${String(index).padStart(4)}  ${step.once ? "once  " : ""}${symbol}(${argumentsOf(step, names)})${where}`;
  });
}

const argumentsOf = (step: PlanStep, names: readonly string[]): string =>
  step.arguments
    .map(({ buffer, offset }) => `${names[buffer] ?? "?"}${offset === 0 ? "" : `+${printSize(offset)}`}`)
    .join(", ");

/** One line per buffer: its kind, its size, and in which steps it lives. */
export function describeMemory(program: PlanProgram): readonly string[] {
  return program.buffers.map(({ name, kind, bytes, first, last }, index) => {
    const life = first === undefined ? "" : `  steps ${first} to ${last ?? first}`;
    return `${`${name}#${index}`.padEnd(32)}  ${kind.padEnd(9)}  ${printSize(bytes)} bytes${life}`;
  });
}
