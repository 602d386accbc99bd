/**
 * Components: parts of a model with parameters of their own. A component is written as two nested functions. The outer
 * one sets up: it declares layers and parameters, once. The inner one is the part itself, from tensors to tensors, and
 * runs in every program that uses it. Names nest: a layer "attn.to_q" inside "blocks.3" is "blocks.3.attn.to_q".
 */
import { Diagnostic } from "../../contract/diagnostic.ts";
import { asMember, asUser, checkName, entered, within } from "./place.ts";

/** What a component makes when it is given a name and its configuration. */
export type Factory<Config, Inputs extends readonly unknown[], Output> = (
  name: string,
  config: Config,
) => (...inputs: Inputs) => Output;

/**
 * Defines a component. `kind` names it for people; the name of an instance goes into the names of its parameters, and
 * an empty one adds nothing.
 */
export function component<Config, Inputs extends readonly unknown[], Output>(
  kind: string,
  setUp: (config: Config) => (...inputs: Inputs) => Output,
): Factory<Config, Inputs, Output> {
  return (name, config) => {
    entered(kind, () => checkName(kind, name));
    const path = within(name);
    const run = asUser(() => setUp(config), path);
    if (typeof run !== "function") throw noFunction(kind);
    return (...inputs) => asUser(() => run(...inputs), path);
  };
}

/** Components one after the other: `stack("blocks", 12, block, config)` names them "blocks.0" to "blocks.11". */
export function stack<Config, Inputs extends readonly unknown[], Output>(
  name: string,
  depth: number,
  factory: Factory<Config, Inputs, Output>,
  config: Config,
): readonly ((...inputs: Inputs) => Output)[] {
  return Array.from({ length: depth }, (_, i) => {
    const path = within(`${name}.${i}`);
    const member = factory(`${name}.${i}`, config);
    return (...inputs) => asMember(path, () => member(...inputs));
  });
}

function noFunction(kind: string): Diagnostic {
  return new Diagnostic({
    kind: "model",
    message: `the set-up of component "${kind}" returns no function`,
    fix: "return the function from tensors to tensors that programs run",
  });
}
