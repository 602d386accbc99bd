/** How a CUDA kernel gets its arguments: the fields of its `Arguments`, and the lines that unpack them. */
import type { Dim } from "../../graph/dim.ts";
import type { Kernel } from "../../kernels/kernel.ts";
import type { Frame } from "../code/context.ts";
import { headOf, openFrame, type Head } from "../code/context.ts";
import { ELEMENT_TYPES, REGISTER_TYPES } from "../code/print.ts";

/** A frame whose names collide with nothing in templates/cuda. */
export const openCudaFrame = (kernel: Kernel, shown: Kernel = kernel): Frame => openFrame(kernel, shown, WORDS);

/** What the templates and the prelude call things, beside what `openFrame` keeps free. */
const WORDS: ReadonlySet<string> = new Set(
  [
    "arguments item element lane lanes length exists own own_row own_column row_count row_lane row_last column_count",
    "outer_count outer_size inner_size line place blocks tile tiles band band_rows left right product sum down across",
    "row_total column_total depth_total row_tiles column_tiles row_first column_first depth_first depth_last chunk_length",
    "q k v o lse doutput dq dk dv delta deltas queries keys values outputs stages stage weights scores output largest",
    "highest shift block following visible counts half factor none query_total key_total query_blocks key_blocks",
    "query_first key_first key_end key_count query_begin range ranges number q_aligned k_aligned v_aligned do_aligned",
    "o_row do_row dq_row dk_row dv_row to copy_keys copy_queries ds before weight score i j e lefts rights",
    "shared_memory thread_index lane_index warp_index block_index sync_threads sync_warp reduce_lanes reduce_block pick",
    "memory parts barriers ring work work_of item_total turn mine group part part_sums part_row row_inside inside warp",
    "r c left_sample right_sample query_padded keys_to values_to values_at key_at query_at batch_at head_at cut report",
    "landed landed_parity query_ring key_ring value_ring after weigh_block first_query limit whole step_at queries_to",
    "outputs_to seen first_seen weights_left ds_left before_own Work Ring STAGES STEP_BYTES QueryTile KeyTile ValueTile",
    "WARP DEVICE TILE DEPTH THREADS LANES WIDTH ROWS KEYS QUERIES HEAD PARTS RANGES SCALE Block Element Side Matrix Tile",
  ]
    .join(" ")
    .split(" "),
);

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
