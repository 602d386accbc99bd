/**
 * Attention and its gradient on a GPU: what `attention.cu.hbs` and `attention_gradient.cu.hbs` need to know. Heads that
 * registers cannot hold take `attention_plain.cu.hbs` and `attention_gradient_plain.cu.hbs`.
 */
import type { Arch } from "../../../contract/plan.ts";
import { CompilerBug } from "../../../contract/diagnostic.ts";
import type { DType } from "../../../contract/dtype.ts";
import { ceilDiv, multiply, ONE, staticValue, type Dim } from "../../graph/dim.ts";
import type { AttentionGradientKernel, AttentionKernel } from "../../kernels/kernel.ts";
import {
  BATCH,
  HEAD,
  HEADS,
  KEYS,
  maskView,
  operandAt,
  QUERIES,
  sampleScope,
  view,
  type AnyAttention,
} from "../code/attention-axes.ts";
import { dimText, type Frame } from "../code/context.ts";
import { ELEMENT_TYPES, printLiteral } from "../code/print.ts";
import { takeLines, type Scope } from "../code/scope.ts";
import { attentionOnHopper, attentionSuitsHopper, gradientOnHopper, gradientSuitsHopper } from "./attention-hopper.ts";
import { cudaHead, openCudaFrame, type Workspace } from "./launch.ts";
import type { Generated, Phase } from "./target.ts";

/** The largest head whose output stays in registers. */
const LARGEST_HEAD = 256;
/** The largest head whose dk and dv are made in one pass. */
const LARGEST_PAIR = 128;
const LARGEST_PAIR_OF_FLOATS = 48;
/** The largest head with blocks of full length. */
const LARGEST_WITH_FULL_BLOCKS = 96;
const WARP = 32;
/** Threads of the kernels for any head: a warp has one query, or one key. */
const PLAIN_THREADS = 128;

export function attention(kernel: AttentionKernel, arch: Arch): Generated {
  if (arch === "sm_90a" && attentionSuitsHopper(kernel)) return attentionOnHopper(kernel);
  const frame = openCudaFrame(kernel);
  const sizes = sizesOf(kernel);
  const scope = sampleScope(frame);
  const [q, k, v, o] = [kernel.q, kernel.k, kernel.v, kernel.o].map((access) => typedView(scope, access));
  const lse = typedView(scope, kernel.lse);
  const { segments } = maskView(scope, kernel);
  const element = elementOf(kernel, [kernel.q, kernel.k, kernel.v]);
  const queryBlock = 64;
  const keyBlock = sizes.head > LARGEST_PAIR || element.bytes === 4 ? 32 : 64;
  const common = {
    ...cudaHead(frame, { includes: ["attention.cuh"] }),
    ...commonOf(frame, kernel, sizes, element.cpp),
    ...{ q, k, v, o, lse, segments },
  };
  if (sizes.head > LARGEST_HEAD) {
    return {
      template: "attention_plain.cu",
      context: { ...common, threads: PLAIN_THREADS, pointers: takeLines(scope) },
      phases: [
        {
          blocks: ceilDiv(multiply(sizes.samples, sizes.queries), PLAIN_THREADS / WARP),
          threads: PLAIN_THREADS,
          sharedBytes: 0,
        },
      ],
      workspaces: [],
    };
  }
  const tile = (rows: number, columns: number): number => tileBytes(rows, columns, element.bytes);
  const [depth, width] = [padded(sizes.head, 16), padded(sizes.head, 8)];
  const sharedBytes = tile(queryBlock, depth) + 2 * (tile(keyBlock, depth) + tile(keyBlock, width));
  const threads = queryBlock * 2;
  return {
    template: "attention.cu",
    context: {
      ...common,
      ...{ queryBlock, keyBlock, threads },
      perBlock: sampleView(frame, "query_blocks", takeLines(scope)),
    },
    phases: [{ blocks: multiply(sizes.samples, ceilDiv(sizes.queries, queryBlock)), threads, sharedBytes }],
    workspaces: [],
  };
}

export function attentionGradient(kernel: AttentionGradientKernel, arch: Arch): Generated {
  if (arch === "sm_90a" && gradientSuitsHopper(kernel)) return gradientOnHopper(kernel);
  const frame = openCudaFrame(kernel);
  const sizes = sizesOf(kernel);
  const element = elementOf(kernel, [kernel.q, kernel.k, kernel.v, kernel.doutput]);
  const deltas: Workspace = {
    name: frame.fresh("deltas_of_queries"),
    type: "float",
    bytes: multiply(sizes.samples, sizes.queries, 4),
  };
  const plain = sizes.head > LARGEST_HEAD;
  const threads = 128;
  const queryBlock = element.bytes === 2 && sizes.head <= 64 ? 64 : 32;
  const keyBlock = 64;
  const keyStep = sizes.head <= LARGEST_WITH_FULL_BLOCKS && element.bytes === 2 ? 64 : 32;
  const inputs = ["q", "k", "v", "lse", "doutput"] as const;
  const ofKeys = (phase: number, comment: string, outputs: readonly ("dk" | "dv")[]) => ({
    ...{ phase, comment },
    ...viewsOf(frame, kernel, "key_blocks", inputs),
    // Declared where they are needed, at the end: until then they would only take registers.
    stored: { dk: undefined, dv: undefined, ...plainViews(frame, kernel, outputs) },
  });
  const passes =
    plain || sizes.head <= (element.bytes === 2 ? LARGEST_PAIR : LARGEST_PAIR_OF_FLOATS)
      ? [ofKeys(1, "The gradients of KEYS keys and values.", ["dk", "dv"])]
      : [ofKeys(1, "The gradient of KEYS values.", ["dv"]), ofKeys(2, "The gradient of KEYS keys.", ["dk"])];
  const tile = (rows: number): number => tileBytes(rows, padded(sizes.head, 16), element.bytes);
  const perKeyBlock: Phase = {
    blocks: multiply(sizes.samples, ceilDiv(sizes.keys, keyBlock)),
    threads,
    sharedBytes: 2 * tile(keyBlock) + 4 * tile(queryBlock),
  };
  const perQueryBlock: Phase = {
    blocks: multiply(sizes.samples, ceilDiv(sizes.queries, 64)),
    threads,
    sharedBytes: 2 * tile(64) + 4 * tile(keyStep),
  };
  const perRow = (rows: Dim): Phase => ({
    blocks: ceilDiv(multiply(sizes.samples, rows), threads / WARP),
    threads,
    sharedBytes: 0,
  });
  return {
    template: plain ? "attention_gradient_plain.cu" : "attention_gradient.cu",
    context: {
      ...cudaHead(frame, { workspaces: [deltas], includes: ["attention.cuh"] }),
      ...commonOf(frame, kernel, sizes, element.cpp),
      ...{ deltas: deltas.name, delta: viewsOf(frame, kernel, "query_total", ["o", "doutput"]) },
      ...{ queryBlock, keyBlock, keyStep, threads, passes },
      last: { phase: passes.length + 1, ...viewsOf(frame, kernel, "query_blocks", [...inputs, "dq"]) },
    },
    phases: plain
      ? [perRow(sizes.queries), perRow(sizes.keys), perRow(sizes.queries)]
      : [perRow(sizes.queries), ...passes.map(() => perKeyBlock), perQueryBlock],
    workspaces: [deltas],
  };
}

type GradientOperand = "q" | "k" | "v" | "o" | "lse" | "doutput" | "dq" | "dk" | "dv";

/** A view of each operand, and the declarations in front of them. */
function plainViews<Name extends GradientOperand>(
  frame: Frame,
  kernel: AttentionGradientKernel,
  names: readonly Name[],
) {
  const scope = sampleScope(frame);
  const views = Object.fromEntries(names.map((name) => [name, typedView(scope, kernel[name])]));
  return { ...views, pointers: takeLines(scope) };
}

/** What one phase reads and writes: a view of each operand, the mask, and the declarations in front of them. */
function viewsOf<Name extends GradientOperand>(
  frame: Frame,
  kernel: AttentionGradientKernel,
  tasksPerHead: string,
  names: readonly Name[],
) {
  const scope = sampleScope(frame);
  const views = Object.fromEntries(names.map((name) => [name, typedView(scope, kernel[name])]));
  const { segments } = maskView(scope, kernel);
  const pointers = takeLines(scope);
  return { ...views, mask: { segments }, pointers, sample: sampleView(frame, tasksPerHead, pointers) };
}

const padded = (count: number, to: number): number => Math.ceil(count / to) * to;

/** `Tile::BYTES` of `prelude/tile.cuh`. */
function tileBytes(rows: number, columns: number, bytes: number): number {
  const chunks = (columns * bytes) / 16;
  const swizzled = chunks % 8 === 0 || 8 % chunks === 0;
  return rows * (swizzled ? chunks : chunks | 1) * 16;
}

export interface Sizes {
  /** Pairs of a batch element and a head. */
  readonly samples: Dim;
  readonly queries: Dim;
  readonly keys: Dim;
  readonly head: number;
}

export function sizesOf(kernel: AnyAttention): Sizes {
  const size = (axis: number): Dim => kernel.axes[axis]?.size ?? ONE;
  const head = staticValue(size(HEAD));
  if (head === undefined) throw new CompilerBug("the CUDA target", `${kernel.name} has a head of no fixed size`);
  return { samples: multiply(size(BATCH), size(HEADS)), queries: size(QUERIES), keys: size(KEYS), head };
}

/** What is multiplied: the type of all operands where it is one that tensor cores know, else float. */
export function elementOf(
  kernel: AnyAttention,
  accesses: readonly number[],
): { readonly cpp: string; readonly bytes: number } {
  const types = new Set<DType>(accesses.map((access) => operandAt(kernel, access).dtype));
  const [only] = types;
  const narrow = types.size === 1 && (only === "bf16" || only === "f16");
  return narrow ? { cpp: ELEMENT_TYPES[only], bytes: 2 } : { cpp: "float", bytes: 4 };
}

export const commonOf = (frame: Frame, kernel: AnyAttention, sizes: Sizes, element: string) => ({
  element,
  head: sizes.head,
  ranges: Math.max(1, kernel.mask.segments.length),
  scale: printLiteral(kernel.scale, "f32").text,
  queries: dimText(frame, sizes.queries),
  keys: dimText(frame, sizes.keys),
  samples: dimText(frame, sizes.samples),
  heads: dimText(frame, kernel.axes[HEADS]!.size),
  causal: kernel.mask.causal,
  batchIndex: frame.indices[BATCH],
  headIndex: frame.indices[HEADS],
});

export const typedView = (scope: Scope, access: number) => ({
  ...view(scope, access),
  type: ELEMENT_TYPES[operandAt(scope.frame.kernel as AnyAttention, access).dtype],
});

/** What the partial `attention_sample` needs; `tasksPerHead` is the name of a count that the template declares. */
const sampleView = (frame: Frame, tasksPerHead: string, pointers: readonly string[]) => ({
  batchIndex: frame.indices[BATCH],
  headIndex: frame.indices[HEADS],
  heads: dimText(frame, frame.kernel.axes[HEADS]!.size),
  tasksPerHead,
  pointers,
});
