/**
 * The CUDA target: one generator per anchor, each a CUDA source whose structure is a template in templates/cuda. How a
 * kernel is launched is described in `templates/cuda/prelude/prelude.cuh`.
 */
import { createHash } from "node:crypto";
import type { Arch } from "../../../contract/plan.ts";
import type { Dim } from "../../graph/dim.ts";
import { ZERO } from "../../graph/dim.ts";
import type { GeneratedKernel, Kernel, TensorMapDims } from "../../kernels/kernel.ts";
import { templatesOf, type Render } from "../render.ts";
import { attention, attentionGradient } from "./attention.ts";
import { columns } from "./columns.ts";
import { contract } from "./contract.ts";
import type { Workspace } from "./launch.ts";
import { map } from "./map.ts";
import { rows } from "./rows.ts";

/** What a generator makes: the filled template, in which `@symbol` stands for the kernel's symbol. */
export interface Generated {
  readonly template: string;
  readonly context: object;
  readonly phases: readonly Phase[];
  readonly workspaces: readonly Workspace[];
  readonly tensorMaps?: readonly TensorMapDims[];
}

export interface Phase {
  readonly blocks: Dim;
  readonly threads: number;
  /** Bytes of dynamic shared memory of a block. */
  readonly sharedBytes: number;
}

type Generators = {
  readonly [A in Kernel["anchor"]]: (
    kernel: Extract<Kernel, { anchor: A }>,
    arch: Arch,
    everywhere: boolean,
  ) => Generated;
};

const GENERATORS: Generators = { map, rows, columns, contract, attention, attentionGradient };

const PLACEHOLDER = "@symbol";

let render: Render | undefined;

/**
 * The CUDA source of a kernel, and what the plan has to know to launch it.
 * @param everywhere the forms of an architecture also where others are faster: what tests of small sizes ask for
 */
export function generate(kernel: Kernel, arch: Arch, everywhere = false): GeneratedKernel {
  const generator = GENERATORS[kernel.anchor] as (kernel: Kernel, arch: Arch, everywhere: boolean) => Generated;
  const made = generator(kernel, arch, everywhere);
  render ??= templatesOf("cuda");
  const source = withoutIdleArguments(render(made.template, { ...made.context, symbol: PLACEHOLDER }));
  const hash = createHash("sha256").update(source).digest("hex").slice(0, 8);
  const symbol = `${kernel.name}_${hash}`;
  return Object.freeze({
    symbol,
    source: source.replaceAll(PLACEHOLDER, symbol),
    phases: made.phases.map(({ blocks }, phase) => ({ symbol: `${symbol}_${phase}`, tasks: blocks })),
    workspaces: made.workspaces.map(({ bytes }) => bytes),
    scratch: ZERO,
    gpu: {
      phases: made.phases.map(({ threads, sharedBytes }) => ({ threads, sharedBytes })),
      tensorMaps: made.tensorMaps ?? [],
    },
  });
}

/** Every phase takes all arguments apart; those it does not use need not be read. */
function withoutIdleArguments(source: string): string {
  const functions = source.split(/^(?= *(?:extern "C"|DEVICE ))/m);
  const tidied = functions.map((text) => {
    const words = text.split(/\W+/);
    return text
      .split("\n")
      .filter((line) => {
        const name = /(\w+) = (?:static_cast<[^>]+>\()?arguments\.\w+\)?;$/.exec(line)?.[1];
        return name === undefined || words.filter((word) => word === name).length > 2;
      })
      .join("\n");
  });
  return tidied.join("");
}
