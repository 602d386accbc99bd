/** A group of roots becomes a Kernel, and the buffers and scalars it is launched with. */
import { CompilerBug } from "../../contract/diagnostic.ts";
import { registerOf, type ScalarType } from "../../contract/dtype.ts";
import type { Size } from "../../contract/size.ts";
import { add, multiply, symbolsOf, ZERO, type Dim } from "../graph/dim.ts";
import type { Edge } from "../graph/node.ts";
import { literal, substitute, subexpressions, variable, type Expression } from "../notation/expression.ts";
import { contractLoops, mergedCopyStrides, type Group, type Grouping, type Root } from "./group.ts";
import type { Homes } from "./homes.ts";
import type { Access, Kernel, Operand, Reduction, Store } from "./kernel.ts";
import { along, type Coordinate, type Place, type Storage } from "./place.ts";
import { valuation, type Valuation } from "./value.ts";

export interface Launch {
  /** Without name and formula, which only readers need: `name.ts` gives them to each distinct kernel. */
  readonly kernel: Kernel;
  /** One per operand: the buffer, and where in it the operand starts, in elements. */
  readonly operands: readonly { readonly storage: Storage; readonly offset: Dim }[];
  readonly scalars: readonly { readonly type: ScalarType; readonly value: Size }[];
  readonly group: Group;
}

/** The launch of a group; undefined when nobody needs what it computes. */
export function assemble(group: Group, grouping: Grouping, homes: Homes): Launch | undefined {
  const parts = collector(group);
  const reductions: { readonly edge: Edge; readonly reduction: Reduction }[] = [];
  const valueAt = reader(group, grouping, homes, parts, reductions);
  const isNeeded = (edge: Edge): boolean => grouping.isDemanded(edge) || homes.isClaimed(edge);

  if (group.anchor === "attention" || group.anchor === "attentionGradient") return attention(group, homes, parts);

  const stores: (Store & { readonly perRow: boolean })[] = [];
  const store = (value: Expression, place: Place, strides: readonly Dim[], loops: readonly number[]): void => {
    const access = parts.write(place, strides, loops);
    const perRow = group.anchor === "rows" && loops.every((loop) => loop < group.outer);
    stores.push({ access, value, perRow });
  };
  const named = (edge: Edge): number[] => edge.shape.map((axis) => group.loops.get(axis.name) ?? -1);

  for (const root of group.roots) {
    if (root.kind !== "reduction") continue;
    const { operation } = root.edge.node;
    if (operation.op !== "reduce") throw new CompilerBug("kernels", "a reduction of something else");
    reductions.push({
      edge: root.edge,
      reduction: { operation: operation.operation, value: valueAt(root.value, root.at) },
    });
  }
  const [acc] = group.anchor === "contract" ? (group.node?.results ?? []) : [];
  if (acc !== undefined && isNeeded(acc)) {
    const place = homes.placeOf(acc);
    store(variable("acc", "f32"), place, place.strides, named(acc));
  }
  for (const root of group.roots) storeRoot(root);

  function storeRoot(root: Root): void {
    const { edge, to } = root;
    if (to !== undefined) {
      store(
        valueAt(root.value, root.at),
        to.place,
        to.strides,
        root.edge.shape.map((_, i) => i),
      );
      return;
    }
    if (!isNeeded(edge)) return;
    const place = homes.placeOf(edge);
    if (root.kind === "reduction") {
      const at = reductions.findIndex((each) => each.edge === edge);
      store(variable(`r${String(at)}`, registerOf(edge.dtype)), place, place.strides, named(edge));
    } else if (root.value === edge) {
      store(valueAt(edge, root.at), place, place.strides, named(edge));
    } else {
      store(
        valueAt(root.value, root.at),
        place,
        mergedCopyStrides(edge, place),
        group.axes.map((_, i) => i),
      );
    }
  }
  if (stores.length === 0) return undefined;

  type Shared = Pick<Kernel, "name" | "formula" | "operands" | "scalars" | "symbols">;
  const common = (): Shared & { axes: Group["axes"]; accesses: readonly Access[] } => ({
    name: "",
    formula: "",
    operands: parts.operands,
    scalars: parts.scalars.map((scalar) => scalar.type),
    symbols: parts.symbols(),
    axes: group.axes,
    accesses: parts.accesses,
  });
  const finish = (kernel: Kernel): Launch => ({ kernel, operands: parts.bindings, scalars: parts.scalars, group });

  switch (group.anchor) {
    case "map": {
      const plain = stores.map(({ access, value }) => ({ access, value }));
      return finish({ anchor: "map", ...common(), stores: plain });
    }
    case "rows": {
      const staged = inStages(reductions.map((each) => each.reduction));
      const renumbered = stores.map(({ access, value }) => ({ access, value: staged.rename(value) }));
      return finish({
        anchor: "rows",
        ...common(),
        outer: group.outer,
        stages: staged.stages,
        stores: renumbered,
        perRow: stores.map((each) => each.perRow),
      });
    }
    case "columns": {
      const plain = stores.map(({ access, value }) => ({ access, value }));
      const sums = reductions.map((each) => each.reduction);
      return finish({
        anchor: "columns",
        ...common(),
        reduced: group.reduced,
        reductions: sums,
        stores: plain,
      });
    }
    case "contract": {
      const [leftEdge, rightEdge] = group.node?.inputs ?? [];
      if (leftEdge === undefined || rightEdge === undefined)
        throw new CompilerBug("kernels", "a contraction of nothing");
      const loops = contractLoops(group);
      const left = valueAt(leftEdge, loops("left").map(along));
      const right = valueAt(rightEdge, loops("right").map(along));
      const plain = stores.map(({ access, value }) => ({ access, value }));
      return finish({ anchor: "contract", ...common(), roles: group.roles, left, right, stores: plain });
    }
    default:
      return group.anchor satisfies never;
  }
}

/** Collects what a kernel touches: accesses and operands without doubles. */
function collector(group: Group): {
  readonly accesses: Access[];
  readonly operands: Operand[];
  readonly bindings: { readonly storage: Storage; readonly offset: Dim }[];
  readonly scalars: { readonly type: ScalarType; readonly value: Size }[];
  readonly read: (place: Place, at: readonly Coordinate[], guard?: Expression) => number;
  readonly write: (place: Place, strides: readonly Dim[], loops: readonly number[]) => number;
  readonly scalar: (type: ScalarType, value: Size) => Expression;
  readonly symbols: () => string[];
} {
  const accesses: Access[] = [];
  const operands: Operand[] = [];
  const bindings: { readonly storage: Storage; readonly offset: Dim }[] = [];
  const scalars: { readonly type: ScalarType; readonly value: Size }[] = [];
  const known = new Map<string, number>();
  const counts = { read: 0, write: 0 };

  const operandFor = (storage: Storage, offset: Dim, role: Operand["role"]): number => {
    const at = bindings.findIndex(
      (each, i) => each.storage === storage && each.offset === offset && operands[i]?.role === role,
    );
    if (at >= 0) return at;
    bindings.push({ storage, offset });
    const name = role === "read" ? `x${String(counts.read++)}` : `y${String(counts.write++)}`;
    operands.push({ name, dtype: storage.dtype, role });
    return operands.length - 1;
  };
  const accessFor = (access: Access): number => {
    const key = [
      access.operand,
      access.strides.map((stride) => stride.id).join(),
      access.lookups.map((lookup) => `${lookup.stride.id}:${String(lookup.index.id)}`).join(),
      access.guard?.id ?? "",
    ].join("|");
    const at = known.get(key);
    if (at !== undefined) return at;
    accesses.push(access);
    known.set(key, accesses.length - 1);
    return accesses.length - 1;
  };
  return {
    accesses,
    operands,
    bindings,
    scalars,
    read: (place, at, guard) => {
      const strides: Dim[] = group.axes.map(() => ZERO);
      let shift = ZERO;
      const lookups: Access["lookups"][number][] = [];
      at.forEach((coordinate, i) => {
        const stride = place.strides[i] ?? ZERO;
        for (const [loop, step] of coordinate.terms) strides[loop] = add(strides[loop] ?? ZERO, multiply(step, stride));
        shift = add(shift, multiply(coordinate.offset, stride));
        for (const lookup of coordinate.lookups)
          lookups.push({ stride: multiply(lookup.stride, stride), index: lookup.index });
      });
      // A guarded access may start before its tensor: the shift belongs to the index, not to where the operand is bound.
      if (guard !== undefined && shift !== ZERO) lookups.push({ stride: shift, index: literal(1, "i32") });
      const offset = guard === undefined ? add(place.offset, shift) : place.offset;
      const operand = operandFor(place.storage, offset, "read");
      return accessFor(guard === undefined ? { operand, strides, lookups } : { operand, strides, lookups, guard });
    },
    write: (place, along, loops) => {
      const strides: Dim[] = group.axes.map(() => ZERO);
      loops.forEach((loop, i) => (strides[loop] = along[i] ?? ZERO));
      return accessFor({ operand: operandFor(place.storage, place.offset, "write"), strides, lookups: [] });
    },
    scalar: (type, value) => {
      const at = scalars.findIndex(
        (each) => each.type === type && JSON.stringify(each.value) === JSON.stringify(value),
      );
      if (at < 0) scalars.push({ type, value });
      return variable(`s${String(at < 0 ? scalars.length - 1 : at)}`, type);
    },
    symbols: () => {
      const names = new Set<string>();
      const visit = (dim: Dim): void => {
        for (const name of symbolsOf(dim)) names.add(name);
      };
      for (const axis of group.axes) visit(axis.size);
      for (const access of accesses) {
        access.strides.forEach(visit);
        for (const lookup of access.lookups) visit(lookup.stride);
      }
      return [...names].sort();
    },
  };
}

type Parts = ReturnType<typeof collector>;

function reader(
  group: Group,
  grouping: Grouping,
  homes: Homes,
  parts: Parts,
  reductions: readonly { readonly edge: Edge }[],
): Valuation {
  const copies = new Set(group.roots.filter((root) => root.to !== undefined).map((root) => root.edge.key));
  return valuation({
    leaf: (edge, at, guard) => {
      if (!grouping.isLeaf(edge)) return undefined;
      if (grouping.makerOf(edge) === group && !copies.has(edge.key)) {
        if (edge.node === group.node) return variable("acc", "f32");
        const sum = reductions.findIndex((each) => each.edge === edge);
        return sum < 0 ? undefined : variable(`r${String(sum)}`, registerOf(edge.dtype));
      }
      return variable(`a${String(parts.read(homes.placeOf(edge), at, guard))}`, registerOf(edge.dtype));
    },
    scalar: parts.scalar,
  });
}

/** Orders reductions in stages, so that each reads only those of earlier stages, and numbers them in that order. */
function inStages(reductions: readonly Reduction[]): {
  readonly stages: readonly (readonly Reduction[])[];
  readonly rename: (value: Expression) => Expression;
} {
  const stageOf: number[] = [];
  for (const reduction of reductions) {
    let stage = 0;
    for (const part of subexpressions([reduction.value])) {
      if (part.kind === "variable" && part.name.startsWith("r")) {
        stage = Math.max(stage, (stageOf[Number(part.name.slice(1))] ?? 0) + 1);
      }
    }
    stageOf.push(stage);
  }
  const order = reductions.map((_, i) => i).sort((a, b) => (stageOf[a] ?? 0) - (stageOf[b] ?? 0) || a - b);
  const rename = (value: Expression): Expression =>
    substitute(value, (each) =>
      each.name.startsWith("r") ? variable(`r${String(order.indexOf(Number(each.name.slice(1))))}`, each.type) : each,
    );
  const stages: Reduction[][] = [];
  for (const i of order) {
    const reduction = reductions[i];
    if (reduction === undefined) continue;
    const stage = stageOf[i] ?? 0;
    (stages[stage] ??= []).push({ operation: reduction.operation, value: rename(reduction.value) });
  }
  return { stages, rename };
}

function attention(group: Group, homes: Homes, parts: Parts): Launch {
  const { node } = group;
  const operation = node?.operation;
  if (node === undefined || (operation?.op !== "attention" && operation?.op !== "attentionGradient")) {
    throw new CompilerBug("kernels", "not an attention");
  }
  const loopOf = (name: string): number => {
    const at = [operation.heads, operation.queries, operation.keys, operation.head].indexOf(name);
    return at < 0 ? 0 : at + 1;
  };
  const touch = (edge: Edge | undefined, how: "read" | "write"): number => {
    if (edge === undefined) throw new CompilerBug("kernels", "attention lacks an operand");
    const stored = how === "write" ? group.roots.find((root) => root.edge.node.inputs[0] === edge)?.edge : undefined;
    const place = homes.placeOf(stored ?? edge);
    const loops = edge.shape.map((axis) => loopOf(axis.name));
    return how === "write" ? parts.write(place, place.strides, loops) : parts.read(place, loops.map(along));
  };
  const isForward = operation.op === "attention";
  const [q, k, v] = node.inputs.slice(0, 3).map((edge) => touch(edge, "read"));
  const rest = node.inputs.slice(isForward ? 3 : 6);
  const results = node.results;
  const shared = {
    q: q ?? 0,
    k: k ?? 0,
    v: v ?? 0,
    o: touch(isForward ? results[0] : node.inputs[3], isForward ? "write" : "read"),
    lse: touch(isForward ? results[1] : node.inputs[4], isForward ? "write" : "read"),
  };
  const own = isForward
    ? {}
    : {
        doutput: touch(node.inputs[5], "read"),
        dq: touch(results[0], "write"),
        dk: touch(results[1], "write"),
        dv: touch(results[2], "write"),
      };
  const segments = operation.segments.map((extent, i) => ({ extent, lengths: touch(rest[i], "read") }));
  const kernel = {
    anchor: operation.op,
    name: "",
    formula: "",
    operands: parts.operands,
    scalars: [],
    symbols: [...new Set([...parts.symbols(), ...operation.segments.flatMap(symbolsOf)])].sort(),
    axes: group.axes,
    accesses: parts.accesses,
    scale: operation.scale,
    mask: { causal: operation.causal, segments },
    ...shared,
    ...own,
  } as Kernel;
  return { kernel, operands: parts.bindings, scalars: [], group };
}
