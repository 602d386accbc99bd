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
/** Queries of a block: three vectors of the widest machine, so that scores are whole register blocks. */
const QUERY_BLOCK = 48;
const KEY_BLOCK = 96;
/** Tasks that keep 16 threads busy, and the least keys of a chunk that is worth a share of dq. */
const ENOUGH_TASKS = 16;
const SHORTEST_CHUNK = 128;

export function attention(kernel: AttentionKernel): Generated {
  const frame = openFrame(kernel);
  const sizes = sizesOf(kernel);
  const scope = sampleScope(frame);
  const roles = {
    q: view(scope, kernel.q),
    k: view(scope, kernel.k),
    v: view(scope, kernel.v),
    o: view(scope, kernel.o),
  };
  const lse = view(scope, kernel.lse);
  const { segments } = maskView(scope, kernel);
  const isPlain = (access: number): boolean => operandAt(kernel, access).dtype === "f32";
  const kDirect = isPlain(kernel.k);
  const vDirect = isPlain(kernel.v) && roles.v.step === "1" && sizes.head === sizes.width;
  const queryBlocks = ceilDiv(sizes.queries, QUERY_BLOCK);
  const { width, head } = sizes;
  const rows = (kDirect ? 0 : KEY_BLOCK * width) + (vDirect ? 0 : KEY_BLOCK * width);
  const online = QUERY_BLOCK * (3 + width);
  const floats = QUERY_BLOCK * width + head * QUERY_BLOCK + KEY_BLOCK * QUERY_BLOCK + rows + online;
  return {
    template: "attention.cpp",
    context: {
      ...common(frame, kernel, sizes),
      ...roles,
      k: { ...roles.k, direct: kDirect },
      v: { ...roles.v, direct: vDirect },
      lse,
      segments,
      perBlock: sampleView(frame, "query_blocks", takeLines(scope)),
    },
    tasks: [multiply(sizes.samples, queryBlocks)],
    workspaces: [],
    scratch: paddedBytes(multiply(floats, ONE), 4),
  };
}

export function attentionGradient(kernel: AttentionGradientKernel): Generated {
  const frame = openFrame(kernel);
  const sizes = sizesOf(kernel);
  const { width, head } = sizes;
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
  const fixed = QUERY_BLOCK * (3 * width + 2 * head + 2 * KEY_BLOCK + 2) + width;
  return {
    template: "attention_gradient.cpp",
    context: {
      ...common(frame, kernel, sizes),
      ...inputs,
      ...outputs,
      combined,
      segments,
      chunks: dimText(frame, chunks),
      perChunk: sampleView(frame, "chunks", takeLines(scope)),
      perBlock: sampleView(frame, "query_blocks", takeLines(combining)),
      partial: isPartial ? { workspace: kernel.operands.length } : undefined,
    },
    tasks: [
      multiply(sizes.samples, chunks),
      ...(isPartial ? [multiply(several, sizes.samples, ceilDiv(sizes.queries, QUERY_BLOCK))] : []),
    ],
    workspaces: isPartial ? [paddedBytes(multiply(several, shares), 4)] : [],
    scratch: paddedBytes(add(fixed + LINE, multiply(4 * width, chunkKeys)), 4),
  };
}

interface Sizes {
  /** Pairs of a batch element and a head. */
  readonly samples: Dim;
  readonly queries: Dim;
  readonly keys: Dim;
  readonly head: number;
  /** The head padded to whole lines: the row length of private matrices. */
  readonly width: number;
}

function sizesOf(kernel: AnyAttention): Sizes {
  const size = (axis: number): Dim => kernel.axes[axis]?.size ?? ONE;
  const head = staticValue(size(HEAD));
  if (head === undefined) throw new CompilerBug("the CPU target", `${kernel.name} has a head of no fixed size`);
  const samples = multiply(size(BATCH), size(HEADS));
  return { samples, queries: size(QUERIES), keys: size(KEYS), head, width: roundUp(head, LINE) };
}

const common = (frame: Frame, kernel: AnyAttention, sizes: Sizes) => ({
  ...headOf(frame),
  arguments: argumentLines(frame),
  queryBlock: QUERY_BLOCK,
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
