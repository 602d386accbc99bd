/**
 * The story of a compilation: text of a model -> Graph -> Graph' -> Kernels -> Plan. Each pass takes a program and
 * gives a program; `lower` makes kernels and steps of it.
 */
import type { ModelFacts, ParameterRange, Plan, PlanKernel, PlanProgram } from "../contract/plan.ts";
import { PLAN_VERSION } from "../contract/plan.ts";
import type { Precision } from "../contract/precision.ts";
import type { Program } from "./graph/node.ts";
import { verifyProgram } from "./graph/verify.ts";
import type { Kernel } from "./kernels/kernel.ts";
import { precision } from "./passes/precision.ts";
import { recompute, type Recomputation } from "./passes/recompute.ts";
import { simplify } from "./passes/simplify.ts";
import { lower, openSession } from "./plan/lower.ts";
import { CPU, type Target } from "./targets/choice.ts";
import { generate as generateCpu } from "./targets/cpu/target.ts";
import { generate as generateCuda } from "./targets/cuda/target.ts";

export type { Precision, Target };
export { CPU };

export interface Pass {
  readonly name: string;
  readonly run: (program: Program) => Program;
}

/** The passes between what a user wrote and what is lowered, in order; the program is verified after each. */
export const passesFor = (wanted: Precision, again?: Recomputation): readonly Pass[] => [
  { name: "simplify", run: simplify },
  { name: "precision", run: (program) => precision(program, wanted) },
  ...(again === undefined ? [] : [{ name: "recompute", run: (program: Program) => recompute(program, again) }]),
];

export interface Compilation {
  readonly plan: Plan;
  /** The kernels as records, beside `plan.kernels`. */
  readonly kernels: readonly Kernel[];
}

export interface CompileRequest {
  readonly model: ModelFacts;
  readonly parameters: readonly ParameterRange[];
  readonly programs: readonly Program[];
  readonly precision: Precision;
  /** What the backward pass computes again of what members of stacks computed. Default: nothing. */
  readonly recompute?: Recomputation | undefined;
  /** Default: the CPU. */
  readonly target?: Target;
  /** Told after every pass: for traces. */
  readonly onPass?: (pass: string, before: Program, after: Program) => void;
}

/** The plan of all programs. */
export function compilePlan(request: CompileRequest): Compilation {
  const steps = compileByProgram(request);
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

/** The same, program by program: each gives the kernels that are new with it, for those who have something to do with them. */
export function* compileByProgram(request: CompileRequest): Generator<readonly PlanKernel[], Compilation> {
  const target = request.target ?? CPU;
  const session = openSession(
    target.name === "cpu" ? generateCpu : (kernel: Kernel) => generateCuda(kernel, target.arch),
  );
  const programs: Record<string, PlanProgram> = {};
  for (const traced of request.programs) {
    let program = traced;
    verifyProgram(program, "trace");
    for (const pass of passesFor(request.precision, request.recompute)) {
      const before = program;
      program = pass.run(before);
      verifyProgram(program, pass.name);
      request.onPass?.(pass.name, before, program);
    }
    const before = session.kernels.length;
    programs[program.name] = lower(program, session);
    yield session.kernels.slice(before);
  }
  const plan: Plan = {
    version: PLAN_VERSION,
    model: request.model,
    target: target.name,
    ...(target.name === "cuda" ? { arch: target.arch } : {}),
    precision: request.precision,
    kernels: session.kernels,
    constants: session.constants,
    parameters: request.parameters,
    programs,
  };
  return { plan, kernels: session.records };
}
