/** A program with all sizes settled: its memory, and its steps as native plans that one call runs. */
import { Diagnostic } from "../../../contract/diagnostic.ts";
import type { Plan, PlanStep, Port } from "../../../contract/plan.ts";
import { evaluateSize, type Size } from "../../../contract/size.ts";
import { checkSymbols, portNamed } from "../../program/symbols.ts";
import type { BoundProgram, DeviceBuffer, MemoryFacts, StepProfile, Symbols } from "../device.ts";
import { checkElements } from "../elements.ts";
import { positionsOf, settleMemory, type Arena } from "./bound-memory.ts";
import type { Host } from "./host.ts";
import type { Block, OwnedBuffer } from "./memory.ts";
import { nativePlan, type NativePlan } from "./native-plan.ts";
import { writePlanWords, type BufferPlace } from "./plan-words.ts";

/** What bound programs of one device share. */
export interface CpuContext {
  readonly host: Host;
  readonly pool: number;
  readonly threads: number;
  /** Temporaries and outputs are filled with NaN before every run, and blocks have guards. */
  readonly poison: boolean;
  readonly arena: Arena;
  readonly owned: WeakMap<DeviceBuffer, OwnedBuffer>;
  /** Runs pieces of work one after the other. */
  inTurn<T>(work: () => Promise<T>): Promise<T>;
}

export interface BindRequest {
  readonly context: CpuContext;
  readonly plan: Plan;
  readonly name: string;
  readonly symbols: Symbols;
  readonly state: ReadonlyMap<string, DeviceBuffer>;
  readonly functions: readonly (readonly number[])[];
  readonly constants: readonly Block[];
}

export interface CpuBoundProgram extends BoundProgram {
  /** Bytes that only this binding holds. */
  readonly ownBytes: number;
  readonly busy: boolean;
  /** Frees what the binding holds. Only when it does not run. */
  drop(): void;
}

/** One call of `run`. */
interface Run {
  native: NativePlan | undefined;
  cancelled: "now" | "between repetitions" | undefined;
}

export function bindProgram(request: BindRequest): CpuBoundProgram {
  const { context, plan, name, symbols, state, functions, constants } = request;
  const { host, pool, arena, owned, threads } = context;
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
  const memory = settleMemory({ name, program, sizes, state, owned, constants, host, arena, guarded: context.poison });
  const { places, blocks, states } = memory;

  // What sizes alone decide is computed with the first run; poison must not reach it.
  const onceSteps = program.steps.filter((step) => step.once);
  const steps = program.steps.filter((step) => !step.once);
  const stepNumbers = program.steps.flatMap((step, index) => (step.once ? [] : [index]));
  const touchedOnce = new Set(onceSteps.flatMap((step) => step.arguments.map(({ buffer }) => buffer)));
  const poison: readonly BufferPlace[] = context.poison
    ? [
        { address: 0, bytes: memory.arenaBytes, inArena: true },
        ...positionsOf(program, "output").flatMap((index) => (touchedOnce.has(index) ? [] : [places[index]!])),
      ]
    : [];
  const nativeOf = (list: readonly PlanStep[], poison: readonly BufferPlace[]): NativePlan =>
    nativePlan(host, pool, writePlanWords({ steps: list, buffers: places, functions, evaluate, poison }));
  const main = nativeOf(steps, poison);
  let once = onceSteps.length === 0 ? undefined : nativeOf(onceSteps, []);

  const facts: MemoryFacts = { ...memory.facts, scratch: Math.max(main.scratch, once?.scratch ?? 0) * threads };
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

  async function runInTurn(run: Run, times: number): Promise<void> {
    const { address } = arena.reserve(memory.arenaBytes);
    for (const native of once === undefined ? [main] : [once, main]) {
      if (run.cancelled === "now") throw cancelled(name);
      const ending = native.run(address, native === main ? times : 1);
      run.native = native;
      if (run.cancelled !== undefined) native.cancel(run.cancelled); // asked for before this plan was at work
      const status = await ending;
      run.native = undefined;
      if (status === "no memory") throw noScratch(facts.scratch, threads);
      if (status === "cancelled") throw cancelled(name);
      if (native !== once) continue;
      once.drop();
      once = undefined;
    }
    for (const block of blocks.values()) block.check();
  }

  return Object.freeze<CpuBoundProgram>({
    program: name,
    symbols,
    memory: facts,
    peakBytes: Object.values(parts).reduce((a, b) => a + b, 0),
    ownBytes: memory.ownBytes,
    get busy() {
      return runs.size > 0;
    },
    write(input, elements) {
      idle(`writing ${input}`);
      const port = portNamed(program.inputs, input, "input");
      checkElements(`input ${input} [${shapes.get(port)!.join(", ")}]`, port.dtype, countOf(port), elements);
      const block = blocks.get(port.buffer)!;
      host.write(block.address, block.bytes, port.dtype, elements);
    },
    read(output) {
      idle(`reading ${output}`);
      const port = portNamed(program.outputs, output, "output");
      const block = blocks.get(port.buffer)!;
      return host.read(block.address, block.bytes, port.dtype, countOf(port));
    },
    shape: (port) => shapes.get(portNamed([...shapes.keys()], port, "input, output or state"))!,
    async run(times = 1) {
      usable("running it");
      if (!Number.isSafeInteger(times) || times < 0) throw new RangeError(`cannot run ${times} times`);
      for (const { freed, block } of states) {
        if (freed) throw new Error(`program ${name} is bound to state ${block.name}, which was freed`);
      }
      const run: Run = { native: undefined, cancelled: undefined };
      runs.add(run);
      for (const one of states) one.users++;
      try {
        await context.inTurn(() => runInTurn(run, times));
      } finally {
        runs.delete(run);
        for (const one of states) one.users--;
      }
    },
    cancel(how = "now") {
      for (const run of runs) {
        if (run.cancelled !== "now") run.cancelled = how;
        run.native?.cancel(how);
      }
    },
    profile(): readonly StepProfile[] {
      const nanoseconds = main.profile();
      return steps.map((step, index) => ({
        step: stepNumbers[index]!,
        kernel: plan.kernels[step.kernel]!.symbol,
        origin: step.origin,
        nanoseconds: nanoseconds[index]!,
      }));
    },
    drop() {
      idle("dropping it");
      dropped = true;
      memory.release();
      main.drop();
      once?.drop();
    },
  });
}

const cancelled = (name: string): Diagnostic =>
  new Diagnostic({ kind: "cancelled", message: `program ${name} was stopped` });

const noScratch = (bytes: number, threads: number): Diagnostic =>
  new Diagnostic({
    kind: "memory",
    message: `the system refuses ${bytes} bytes of scratch memory for ${threads} threads`,
    fix: "use fewer threads with SORACC_THREADS",
  });
