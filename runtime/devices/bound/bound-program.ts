/** A program with all sizes settled: its memory, and its steps ready to run. */
import { Diagnostic } from "../../../contract/diagnostic.ts";
import type { Plan, PlanStep, Port } from "../../../contract/plan.ts";
import { evaluateSize, type Size } from "../../../contract/size.ts";
import { checkSymbols, portNamed, sizesIn } from "../../program/symbols.ts";
import type { BoundProgram, DeviceBuffer, MemoryFacts, RunOptions, StepProfile, Symbols } from "../device.ts";
import { checkElements } from "../elements.ts";
import { positionsOf, settleMemory, type Arena } from "./bound-memory.ts";
import type { BufferPlace, Engine, LoadedKernels } from "./engine.ts";
import type { Block, OwnedBuffer } from "./memory.ts";
import { followArena, type FollowingSteps } from "./step-list.ts";

/** What bound programs of one device share. */
export interface DeviceContext {
  readonly engine: Engine;
  readonly arena: Arena;
  readonly owned: WeakMap<DeviceBuffer, OwnedBuffer>;
  /** Runs pieces of work one after the other. */
  inTurn<T>(work: () => Promise<T>): Promise<T>;
}

export interface BindRequest {
  readonly context: DeviceContext;
  readonly plan: Plan;
  readonly name: string;
  readonly symbols: Symbols;
  readonly state: ReadonlyMap<string, DeviceBuffer>;
  readonly kernels: LoadedKernels;
  readonly constants: readonly Block[];
}

export interface DroppableProgram extends BoundProgram {
  /** Bytes that only this binding holds. */
  readonly ownBytes: number;
  readonly busy: boolean;
  /** Frees what the binding holds. Only when it does not run. */
  drop(): void;
}

/** One call of `run`. */
interface Run {
  steps: FollowingSteps | undefined;
  cancelled: "now" | "between repetitions" | undefined;
}

export function bindProgram(request: BindRequest): DroppableProgram {
  const { context, plan, name, symbols, state, kernels, constants } = request;
  const { engine, arena, owned } = context;
  const program = plan.programs[name];
  if (program === undefined) {
    throw new Diagnostic({
      kind: "program",
      message: `the plan has no program called ${name}`,
      details: [`programs: ${Object.keys(plan.programs).join(", ")}`],
    });
  }
  const values = checkSymbols(name, program, symbols);
  const evaluate = (size: Size): number => (typeof size === "number" ? size : evaluateSize(size, values));
  const sizes = program.buffers.map(({ bytes }) => evaluate(bytes));
  const shapes = new Map(
    [...program.inputs, ...program.outputs, ...program.state].map((port): [Port, readonly number[]] => [
      port,
      port.axes.map(({ size }) => evaluate(size)),
    ]),
  );
  const countOf = (port: Port): number => shapes.get(port)!.reduce((a, b) => a * b, 1);
  const settled = settleMemory({
    ...{ name, program, sizes, state, owned, constants, arena },
    ...{ memory: engine.memory, guarded: engine.poison },
  });
  const { places, blocks, states } = settled;

  // What sizes alone decide is computed with the first run; poison must not reach it.
  const onceSteps = program.steps.filter((step) => step.once);
  const steps = program.steps.filter((step) => !step.once);
  const stepNumbers = program.steps.flatMap((step, index) => (step.once ? [] : [index]));
  const touchedOnce = new Set(onceSteps.flatMap((step) => step.arguments.map(({ buffer }) => buffer)));
  const poison: readonly BufferPlace[] = engine.poison
    ? [
        { address: 0, bytes: settled.arenaBytes, inArena: true },
        ...positionsOf(program, "output").flatMap((index) => (touchedOnce.has(index) ? [] : [places[index]!])),
      ]
    : [];
  const follow = (list: readonly PlanStep[], once: boolean): FollowingSteps => {
    try {
      const request = { steps: list, buffers: places, evaluate, poison: once ? [] : poison, once };
      return followArena(kernels.stepList(request), list.length);
    } catch (error) {
      settled.release();
      throw error;
    }
  };
  const main = follow(steps, false);
  let once = onceSteps.length === 0 ? undefined : follow(onceSteps, true);

  const facts: MemoryFacts = { ...settled.facts, scratch: Math.max(main.scratch, once?.scratch ?? 0) };
  const { temporariesLowerBound: _, ...parts } = facts;
  const runs = new Set<Run>(); // that run or wait for their turn
  let dropped = false;

  const usable = (doing: string): void => {
    if (dropped) throw new Error(`program ${name} was dropped to make room: bind it again before ${doing}`);
  };
  const idle = (doing: string): void => {
    usable(doing);
    if (runs.size > 0) throw new Error(`program ${name} is running: await the run before ${doing}`);
  };

  async function runInTurn(run: Run, times: number, measured: boolean): Promise<void> {
    const { address } = arena.reserve(settled.arenaBytes);
    for (const list of once === undefined ? [main] : [once, main]) {
      if (run.cancelled === "now") throw cancelled(name);
      const ending = list.run(address, list === main ? times : 1, measured);
      run.steps = list;
      if (run.cancelled !== undefined) list.cancel(run.cancelled); // asked for before these steps were at work
      const status = await ending;
      run.steps = undefined;
      if (status === "cancelled") throw cancelled(name);
      if (list !== once) continue;
      once.drop();
      once = undefined;
    }
    for (const block of blocks.values()) block.check();
  }

  return Object.freeze<DroppableProgram>({
    program: name,
    symbols,
    memory: facts,
    peakBytes: Object.values(parts).reduce((a, b) => a + b, 0),
    ownBytes: settled.ownBytes,
    get busy() {
      return runs.size > 0;
    },
    write(input, elements) {
      idle(`writing ${input}`);
      const port = portNamed(program.inputs, input, "input");
      checkElements(`input ${input} [${shapes.get(port)!.join(", ")}]`, port.dtype, countOf(port), elements);
      const block = blocks.get(port.buffer)!;
      engine.memory.write(block.address, block.bytes, port.dtype, elements);
    },
    read(output) {
      idle(`reading ${output}`);
      const port = portNamed(program.outputs, output, "output");
      const block = blocks.get(port.buffer)!;
      return engine.memory.read(block.address, block.bytes, port.dtype, countOf(port));
    },
    shape: (port) => shapes.get(portNamed([...shapes.keys()], port, "input, output or state"))!,
    async run(times = 1, { profile = false }: RunOptions = {}) {
      usable("running it");
      if (!Number.isSafeInteger(times) || times < 0) throw new RangeError(`cannot run ${times} times`);
      for (const { freed, block } of states) {
        if (freed) throw new Error(`program ${name} is bound to state ${block.name}, which was freed`);
      }
      const run: Run = { steps: undefined, cancelled: undefined };
      runs.add(run);
      for (const one of states) one.users++;
      try {
        await context.inTurn(() => runInTurn(run, times, profile));
      } finally {
        runs.delete(run);
        for (const one of states) one.users--;
      }
    },
    cancel(how = "now") {
      for (const run of runs) {
        if (run.cancelled !== "now") run.cancelled = how;
        run.steps?.cancel(how);
      }
    },
    profile(): readonly StepProfile[] {
      const nanoseconds = main.profile();
      return steps.map((step, index) => {
        const kernel = plan.kernels[step.kernel]!;
        const { symbol, work } = kernel;
        const own = sizesIn(kernel, step, evaluate);
        return {
          step: stepNumbers[index]!,
          kernel: symbol,
          origin: step.origin,
          nanoseconds: nanoseconds[index]!,
          ...{ flops: own(work.flops), products: work.products, bytes: own(work.bytes) },
        };
      });
    },
    drop() {
      idle("dropping it");
      dropped = true;
      main.drop();
      once?.drop();
      settled.release();
    },
  });
}

const cancelled = (name: string): Diagnostic =>
  new Diagnostic({ kind: "cancelled", message: `program ${name} was stopped` });
