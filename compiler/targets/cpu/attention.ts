/**
 * Attention and its gradient on a CPU: what `attention.cpp.hbs` and `attention_gradient.cpp.hbs` need to know.
 *
 * Work is cut by sizes alone. Forward, a task is a block of queries of one head. Backward, a task is a chunk of the
 * keys of one head: all of them where there are heads enough, since one pass over both then needs five products for a
 * pair of blocks; a second pass that recomputes the weights for dq would need seven.
 */
import { CompilerBug } from "../../../contract/diagnostic.ts";
import { add, ceilDiv, floorDiv, max, min, multiply, ONE, staticValue, subtract } from "../../graph/dim.ts";
import type { Dim } from "../../graph/dim.ts";
import type { AttentionGradientKernel, AttentionKernel } from "../../kernels/kernel.ts";
import {
  HEAD,
  HEADS,
  BATCH,
  KEYS,
  QUERIES,
  maskView,
  operandAt,
  sampleScope,
  view,
  type AnyAttention,
} from "../code/attention-axes.ts";
import { dimText, headOf, openFrame, type Frame } from "../code/context.ts";
import { paddedBytes, roundUp } from "./contract-blocks.ts";
import { printLiteral } from "../code/print.ts";
import { takeLines } from "../code/scope.ts";
import { argumentLines } from "./launch.ts";
import type { Generated } from "./target.ts";

/** Floats of a line of 64 bytes. */
const LINE = 16;
/** Queries of a block: three vectors of the widest machine, so that scores are whole register blocks; two tiles of AMX. */
const QUERY_BLOCK = 48;
const NARROW_QUERY_BLOCK = 64;
const KEY_BLOCK = 96;
/** Steps of k that a machine may multiply at a time, and rows that it may write at a time, where products are narrow. */
const NARROW_STEPS = 32;
const SLACK = 16;
/** Tasks that keep 16 threads busy, and the least keys of a chunk that is worth a share of dq. */
const ENOUGH_TASKS = 16;
const SHORTEST_CHUNK = 128;

export function attention(kernel: AttentionKernel): Generated {
  const frame = openFrame(kernel);
  const sizes = sizesOf(kernel, [kernel.q, kernel.k, kernel.v]);
  const scope = sampleScope(frame);
  const roles = {
    q: view(scope, kernel.q),
    k: view(scope, kernel.k),
    v: view(scope, kernel.v),
    o: view(scope, kernel.o),
  };
  const lse = view(scope, kernel.lse);
  const { segments } = maskView(scope, kernel);
  const { width, row, queryBlock } = sizes;
  const packed = sizes.narrow ? KEY_BLOCK * (width + queryBlock) : 0;
  const floats = queryBlock * (3 + width + 2 * row) + KEY_BLOCK * (queryBlock + 2 * row) + packed + LINE;
  return {
    template: "attention.cpp",
    context: {
      ...common(frame, kernel, sizes),
      ...roles,
      ...{ lse, segments, scratch: 4 * floats },
      perBlock: sampleView(frame, "query_blocks", takeLines(scope)),
    },
    tasks: [multiply(sizes.samples, ceilDiv(sizes.queries, queryBlock))],
    workspaces: [],
    scratch: paddedBytes(multiply(floats, ONE), 4),
  };
}

export function attentionGradient(kernel: AttentionGradientKernel): Generated {
  const frame = openFrame(kernel);
  const sizes = sizesOf(kernel, [kernel.q, kernel.k, kernel.v, kernel.doutput]);
  const { width, row, queryBlock } = sizes;
  const scope = sampleScope(frame);
  const inputs = {
    ...{ q: view(scope, kernel.q), k: view(scope, kernel.k), v: view(scope, kernel.v), o: view(scope, kernel.o) },
    ...{ lse: view(scope, kernel.lse), doutput: view(scope, kernel.doutput) },
  };
  const outputs = { dq: view(scope, kernel.dq), dk: view(scope, kernel.dk), dv: view(scope, kernel.dv) };
  const { segments } = maskView(scope, kernel);
  const combining = sampleScope(frame);
  const combined = view(combining, kernel.dq);

  const wanted = ceilDiv(ENOUGH_TASKS, sizes.samples);
  const chunks = max(1, min(wanted, floorDiv(sizes.keys, SHORTEST_CHUNK)));
  const isPartial = chunks !== ONE;
  const shares = multiply(chunks, sizes.samples, sizes.queries, width);
  // Where the sizes make it one chunk, nothing is shared and the second phase has no tasks.
  const several = min(1, subtract(chunks, 1));
  const chunkKeys = ceilDiv(sizes.keys, chunks);
  const packed = sizes.narrow ? queryBlock * (width + 2 * KEY_BLOCK) + KEY_BLOCK * width : 0;
  const fixed = roundUp(queryBlock * (4 * row + width + 2 * KEY_BLOCK + 2) + width + packed + LINE, LINE);
  return {
    template: "attention_gradient.cpp",
    context: {
      ...common(frame, kernel, sizes),
      ...inputs,
      ...outputs,
      combined,
      ...{ segments, scratch: 4 * fixed, slack: SLACK },
      chunks: dimText(frame, chunks),
      perChunk: sampleView(frame, "chunks", takeLines(scope)),
      perBlock: sampleView(frame, "query_blocks", takeLines(combining)),
      partial: isPartial ? { workspace: kernel.operands.length } : undefined,
    },
    tasks: [
      multiply(sizes.samples, chunks),
      ...(isPartial ? [multiply(several, sizes.samples, ceilDiv(sizes.queries, queryBlock))] : []),
    ],
    workspaces: isPartial ? [paddedBytes(multiply(several, shares), 4)] : [],
    scratch: paddedBytes(add(fixed, multiply(2 * (width + row), add(chunkKeys, SLACK))), 4),
  };
}

interface Sizes {
  /** Pairs of a batch element and a head. */
  readonly samples: Dim;
  readonly queries: Dim;
  readonly keys: Dim;
  readonly head: number;
  /** The head padded to whole lines: the row length of private matrices of sums. */
  readonly width: number;
  /** The row length of private matrices of operands, on any machine. */
  readonly row: number;
  /** Products of bf16, which some machines multiply as such. */
  readonly narrow: boolean;
  readonly queryBlock: number;
}

/** `multiplied` are the accesses whose types decide about the products. */
function sizesOf(kernel: AnyAttention, multiplied: readonly number[]): Sizes {
  const size = (axis: number): Dim => kernel.axes[axis]?.size ?? ONE;
  const head = staticValue(size(HEAD));
  if (head === undefined) throw new CompilerBug("the CPU target", `${kernel.name} has a head of no fixed size`);
  const samples = multiply(size(BATCH), size(HEADS));
  const narrow = multiplied.every((access) => operandAt(kernel, access).dtype === "bf16");
  const width = roundUp(head, LINE);
  return {
    ...{ samples, queries: size(QUERIES), keys: size(KEYS), head, width, narrow },
    row: narrow ? roundUp(head, NARROW_STEPS) : width,
    queryBlock: narrow ? NARROW_QUERY_BLOCK : QUERY_BLOCK,
  };
}

const common = (frame: Frame, kernel: AnyAttention, sizes: Sizes) => ({
  ...headOf(frame),
  arguments: argumentLines(frame),
  narrow: sizes.narrow,
  operand: sizes.narrow ? "tile::Narrow" : "float",
  queryBlock: sizes.queryBlock,
  keyBlock: KEY_BLOCK,
  head: sizes.head,
  width: sizes.width,
  scale: printLiteral(kernel.scale, "f32").text,
  queries: dimText(frame, sizes.queries),
  keys: dimText(frame, sizes.keys),
  causal: kernel.mask.causal,
});

/** What the partial `attention_sample` needs; `tasksPerHead` is the name of a count that the template declares. */
function sampleView(frame: Frame, tasksPerHead: string, pointers: readonly string[]) {
  const heads = dimText(frame, frame.kernel.axes[HEADS]!.size);
  return { batchIndex: frame.indices[BATCH], headIndex: frame.indices[HEADS], heads, tasksPerHead, pointers };
}
