/**
 * A program becomes steps over buffers: kernels in the order of their groups, each distinct one generated once for the
 * whole plan; next states written in place where every reader comes earlier; what depends on sizes alone set apart.
 */
import { formatLocation } from "../../contract/diagnostic.ts";
import { bytesOf } from "../../contract/dtype.ts";
import type { Size } from "../../contract/size.ts";
import type {
  GpuLaunch,
  Guard,
  KernelWork,
  PlanBuffer,
  PlanConstant,
  PlanKernel,
  PlanProgram,
  PlanStep,
  Port,
} from "../../contract/plan.ts";
import { multiply, symbol, symbolsOf, toSize, type Dim } from "../graph/dim.ts";
import type { Edge, Program } from "../graph/node.ts";
import { originOf, type Origin } from "../graph/origin.ts";
import { shapeSymbols, type Shape } from "../graph/shape.ts";
import { assemble, type Launch } from "../kernels/assemble.ts";
import { group } from "../kernels/group.ts";
import { assignHomes } from "../kernels/homes.ts";
import type { GeneratedKernel, Kernel } from "../kernels/kernel.ts";
import { materialize } from "../kernels/materialize.ts";
import { named } from "../kernels/name.ts";
import type { Storage } from "../kernels/place.ts";
import { inProgram, inUnits, type InUnits } from "../kernels/units.ts";
import { workOf, type Work } from "../kernels/work.ts";
import { encodeConstant } from "./constants.ts";
import { kernelKey } from "./kernel-key.ts";
import { inOrder } from "./order.ts";
import { copyLaunch, settleState } from "./state.ts";

/** What all programs of one plan share. */
export interface Session {
  readonly generate: (kernel: Kernel) => GeneratedKernel;
  readonly kernels: PlanKernel[];
  readonly constants: PlanConstant[];
  readonly known: Map<string, Made>;
  readonly knownConstants: Map<string, number>;
  /** Kernels as records, for traces and reports, beside `kernels`. */
  readonly records: Kernel[];
}

export const openSession = (generate: (kernel: Kernel) => GeneratedKernel): Session => ({
  generate,
  kernels: [],
  constants: [],
  known: new Map(),
  knownConstants: new Map(),
  records: [],
});

export function lower(program: Program, session: Session): PlanProgram {
  const materialized = materialize(program);
  const homes = assignHomes(program, materialized);
  const grouping = group(materialized, homes);
  const launched = grouping.groups.map((each) => assemble(each, grouping, homes)).filter((each) => each !== undefined);

  const states = statePorts(program, homes.next, (edge) => homes.placeOf(edge).storage);
  const made = inOrder(launched, states);
  const { aliases, copies } = settleState(made, states);
  const launches: Launch[] = [...made, ...copies.map(({ from, to }) => copyLaunch(from, to))];
  const resolve = (storage: Storage): Storage => aliases.get(storage) ?? storage;
  const once = staticLaunches(launches, resolve);

  const buffers: MutableBuffer[] = [];
  const indexOf = new Map<Storage, number>();
  const bufferOf = (storage: Storage): number => {
    const own = resolve(storage);
    const known = indexOf.get(own);
    if (known !== undefined) return known;
    buffers.push(describeBuffer(own, session));
    indexOf.set(own, buffers.length - 1);
    return buffers.length - 1;
  };

  const port = (name: string, dtype: Port["dtype"], shape: Shape, storage: Storage): Port => ({
    name,
    dtype,
    axes: shape.map((axis) => ({ name: axis.name, size: toSize(axis.size) })),
    buffer: bufferOf(storage),
  });
  const given = program.inputs.filter((edge) => roleOf(edge) === "given");
  const inputs = given.map((edge) => port(inputName(edge), edge.dtype, edge.shape, homes.placeOf(edge).storage));
  const state = states.map((each) => port(each.name, each.dtype, each.shape, each.current));
  const steps = launches.map((launch, position) => step(launch, position, once.has(launch)));
  const outputStorages = new Map<string, Storage>();
  for (const launch of launches) {
    for (const { storage } of launch.operands) {
      if (storage.kind.of === "output") outputStorages.set(storage.kind.name, storage);
    }
  }
  const outputs = [...program.outputs].map(([name, edge]) => {
    const storage = outputStorages.get(name);
    if (storage === undefined) throw new Error(`no kernel writes output ${name}`);
    return port(name, edge.dtype, edge.shape, storage);
  });

  function step(launch: Launch, position: number, isOnce: boolean): PlanStep {
    const { at, generated, units } = kernelFor(launch, session);
    const sized = (size: Dim): Size => toSize(inProgram(size, units));
    const args = launch.operands.map(({ storage, offset }, i) => {
      const buffer = bufferOf(storage);
      touch(buffer, position, isOnce && launch.kernel.operands[i]?.role === "write");
      return { buffer, offset: toSize(multiply(offset, bytesOf(storage.dtype))) };
    });
    for (const bytes of generated.workspaces) {
      buffers.push({ name: "workspace", bytes: sized(bytes), kind: "temporary", first: position, last: position });
      args.push({ buffer: buffers.length - 1, offset: 0 });
    }
    return {
      kernel: at,
      arguments: args,
      sizes: session.kernels[at]!.sizes.map((name) => sized(symbol(name))),
      scalars: launch.scalars,
      tasks: generated.phases.map((phase) => sized(phase.tasks)),
      scratch: sized(generated.scratch),
      once: isOnce,
      origin: originPath(launch),
    };
  }

  function touch(buffer: number, position: number, resident: boolean): void {
    const facts = buffers[buffer];
    if (facts?.kind !== "temporary") return;
    if (resident) {
      facts.kind = "resident";
      delete facts.first;
      delete facts.last;
      return;
    }
    facts.first = Math.min(facts.first ?? position, position);
    facts.last = position;
  }

  return {
    symbols: symbolsIn(program, launches),
    inputs,
    outputs,
    state,
    buffers,
    steps,
    guards: program.equalities.map(({ left, right, message }): Guard => ({
      left: toSize(left),
      right: toSize(right),
      message,
    })),
  };
}

type MutableBuffer = { -readonly [Key in keyof PlanBuffer]: PlanBuffer[Key] };

function describeBuffer(storage: Storage, session: Session): MutableBuffer {
  const bytes = toSize(multiply(storage.elements, bytesOf(storage.dtype)));
  const { kind, name } = storage;
  if (kind.of === "constant") {
    const constant = encodeConstant(kind.edge, session);
    return { name, bytes, kind: "constant", constant };
  }
  return { name, bytes, kind: kind.of };
}

interface Made {
  readonly at: number;
  readonly generated: GeneratedKernel;
}

/** The generated kernel for a record, made once per distinct record, and what its symbols stand for here. */
function kernelFor(launch: Launch, session: Session): Made & Pick<InUnits, "units"> {
  const { kernel: record, units } = inUnits(launch.kernel);
  const key = kernelKey(record);
  const known = session.known.get(key);
  if (known !== undefined) return { ...known, units };
  const kernel = named(record, launch.group);
  const generated = session.generate(kernel);
  const made = { at: session.kernels.length, generated };
  session.kernels.push({
    symbol: generated.symbol,
    formula: kernel.formula,
    source: generated.source,
    phases: generated.phases.map((phase) => phase.symbol),
    sizes: kernel.symbols,
    work: sizesOf(workOf(kernel)),
    ...fromOf(launch),
    ...(generated.gpu === undefined ? {} : { gpu: launchOf(generated.gpu) }),
  });
  session.records.push(kernel);
  session.known.set(key, made);
  return { ...made, units };
}

const sizesOf = ({ products, flops, bytes }: Work): KernelWork => ({
  products,
  flops: toSize(flops),
  bytes: toSize(bytes),
});

const launchOf = ({ phases, tensorMaps }: NonNullable<GeneratedKernel["gpu"]>): GpuLaunch => ({
  phases,
  tensorMaps: tensorMaps.map((map) => ({
    ...map,
    offset: toSize(map.offset),
    sizes: map.sizes.map(toSize),
    strides: map.strides.map(toSize),
  })),
});

/** Launches that read nothing but constants and each other's results: they run when a shape is bound. */
function staticLaunches(launches: readonly Launch[], resolve: (storage: Storage) => Storage): ReadonlySet<Launch> {
  const found = new Set(launches);
  const dynamic = new Set<Storage>();
  for (let changed = true; changed;) {
    changed = false;
    for (const launch of launches) {
      if (!found.has(launch)) continue;
      const settled = launch.operands.every(({ storage }) => {
        const own = resolve(storage);
        return (own.kind.of === "constant" || own.kind.of === "temporary") && !dynamic.has(own);
      });
      if (settled) continue;
      found.delete(launch);
      changed = true;
      launch.operands.forEach(({ storage }, i) => {
        if (launch.kernel.operands[i]?.role === "write") dynamic.add(resolve(storage));
      });
    }
  }
  return found;
}

export interface StatePort {
  readonly name: string;
  readonly dtype: Port["dtype"];
  readonly shape: Shape;
  /** The buffer that holds the state before and after. */
  readonly current: Storage;
  /** Where the program makes the next value, if it makes one. */
  readonly next: Storage | undefined;
}

function statePorts(
  program: Program,
  next: ReadonlyMap<string, Storage>,
  storageOf: (edge: Edge) => Storage,
): StatePort[] {
  const ports = new Map<string, StatePort>();
  for (const edge of program.inputs) {
    if (roleOf(edge) !== "state") continue;
    const name = inputName(edge);
    ports.set(name, { name, dtype: edge.dtype, shape: edge.shape, current: storageOf(edge), next: next.get(name) });
  }
  for (const [name, edge] of program.next) {
    if (ports.has(name)) continue;
    const storage = next.get(name);
    if (storage === undefined) continue;
    const current: Storage = { ...storage, name, kind: { of: "state", name } };
    ports.set(name, { name, dtype: edge.dtype, shape: edge.shape, current, next: storage });
  }
  return [...ports.values()];
}

const roleOf = (edge: Edge): string => (edge.node.operation.op === "input" ? edge.node.operation.role : "");
const inputName = (edge: Edge): string => (edge.node.operation.op === "input" ? edge.node.operation.name : "");

const originPath = (launch: Launch): string => originOfLaunch(launch)?.path ?? "";

function originOfLaunch({ group }: Launch): Origin | undefined {
  const node = group.node ?? group.roots[0]?.edge.node;
  return node === undefined ? undefined : originOf(node);
}

function fromOf(launch: Launch): Pick<PlanKernel, "from"> {
  const origin = originOfLaunch(launch);
  const where = origin?.locate();
  const parts = [origin?.path ?? "", where === undefined ? "" : formatLocation(where)].filter((part) => part !== "");
  return parts.length === 0 ? {} : { from: parts.join(", ") };
}

function symbolsIn(program: Program, launches: readonly Launch[]): string[] {
  const names = new Set<string>();
  const visit = (dim: Dim): void => {
    for (const name of symbolsOf(dim)) names.add(name);
  };
  for (const edge of [...program.inputs, ...program.outputs.values(), ...program.next.values()]) {
    for (const name of shapeSymbols(edge.shape)) names.add(name);
  }
  for (const launch of launches) {
    for (const name of launch.kernel.symbols) names.add(name);
    for (const { storage, offset } of launch.operands) {
      visit(storage.elements);
      visit(offset);
    }
  }
  return [...names].sort();
}
