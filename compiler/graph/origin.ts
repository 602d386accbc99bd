/**
 * Where a node comes from: the user's line and the path of components it was made in. Origins live beside nodes, not in
 * their key: two lines that say the same thing make one node, and the first one is remembered.
 */
import type { Location } from "../../contract/diagnostic.ts";
import type { Node } from "./node.ts";

export interface Origin {
  /** `blocks.3.attn`; empty outside components. */
  readonly path: string;
  /** The member of a stack that it is inside of: `blocks.3`. Of stacks in stacks, the outermost one. */
  readonly member?: string | undefined;
  /** The function of the language that the user called: `layerNorm`, `add`. Absent while the user's own code runs. */
  readonly what?: string;
  /** Found lazily: walking a stack is cheap, mapping it to the user's source is not. */
  readonly locate: () => Location | undefined;
}

const origins = new WeakMap<Node, Origin>();
let current: Origin = { path: "", locate: () => undefined };

export const originOf = (node: Node): Origin | undefined => origins.get(node);

export const currentOrigin = (): Origin => current;

/** Runs `body` with `origin` as the origin of the nodes it makes. */
export function withOrigin<T>(origin: Origin, body: () => T): T {
  const outer = current;
  current = origin;
  try {
    return body();
  } finally {
    current = outer;
  }
}

/** Gives a node the current origin, unless it has one. */
export function remember(node: Node, origin: Origin = current): Node {
  if (!origins.has(node)) origins.set(node, origin);
  return node;
}
