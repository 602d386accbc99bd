/**
 * The CPU target: one generator per anchor, each a C++ source whose structure is a template. The ABI between a kernel
 * and the executor is described in `templates/cpu/prelude/launch.hpp`.
 */
import { createHash } from "node:crypto";
import type { Dim } from "../../graph/dim.ts";
import type { GeneratedKernel, Kernel } from "../../kernels/kernel.ts";
import { templatesOf, type Render } from "../render.ts";
import { attention, attentionGradient } from "./attention.ts";
import { columns } from "./columns.ts";
import { contract } from "./contract.ts";
import { map } from "./map.ts";
import { rows } from "./rows.ts";

/** What a generator makes: the filled template, in which `@symbol` stands for the kernel's symbol. */
export interface Generated {
  readonly template: string;
  readonly context: object;
  /** How many tasks each phase has. */
  readonly tasks: readonly Dim[];
  /** Bytes of each workspace. */
  readonly workspaces: readonly Dim[];
  /** Bytes of private memory per thread. */
  readonly scratch: Dim;
}

type Generators = { readonly [A in Kernel["anchor"]]?: (kernel: Extract<Kernel, { anchor: A }>) => Generated };

const GENERATORS: Generators = { map, rows, columns, contract, attention, attentionGradient };

const PLACEHOLDER = "@symbol";

let render: Render | undefined;

/** The C++ source of a kernel, and what the plan has to know to launch it. */
export function generate(kernel: Kernel): GeneratedKernel {
  const generator = GENERATORS[kernel.anchor] as ((kernel: Kernel) => Generated) | undefined;
  if (generator === undefined) throw new Error(`the CPU target cannot generate ${kernel.anchor} kernels`);
  const made = generator(kernel);
  render ??= templatesOf("cpu");
  const source = withoutIdleArguments(render(made.template, { ...made.context, symbol: PLACEHOLDER }));
  const hash = createHash("sha256").update(source).digest("hex").slice(0, 8);
  const symbol = `${kernel.name}_${hash}`;
  return Object.freeze({
    symbol,
    source: source.replaceAll(PLACEHOLDER, symbol),
    phases: made.tasks.map((tasks, phase) => ({ symbol: `${symbol}_${phase}`, tasks })),
    workspaces: made.workspaces,
    scratch: made.scratch,
  });
}

/** Every function of a template fetches all arguments; those it does not use need not be read. */
function withoutIdleArguments(source: string): string {
  const functions = source.split(/^(?=SORACC_EXPORT| *inline )/m);
  const tidied = functions.map((text) => {
    const words = text.split(/\W+/);
    return text
      .split("\n")
      .filter((line) => {
        const name = /(\w+) = (?:static_cast<[^>]+>\()?launch->\w+\[\d+\]\)?;$/.exec(line)?.[1];
        return name === undefined || words.filter((word) => word === name).length > 1;
      })
      .join("\n");
  });
  return tidied.join("");
}
