/**
 * A program with all sizes settled: its buffers in memory, its temporaries in the device's arena, and its steps as a
 * native plan that one call runs.
 */
import { Diagnostic } from "../../../contract/diagnostic.ts";
import type { Plan, PlanBuffer, PlanProgram, PlanStep, Port } from "../../../contract/plan.ts";
import { evaluateSize, type Size } from "../../../contract/size.ts";
import { place } from "../../program/placement.ts";
import { checkSymbols, portNamed } from "../../program/symbols.ts";
import type { BoundProgram, DeviceBuffer, MemoryFacts, StepProfile, Symbols } from "../device.ts";
import { checkElements } from "../elements.ts";
import type { Host } from "./host.ts";
import { allocateBlock, requireMemory, type Block, type OwnedBuffer } from "./memory.ts";
import { writePlanWords, type BufferPlace, type PlanWords } from "./plan-words.ts";

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

/** Memory of temporaries, shared by all programs of a device since only one runs at a time. */
export interface Arena {
  /** Grows when needed; may move, and then what was in it is lost. Only while nothing runs. */
  reserve(bytes: number): { readonly address: number; readonly bytes: number };
  readonly bytes: number;
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

export function bindProgram({
  context,
  plan,
  name,
  symbols,
  state,
  functions,
  constants,
}: BindRequest): CpuBoundProgram {
  const { host } = context;
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
  const sizes = program.buffers.map((buffer) => evaluate(buffer.bytes));
  const states = stateOf(name, program, sizes, state, context);

  const temporaries = positionsOf(program, ["temporary"]);
  const placement = place(
    temporaries.map((index) => {
      const { first = 0, last = 0 } = program.buffers[index]!;
      return { bytes: sizes[index]!, first, last };
    }),
  );
  const own = positionsOf(program, ["input", "output", "resident"]);
  requireMemory(
    `program ${name}`,
    own.reduce((sum, index) => sum + sizes[index]!, Math.max(0, placement.total - context.arena.bytes)),
    [...own, ...temporaries]
      .map((index) => ({ name: program.buffers[index]!.name, bytes: sizes[index]! }))
      .sort((a, b) => b.bytes - a.bytes)
      .slice(0, 6),
  );

  const blocks = new Map<number, Block>(); // by buffer; those of `own` are freed with the binding
  const places: BufferPlace[] = [];
  try {
    for (const index of own) {
      blocks.set(index, allocateBlock(host, program.buffers[index]!.name, sizes[index]!, context.poison));
    }
  } catch (error) {
    for (const block of blocks.values()) block.release();
    throw error;
  }
  const ownBlocks = [...blocks.values()];
  for (const [index, { block }] of states) blocks.set(index, block);
  temporaries.forEach((index, position) => {
    places[index] = { address: placement.offsets[position]!, bytes: sizes[index]!, inArena: true };
  });
  program.buffers.forEach((buffer, index) => {
    if (buffer.kind === "constant") blocks.set(index, constants[buffer.constant ?? -1]!);
    const block = blocks.get(index);
    if (block !== undefined) places[index] = { address: block.address, bytes: sizes[index]!, inArena: false };
  });

  // What sizes alone decide is computed with the first run; poison must not reach it.
  const onceSteps = program.steps.filter((step) => step.once);
  const steps = program.steps.filter((step) => !step.once);
  const touchedOnce = new Set(onceSteps.flatMap((step) => step.arguments.map(({ buffer }) => buffer)));
  const poison = context.poison
    ? positionsOf(program, ["temporary", "output"]).filter((index) => !touchedOnce.has(index) && sizes[index]! > 0)
    : [];
  const wordsOf = (list: readonly PlanStep[], poisoned: readonly number[]): PlanWords =>
    writePlanWords({
      steps: list,
      buffers: places,
      functions,
      evaluate,
      poison: poisoned.map((index) => places[index]!),
    });
  const main = nativePlan(context, wordsOf(steps, poison));
  let once = onceSteps.length === 0 ? undefined : nativePlan(context, wordsOf(onceSteps, []));
  const scratch = Math.max(main.scratch, once?.scratch ?? 0) * context.threads;

  const memory: MemoryFacts = {
    temporaries: placement.total,
    temporariesLowerBound: placement.lowerBound,
    inputs: bytesOfKind("input"),
    outputs: bytesOfKind("output"),
    resident: bytesOfKind("resident"),
    state: bytesOfKind("state"),
    constants: constants.reduce((sum, block) => sum + block.bytes, 0),
    scratch,
  };
  const { temporariesLowerBound: _, ...parts } = memory;
  const peakBytes = Object.values(parts).reduce((a, b) => a + b, 0);

  const shapes = new Map<Port, readonly number[]>();
  for (const port of [...program.inputs, ...program.outputs, ...program.state]) {
    shapes.set(port, port.axes.map(({ size }) => evaluate(size))); // prettier-ignore
  }
  const countOf = (port: Port): number => shapes.get(port)!.reduce((a, b) => a * b, 1);

  let dropped = false;
  const runs = new Set<Run>(); // that run or wait for their turn
  const stepNumbers = program.steps.flatMap((step, index) => (step.once ? [] : [index]));

  function idle(doing: string): void {
    if (dropped) throw new Error(`program ${name} was dropped to make room: bind it again before ${doing}`);
    if (runs.size > 0) throw new Error(`program ${name} is running: await the run before ${doing}`);
  }

  async function runInTurn(run: Run, times: number): Promise<void> {
    const arena = context.arena.reserve(placement.total);
    for (const native of once === undefined ? [main] : [once, main]) {
      if (run.cancelled === "now") throw cancelled(name);
      const ending = native.run(arena.address, native === main ? times : 1);
      run.native = native;
      if (run.cancelled !== undefined) native.cancel(run.cancelled); // asked for before this plan was at work
      const status = await ending;
      run.native = undefined;
      if (status === "no memory") {
        throw new Diagnostic({
          kind: "memory",
          message: `the system refuses ${scratch} bytes of scratch memory for ${context.threads} threads`,
          fix: "use fewer threads with SORACC_THREADS",
        });
      }
      if (status === "cancelled") throw cancelled(name);
      if (native === once) {
        once.drop();
        once = undefined;
      }
    }
    for (const block of blocks.values()) block.check();
  }

  return {
    program: name,
    symbols,
    peakBytes,
    memory,
    ownBytes: ownBlocks.reduce((sum, block) => sum + block.bytes, 0),
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
    shape(name) {
      return shapes.get(portNamed([...shapes.keys()], name, "input, output or state"))!;
    },
    async run(times = 1) {
      if (dropped) throw new Error(`program ${name} was dropped to make room: bind it again before running it`);
      if (!Number.isSafeInteger(times) || times < 0) throw new RangeError(`cannot run ${times} times`);
      for (const [, owned] of states) {
        if (owned.freed) throw new Error(`program ${name} is bound to state ${owned.block.name}, which was freed`);
      }
      const run: Run = { native: undefined, cancelled: undefined };
      runs.add(run);
      for (const [, owned] of states) owned.users++;
      try {
        await context.inTurn(() => runInTurn(run, times));
      } finally {
        runs.delete(run);
        for (const [, owned] of states) owned.users--;
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
      for (const block of ownBlocks) block.release();
      main.drop();
      once?.drop();
    },
  };

  function bytesOfKind(kind: PlanBuffer["kind"]): number {
    return positionsOf(program!, [kind]).reduce((sum, index) => sum + sizes[index]!, 0);
  }
}

/** One call of `run`. */
interface Run {
  native: NativePlan | undefined;
  cancelled: "now" | "between repetitions" | undefined;
}

interface NativePlan {
  readonly scratch: number;
  run(arena: number, times: number): Promise<"done" | "cancelled" | "no memory">;
  cancel(how: "now" | "between repetitions"): void;
  /** Nanoseconds per step since the plan was made. */
  profile(): Float64Array;
  drop(): void;
}

/** Made when it first runs, and made anew when the arena has moved; the profile goes on. */
function nativePlan({ host, pool }: CpuContext, description: PlanWords): NativePlan {
  let handle: number | undefined;
  let madeFor = -1;
  const earlier = new Float64Array(description.steps);
  const forget = (): void => {
    if (handle === undefined) return;
    host.profile(handle, description.steps).forEach((time, index) => (earlier[index]! += time));
    host.freePlan(handle);
    handle = undefined;
  };
  return {
    scratch: description.scratch,
    run(arena, times) {
      if (handle === undefined || madeFor !== arena) {
        forget();
        description.moveArena(arena);
        handle = host.createPlan(pool, description.words);
        madeFor = arena;
      }
      return host.run(handle, times);
    },
    cancel: (how) => {
      if (handle !== undefined) host.cancel(handle, how);
    },
    profile() {
      const now = handle === undefined ? undefined : host.profile(handle, description.steps);
      return earlier.map((time, index) => time + (now?.[index] ?? 0));
    },
    drop: forget,
  };
}

const cancelled = (name: string): Diagnostic =>
  new Diagnostic({ kind: "cancelled", message: `program ${name} was stopped` });

function positionsOf(program: PlanProgram, kinds: readonly PlanBuffer["kind"][]): readonly number[] {
  return program.buffers.flatMap(({ kind }, index) => (kinds.includes(kind) ? [index] : []));
}

/** The caller's buffer for each state buffer of the program. */
function stateOf(
  name: string,
  program: PlanProgram,
  sizes: readonly number[],
  state: ReadonlyMap<string, DeviceBuffer>,
  context: CpuContext,
): ReadonlyMap<number, OwnedBuffer> {
  const found = new Map<number, OwnedBuffer>();
  for (const port of program.state) {
    const buffer = state.get(port.name);
    const owned = buffer === undefined ? undefined : context.owned.get(buffer);
    const bytes = sizes[port.buffer]!;
    if (buffer === undefined || owned === undefined || owned.freed) {
      const why =
        buffer === undefined ? "was not given" : owned === undefined ? "belongs to another device" : "was freed";
      throw new Diagnostic({ kind: "state", message: `program ${name} needs state ${port.name}, which ${why}` });
    }
    if (buffer.dtype !== port.dtype || owned.block.bytes < bytes) {
      throw new Diagnostic({
        kind: "state",
        message: `state ${port.name} does not fit program ${name}`,
        details: [
          `needed  ${port.dtype}, ${bytes} bytes`,
          `given   ${buffer.dtype}, ${owned.block.bytes} bytes (${buffer.elements} elements)`,
        ],
      });
    }
    found.set(port.buffer, owned);
  }
  return found;
}
