/** Where every buffer of a program lies once its sizes are settled: in blocks of its own, of the caller, or in the arena. */
import { CompilerBug, Diagnostic } from "../../../contract/diagnostic.ts";
import type { PlanBuffer, PlanProgram } from "../../../contract/plan.ts";
import { place } from "../../program/placement.ts";
import type { DeviceBuffer, MemoryFacts } from "../device.ts";
import type { Memory, PlacedBuffer } from "./engine.ts";
import { allocateBlock, requireMemory, type Block, type OwnedBuffer } from "./memory.ts";

/** Memory of temporaries, shared by all programs of a device since only one runs at a time. */
export interface Arena {
  /** Grows when needed; may move, and then what was in it is lost. Only while nothing runs. */
  reserve(bytes: number): { readonly address: number; readonly bytes: number };
  readonly bytes: number;
}

export interface BoundMemory {
  /** One per buffer of the program. */
  readonly places: readonly PlacedBuffer[];
  /** By buffer; temporaries have none. */
  readonly blocks: ReadonlyMap<number, Block>;
  readonly states: readonly OwnedBuffer[];
  readonly arenaBytes: number;
  /** Bytes of inputs, outputs and residents, which go with the binding. */
  readonly ownBytes: number;
  readonly facts: Omit<MemoryFacts, "scratch">;
  /** Frees what goes with the binding. */
  release(): void;
}

export interface MemoryRequest {
  readonly name: string;
  readonly program: PlanProgram;
  /** Bytes of every buffer of the program. */
  readonly sizes: readonly number[];
  readonly state: ReadonlyMap<string, DeviceBuffer>;
  readonly owned: WeakMap<DeviceBuffer, OwnedBuffer>;
  readonly constants: readonly Block[];
  readonly memory: Memory;
  readonly arena: Arena;
  /** Whether blocks get guards. */
  readonly guarded: boolean;
}

/** Throws a Diagnostic of kind `state` when the caller's state does not fit, `memory` when there is too little. */
export function settleMemory(request: MemoryRequest): BoundMemory {
  const { name, program, sizes, constants, memory, arena, guarded } = request;
  const states = stateOf(request);
  const temporaries = positionsOf(program, "temporary");
  const placement = place(
    temporaries.map((index) => {
      const { first = 0, last = 0 } = program.buffers[index]!;
      return { bytes: sizes[index]!, first, last };
    }),
  );
  const own = positionsOf(program, "input", "output", "resident");
  const ownBytes = own.reduce((sum, index) => sum + sizes[index]!, 0);
  requireMemory(
    memory,
    `program ${name}`,
    ownBytes + Math.max(0, placement.total - arena.bytes),
    [...own, ...temporaries]
      .map((index) => ({ name: program.buffers[index]!.name, bytes: sizes[index]! }))
      .sort((a, b) => b.bytes - a.bytes)
      .slice(0, 6),
  );

  const blocks = new Map<number, Block>();
  const release = (): void => own.forEach((index) => blocks.get(index)?.release());
  try {
    for (const index of own) {
      blocks.set(index, allocateBlock(memory, program.buffers[index]!.name, sizes[index]!, guarded));
    }
  } catch (error) {
    release();
    throw error;
  }
  for (const [index, { block }] of states) blocks.set(index, block);
  for (const index of positionsOf(program, "constant")) {
    const block = constants[program.buffers[index]!.constant ?? -1];
    if (block === undefined || block.bytes < sizes[index]!) {
      throw new CompilerBug("the plan", `constant ${program.buffers[index]!.name} is shorter than its buffer`);
    }
    blocks.set(index, block);
  }

  const places: PlacedBuffer[] = [];
  const put = (index: number, address: number, inArena: boolean): void => {
    places[index] = { name: program.buffers[index]!.name, address, bytes: sizes[index]!, inArena };
  };
  for (const [index, { address }] of blocks) put(index, address, false);
  temporaries.forEach((index, position) => put(index, placement.offsets[position]!, true));
  const bytesOf = (kind: PlanBuffer["kind"]): number =>
    positionsOf(program, kind).reduce((sum, index) => sum + sizes[index]!, 0);
  return {
    places,
    blocks,
    states: [...states.values()],
    arenaBytes: placement.total,
    ownBytes,
    facts: {
      temporaries: placement.total,
      temporariesLowerBound: placement.lowerBound,
      inputs: bytesOf("input"),
      outputs: bytesOf("output"),
      resident: bytesOf("resident"),
      state: bytesOf("state"),
      constants: constants.reduce((sum, block) => sum + block.bytes, 0),
    },
    release,
  };
}

export function positionsOf(program: PlanProgram, ...kinds: readonly PlanBuffer["kind"][]): readonly number[] {
  return program.buffers.flatMap(({ kind }, index) => (kinds.includes(kind) ? [index] : []));
}

/** The caller's buffer for each state buffer of the program. */
function stateOf({ name, program, sizes, state, owned }: MemoryRequest): ReadonlyMap<number, OwnedBuffer> {
  const found = new Map<number, OwnedBuffer>();
  for (const port of program.state) {
    const buffer = state.get(port.name);
    const ours = buffer === undefined ? undefined : owned.get(buffer);
    if (buffer === undefined || ours === undefined || ours.freed) {
      const why =
        buffer === undefined ? "was not given" : ours === undefined ? "belongs to another device" : "was freed";
      throw new Diagnostic({ kind: "state", message: `program ${name} needs state ${port.name}, which ${why}` });
    }
    const bytes = sizes[port.buffer]!;
    if (buffer.dtype !== port.dtype || ours.block.bytes < bytes) {
      throw new Diagnostic({
        kind: "state",
        message: `state ${port.name} does not fit program ${name}`,
        details: [
          `needed  ${port.dtype}, ${bytes} bytes`,
          `given   ${buffer.dtype}, ${ours.block.bytes} bytes (${buffer.elements} elements)`,
        ],
      });
    }
    found.set(port.buffer, ours);
  }
  return found;
}
