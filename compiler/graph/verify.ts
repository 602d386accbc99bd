/**
 * Whether a program is one: run after every pass, so that a broken promise is found beside the pass that broke it.
 * Nodes never change, so each is looked at once in its life.
 */
import { CompilerBug } from "../../contract/diagnostic.ts";
import { nodesOf, operationKey, programEdges, type Edge, type Node, type Program } from "./node.ts";
import { originOf } from "./origin.ts";
import { resultTypes } from "./result-types.ts";
import { printShape, sameShape, type Shape } from "./shape.ts";

const verified = new WeakSet<Node>();

/**
 * Every edge is a result of its node, made before its users; types are those the operation gives; names are unique; a
 * next state looks like the state it replaces. Throws a `CompilerBug` that names `pass` and the node.
 */
export function verifyProgram(program: Program, pass: string): void {
  const nodes = nodesOf(programEdges(program));
  for (const node of nodes) {
    if (verified.has(node)) continue;
    const wrong = wrongWith(node);
    if (wrong !== undefined) throw broken(program, pass, describe(node), wrong);
    verified.add(node);
  }
  for (const edge of programEdges(program)) {
    if (edge.node.results[edge.result] !== edge)
      throw broken(program, pass, describe(edge.node), "a result is not its own");
  }
  verifyNames(program, nodes, pass);
  const states = new Map<string, Edge>();
  const given = new Set<string>();
  for (const { name, role, edge } of inputsOf(nodes)) {
    if (role === "state") states.set(name, edge);
    else given.add(name);
  }
  for (const [name, edge] of program.next) {
    const state = states.get(name);
    if (given.has(name)) throw broken(program, pass, `next "${name}"`, "the input of that name is given, and no state");
    if (state === undefined) continue; // the program makes the state's first value and does not read it
    if (state.dtype !== edge.dtype || !sameShape(state.shape, edge.shape)) {
      const types = `${printType(edge)} cannot replace ${printType(state)}`;
      throw broken(program, pass, `next "${name}"`, types);
    }
  }
}

function wrongWith(node: Node): string | undefined {
  for (const input of node.inputs) {
    if (input.node.results[input.result] !== input) return `its input is no result of node ${String(input.node.id)}`;
    if (input.node.id >= node.id) return "it was made before its input";
  }
  const types = resultTypes(node.operation, node.inputs);
  if (typeof types === "string") return types;
  if (types.length !== node.results.length)
    return `it has ${String(node.results.length)} results, not ${String(types.length)}`;
  for (const [i, edge] of node.results.entries()) {
    if (edge.node !== node || edge.result !== i) return "a result is not its own";
    const want = types[i]!;
    if (edge.dtype !== want.dtype || !sameShape(edge.shape, want.shape)) {
      return `result ${String(i)} is ${printType(edge)}, and should be ${printType(want)}`;
    }
    if (new Set(edge.shape.map((axis) => axis.name)).size !== edge.shape.length) {
      return `result ${String(i)} has two axes of one name: ${printShape(edge.shape)}`;
    }
  }
  return undefined;
}

/** Inputs, parameters and random draws are known by name: one name, one thing. */
function verifyNames(program: Program, nodes: readonly Node[], pass: string): void {
  const listed = new Set(program.inputs);
  const inputs = inputsOf(nodes);
  for (const { name, edge } of inputs) {
    if (!listed.has(edge)) throw broken(program, pass, `input "${name}"`, "the program does not list it");
  }
  if (inputs.length !== program.inputs.length) throw broken(program, pass, "inputs", "one is listed twice, or is none");
  const owners = new Map<string, string>();
  for (const { operation } of nodes) {
    if (operation.op !== "input" && operation.op !== "parameter" && operation.op !== "random") continue;
    const name = `${operation.op} "${operation.op === "random" ? operation.path : operation.name}"`;
    const key = operationKey(operation);
    const owner = owners.get(name);
    if (owner !== undefined && owner !== key) throw broken(program, pass, name, "two different ones have this name");
    owners.set(name, key);
  }
}

const inputsOf = (nodes: readonly Node[]) =>
  nodes.flatMap(({ operation, results }) =>
    operation.op === "input" ? [{ name: operation.name, role: operation.role, edge: results[0]! }] : [],
  );

function describe(node: Node): string {
  const path = originOf(node)?.path ?? "";
  return `node ${String(node.id)} (${node.operation.op}${path === "" ? "" : ` in ${path}`})`;
}

const printType = ({ dtype, shape }: { readonly dtype: string; readonly shape: Shape }): string =>
  `${dtype}${printShape(shape)}`;

const broken = (program: Program, pass: string, where: string, what: string): CompilerBug =>
  new CompilerBug(pass, `program "${program.name}", ${where}: ${what}`);
