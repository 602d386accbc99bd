/** How do axis patterns apply to a tensor? Names and sizes of the pattern meet those of the edge. */
import { Diagnostic } from "../../contract/diagnostic.ts";
import { printDim, symbol, toDim, type Dim, type DimLike } from "../graph/dim.ts";
import type { Edge } from "../graph/node.ts";
import { printShape, type Axis, type Shape } from "../graph/shape.ts";
import { parseContraction, parsePattern, type Contraction, type Rearrangement } from "../notation/pattern.ts";
import { contract } from "../ops/contract.ts";
import { rearrange, solveFactors } from "../ops/layout.ts";

/** The sizes of axes, by name. */
export type Sizes = Readonly<Record<string, DimLike>>;

const rearrangements = new Map<string, Rearrangement>();
const contractions = new Map<string, Contraction>();

function parsedOnce<T>(cache: Map<string, T>, text: string, parse: (text: string) => T): T {
  const known = cache.get(text);
  if (known !== undefined) return known;
  const made = parse(text);
  cache.set(text, made);
  return made;
}

/** The shape that a list of names spells: an axis without a size has the symbol of its own name. */
export function shapeOf(axes: string, sizes: Sizes): Shape {
  const names = axes.split(/\s+/).filter((name) => name !== "");
  const wrong = names.find((name) => !/^[A-Za-z_]\w*$/.test(name));
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  const unknown = Object.keys(sizes).find((name) => !names.includes(name));
  const message =
    wrong !== undefined
      ? `"${wrong}" is no name of an axis`
      : twice !== undefined
        ? `axis "${twice}" stands twice in "${axes}"`
        : unknown !== undefined
          ? `"${axes}" has no axis "${unknown}" to give a size`
          : undefined;
  if (message !== undefined) {
    throw new Diagnostic({ kind: "pattern", message, fix: 'list axes as in "batch tokens width", each once' });
  }
  return names.map((name): Axis => ({ name, size: toDim(sizes[name] ?? symbol(name)) }));
}

export function rearrangeByPattern(x: Edge, text: string, sizes: Sizes): Edge {
  const pattern = parsedOnce(rearrangements, text, parsePattern);
  if (pattern.input.length !== x.shape.length) {
    throw new Diagnostic({
      kind: "shape",
      message: `the pattern "${text}" names ${count(pattern.input.length)}, and the tensor has ${count(x.shape.length)}`,
      fix: `name every axis of ${printShape(x.shape)} on the left, in order`,
    });
  }
  const names = pattern.input.flat();
  const unknown = Object.keys(sizes).find((name) => !names.includes(name));
  if (unknown !== undefined) {
    throw new Diagnostic({
      kind: "pattern",
      message: `the pattern "${text}" has no "${unknown}" to give a size`,
      fix: `give sizes of: ${names.join(", ")}`,
    });
  }
  // A unit axis is a factor of size 1 without a name: nothing on the right asks for it.
  const named = pattern.input.flatMap((group) => (group.length === 0 ? [""] : group));
  const split = pattern.input.map((group, i) =>
    group.length === 0 ? [toDim(1)] : factorsOf(x.shape[i]!, group, sizes, text),
  );
  const groups = pattern.output.map((group) => group.map((name) => named.indexOf(name)));
  const output = pattern.output.map((group, i) =>
    group.length === 1 ? group[0]! : nameOfGroup(group, i, x.shape, pattern),
  );
  return rearrange(x, split, groups, output);
}

const count = (axes: number): string => `${axes} ${axes === 1 ? "axis" : "axes"}`;

function factorsOf(axis: Axis, group: readonly string[], sizes: Sizes, text: string): Dim[] {
  const known = group.map((name) => (sizes[name] === undefined ? undefined : toDim(sizes[name])));
  if (group.length === 1 && known[0] === undefined) return [axis.size];
  const solved = solveFactors(axis.size, known);
  if (solved !== undefined) return solved;
  const missing = group.filter((_, i) => known[i] === undefined);
  const parts = group.map((name, i) => (known[i] === undefined ? name : `${name}=${printDim(known[i])}`)).join(" ");
  throw new Diagnostic({
    kind: "shape",
    message:
      missing.length > 1
        ? `"${text}" leaves the sizes of ${missing.join(" and ")} open`
        : `axis "${axis.name}" of size ${printDim(axis.size)} cannot be split in (${parts})`,
    fix:
      missing.length > 1
        ? `give all but one of them: .rearrange("…", { ${missing[1]!}: … })`
        : `choose sizes that divide ${printDim(axis.size)}`,
  });
}

/** A merged axis keeps the name its parts were split from, else it takes the name of its last part. */
function nameOfGroup(group: readonly string[], i: number, shape: Shape, pattern: Rearrangement): string {
  const whole = pattern.input.findIndex((from) => from.join(" ") === group.join(" "));
  return shape[whole]?.name ?? group.at(-1) ?? `unit${i}`;
}

export function contractByPattern(left: Edge, right: Edge, text: string): Edge {
  const { inputs, output } = parsedOnce(contractions, text, parseContraction);
  const [first = [], second = []] = inputs;
  if (inputs.length !== 2 || first.length !== left.shape.length || second.length !== right.shape.length) {
    throw new Diagnostic({
      kind: "shape",
      message: `the pattern "${text}" does not name the axes of two such tensors`,
      fix: `name ${count(left.shape.length)}, a comma, and ${count(right.shape.length)} before the arrow`,
    });
  }
  const labels = [...new Set([...first, ...second])];
  const label = (name: string): number => labels.indexOf(name);
  return contract(left, right, { left: first.map(label), right: second.map(label), result: output.map(label) }, output);
}
