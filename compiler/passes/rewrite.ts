/**
 * How passes make a program into another one: every node is visited once, inputs first, and what did not change stays
 * the same object. Rules are local rewrites as records; they are applied bounded, since two rules that undo each other
 * would otherwise run for ever.
 */
import { CompilerBug } from "../../contract/diagnostic.ts";
import {
  makeNode,
  nodesOf,
  programEdges,
  type Edge,
  type Node,
  type OperationName,
  type OperationOf,
  type Program,
} from "../graph/node.ts";
import { originOf, remember, withOrigin } from "../graph/origin.ts";
import { agree } from "../graph/result-types.ts";
import { printShape, sameShape, takeUndecided, type Equality } from "../graph/shape.ts";
import { pointwise } from "../ops/pointwise.ts";

/** What takes the place of a node's results, given the new edges of its inputs. */
export type Visit = (node: Node, inputs: readonly Edge[]) => readonly Edge[];

/** The program with every node replaced by what `visit` gives for it. */
export function mapProgram(program: Program, visit: Visit): Program {
  takeUndecided();
  const made = new Map<Node, readonly Edge[]>();
  const now = (edge: Edge): Edge => made.get(edge.node)?.[edge.result] ?? edge;
  for (const node of nodesOf(programEdges(program))) made.set(node, visit(node, node.inputs.map(now)));
  const each = ([name, edge]: readonly [string, Edge]): readonly [string, Edge] => [name, now(edge)];
  return {
    ...program,
    inputs: program.inputs.map(now),
    outputs: new Map([...program.outputs].map(each)),
    next: new Map([...program.next].map(each)),
    equalities: withoutRepeats([...program.equalities, ...takeUndecided()]),
  };
}

const withoutRepeats = (equalities: readonly Equality[]): readonly Equality[] => [
  ...new Map(equalities.map((each) => [`${each.left.key}=${each.right.key}`, each])).values(),
];

/** The node's operation on other inputs of the same types; itself when they are the same. */
export function rebuild(node: Node, inputs: readonly Edge[]): readonly Edge[] {
  if (inputs.every((edge, i) => edge === node.inputs[i])) return node.results;
  const { operation, identity } = node;
  if (operation.op === "pointwise" && new Set(inputs).size !== inputs.length) {
    // Two inputs became one, and the expression has to say so.
    const names = inputs.map((_, i) => `x${String(i)}`);
    return [atOrigin(node, () => pointwise(operation.expression, names, inputs))];
  }
  const made = makeNode(operation, inputs, node.results, identity);
  const origin = originOf(node);
  return (origin === undefined ? made : remember(made, origin)).results;
}

export interface Rule {
  readonly name: string;
  readonly because: string;
  /** The operation at the root of the pattern. */
  readonly root: OperationName;
  /** What takes the place of the root's results; undefined where the rule does not apply. */
  readonly rewrite: (node: Node, isShared: (edge: Edge) => boolean) => readonly Edge[] | undefined;
}

/** A rule from its parts: `match` binds what `build` needs, or is undefined. A root with several results builds a list. */
export function rule<Name extends OperationName, Bound>(
  name: string,
  root: Name,
  parts: {
    readonly because: string;
    readonly match: (
      operation: OperationOf<Name>,
      inputs: readonly Edge[],
      results: readonly Edge[],
      /** Whether others read the edge too, so that it is computed whatever the rule does. */
      isShared: (edge: Edge) => boolean,
    ) => Bound | undefined;
    readonly build: (bound: Bound) => Edge | readonly Edge[];
  },
): Rule {
  return {
    name,
    because: parts.because,
    root,
    rewrite: ({ operation, inputs, results }, isShared) => {
      const bound = parts.match(operation as OperationOf<Name>, inputs, results, isShared);
      if (bound === undefined) return undefined;
      const built = parts.build(bound);
      return "node" in built ? [built] : built;
    },
  };
}

/** The operation an edge comes from and its inputs, when it is the one named. */
export function madeBy<Name extends OperationName>(
  name: Name,
  edge: Edge | undefined,
): { readonly operation: OperationOf<Name>; readonly x: Edge; readonly node: Node } | undefined {
  const operation = edge?.node.operation;
  const x = edge?.node.inputs[0];
  // Clones made for recomputation are left as they are: rewriting one would merge it with what it recomputes.
  if (edge === undefined || operation?.op !== name || x === undefined || edge.node.identity !== "") return undefined;
  return { operation: operation as OperationOf<Name>, x, node: edge.node };
}

/** Rewrites one after the other at one place before we call it a cycle; real graphs need two or three. */
const MAX_STEPS = 30;

/**
 * Applies rules wherever they match, until none does. Linear in the size of the program: what a rule builds is looked
 * at again, what it did not touch is not. Throws a `CompilerBug` that names the cycle when rules undo each other.
 */
export function rewriteProgram(program: Program, rules: readonly Rule[]): Program {
  const byRoot = new Map<OperationName, readonly Rule[]>();
  for (const each of rules) byRoot.set(each.root, [...(byRoot.get(each.root) ?? []), each]);
  const done = new Map<Node, readonly Edge[]>();
  const uses = countUses(program);
  const isShared = (edge: Edge): boolean => (uses.get(edge.node) ?? 0) > 1;
  const settle = (node: Node, trail: readonly string[]): readonly Edge[] => {
    const known = done.get(node);
    if (known !== undefined) return known;
    const onward = (edge: Edge): Edge => settle(edge.node, trail)[edge.result] ?? edge;
    const rebuilt = rebuild(node, node.inputs.map(onward));
    const [first] = rebuilt;
    if (first !== undefined && first.node !== node) uses.set(first.node, uses.get(node) ?? 0);
    const results = rebuilt === node.results ? step(node, trail) : rebuilt.map(onward);
    done.set(node, results);
    return results;
  };
  const step = (node: Node, trail: readonly string[]): readonly Edge[] => {
    const applied = applyFirst(node, byRoot.get(node.operation.op) ?? [], isShared);
    if (applied === undefined) return node.results;
    const longer = [...trail, applied.name];
    if (longer.length > MAX_STEPS) {
      throw new CompilerBug("simplify", `rules undo each other: ${longer.slice(-6).join(" -> ")}`);
    }
    return applied.made.map((edge) => settle(edge.node, longer)[edge.result] ?? edge);
  };
  return mapProgram(program, (node) => settle(node, []));
}

/** How often the results of each node are read. */
function countUses(program: Program): Map<Node, number> {
  const uses = new Map<Node, number>();
  const edges = programEdges(program);
  for (const { node } of [...edges, ...nodesOf(edges).flatMap(({ inputs }) => inputs)]) {
    uses.set(node, (uses.get(node) ?? 0) + 1);
  }
  return uses;
}

/** The first rule that applies to a node and what it makes of it, checked to be of the same type. */
function applyFirst(
  node: Node,
  rules: readonly Rule[],
  isShared: (edge: Edge) => boolean,
): { readonly name: string; readonly made: readonly Edge[] } | undefined {
  if (node.identity !== "") return undefined;
  for (const { name, rewrite } of rules) {
    const made = atOrigin(node, () => rewrite(node, isShared));
    if (made === undefined || node.results.every((edge, i) => edge === made[i])) continue;
    for (const [i, edge] of node.results.entries()) {
      const other = made[i];
      if (other?.dtype !== edge.dtype || !agree(other.shape, edge.shape)) {
        const what = other === undefined ? "nothing" : `${other.dtype}${printShape(other.shape)}`;
        throw new CompilerBug("simplify", `${name} makes ${what} of ${edge.dtype}${printShape(edge.shape)}`);
      }
    }
    // Equal only when the shape is bound: users of the node rely on its own spelling of the sizes.
    if (node.results.every((edge, i) => sameShape(edge.shape, made[i]?.shape ?? []))) return { name, made };
  }
  return undefined;
}

function atOrigin<Made>(node: Node, make: () => Made): Made {
  const origin = originOf(node);
  return origin === undefined ? make() : withOrigin(origin, make);
}
