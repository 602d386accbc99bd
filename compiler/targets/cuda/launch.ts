/** How a CUDA kernel gets its arguments: the fields of its `Arguments`, and the lines that unpack them. */
import type { Dim } from "../../graph/dim.ts";
import type { Frame } from "../code/context.ts";
import { headOf, type Head } from "../code/context.ts";
import { ELEMENT_TYPES, REGISTER_TYPES } from "../code/print.ts";

/** Memory that lives during the kernel only; its pointer follows the operands. */
export interface Workspace {
  readonly name: string;
  /** The C++ type of an element. */
  readonly type: string;
  readonly bytes: Dim;
}

/** What the partials `head` and `arguments` need. */
export interface CudaHead extends Head {
  readonly includes: readonly string[];
  /** Declarations of the fields of `Arguments`, in the order in which a launch lays them out. */
  readonly fields: readonly string[];
  /** Declarations that take every operand, workspace, size and scalar out of `arguments`. */
  readonly arguments: readonly string[];
}

export interface HeadParts {
  readonly workspaces?: readonly Workspace[];
  /** Names of the tensor maps, which come first in a launch. */
  readonly maps?: readonly string[];
  /** What the source includes beside the prelude. */
  readonly includes?: readonly string[];
}

export function cudaHead(frame: Frame, { workspaces = [], maps = [], includes = [] }: HeadParts = {}): CudaHead {
  const { kernel } = frame;
  const pointers = [
    ...kernel.operands.map((operand, i) => ({
      type: `${operand.role === "read" ? "const " : ""}${ELEMENT_TYPES[operand.dtype]}`,
      name: frame.operands[i] ?? "",
    })),
    ...workspaces,
  ];
  const sizes = kernel.symbols.map((symbol) => frame.sizes.get(symbol) ?? "");
  const scalars = kernel.scalars.map((type, i) => ({ type: REGISTER_TYPES[type], name: `s${i}` }));
  return {
    ...headOf(frame),
    includes,
    fields: [
      ...maps.map((name) => `TensorMap ${name};`),
      ...pointers.map(({ type, name }) => `${type}* ${name};`),
      ...sizes.map((name) => `int64_t ${name};`),
      ...scalars.map(({ name }) => `double ${name};`),
    ],
    arguments: [
      ...pointers.map(({ type, name }) => `${type}* const ${name} = arguments.${name};`),
      ...sizes.map((name) => `const int64_t ${name} = arguments.${name};`),
      ...scalars.map(({ type, name }) => `const ${type} ${name} = static_cast<${type}>(arguments.${name});`),
    ],
  };
}
