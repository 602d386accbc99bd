/** How fast are our matrix products and attention on a device? At the shapes of DiT-XL, which bench/peer has as well. */
import { attend, f32, model, program, type InputSpec, type Tensor } from "../compiler/language/index.ts";
import { build } from "../compiler/language/mistake.ts";
import { Tensor as TensorClass } from "../compiler/language/tensor.ts";
import type { ProgramDefinition } from "../compiler/language/program.ts";
import { traceModel } from "../compiler/language/trace-model.ts";
import type { Kernel } from "../compiler/kernels/kernel.ts";
import { cast } from "../compiler/ops/pointwise.ts";
import { gradients } from "../compiler/passes/differentiate.ts";
import { compilePlan, type Target } from "../compiler/pipeline.ts";
import type { DType } from "../contract/dtype.ts";
import type { Precision } from "../contract/precision.ts";
import { evaluateSize } from "../contract/size.ts";
import type { Device } from "../runtime/devices/device.ts";
import { elementsFrom } from "../runtime/devices/elements.ts";

export interface Timing {
  /** The same names as in bench/peer/operators.py. */
  readonly name: string;
  /** The median of all runs. */
  readonly milliseconds: number;
  /** Multiplications and additions of the formula, in 10^12 a second. */
  readonly teraflops: number;
}

/** Sizes of a sequence and of the model; tests take smaller ones. */
export interface Sizes {
  readonly tokens: number;
  readonly width: number;
  readonly heads: number;
}

export const DIT_XL: Sizes = { tokens: 16384, width: 1152, heads: 16 };

interface Operator {
  readonly name: string;
  /** The steps that count. */
  readonly anchor: Kernel["anchor"];
  readonly flops: number;
  readonly inputs: Readonly<Record<string, InputSpec>>;
  readonly body: (tensors: Readonly<Record<string, Tensor>>) => Readonly<Record<string, Tensor>>;
}

function operatorsFor({ tokens, width, heads }: Sizes): readonly Operator[] {
  const product = (name: string, from: number, to: number): Operator => ({
    ...{ name, anchor: "contract", flops: 2 * tokens * from * to },
    inputs: { x: f32("batch tokens in", { in: from }), weight: f32("out in", { out: to, in: from }) },
    body: ({ x, weight }) => ({ y: x!.contract("batch tokens in, out in -> batch tokens out", weight!) }),
  });
  const head = width / heads;
  const sizes = { heads, head };
  const sides = { q: f32("batch tokens heads head", sizes), k: f32("batch keys heads head", sizes), v: f32("batch keys heads head", sizes) }; // prettier-ignore
  const attention = ({ q, k, v }: Readonly<Record<string, Tensor>>): Tensor =>
    attend(q!, k!, v!, { scale: 1 / Math.sqrt(head) });
  const score = 2 * heads * tokens * tokens * head; // of q k^T alone
  return [
    product("linear width width", width, width),
    product("linear width 4*width", width, 4 * width),
    product("linear 4*width width", 4 * width, width),
    {
      ...{ name: "attention forward", anchor: "attention", flops: 2 * score, inputs: sides },
      body: (tensors) => ({ o: attention(tensors) }),
    },
    {
      ...{ name: "attention backward", anchor: "attentionGradient", flops: 5 * score },
      inputs: { ...sides, w: f32("batch tokens heads head", sizes) },
      body: (tensors) =>
        build("gradient", {}, () => {
          const loss = attention(tensors).mul(tensors["w"]!).sum();
          const wanted = ["q", "k", "v"].map((name) => tensors[name]!.edge);
          const found = gradients(loss.edge, wanted);
          return { dq: new TensorClass(found[0]!), dk: new TensorClass(found[1]!), dv: new TensorClass(found[2]!) };
        }),
    },
  ];
}

export interface TimingRequest {
  readonly device: Device;
  readonly target: Target;
  readonly precision: Precision;
  readonly sizes: Sizes;
  /** Runs that count, after two that do not. */
  readonly runs: number;
}

/** @throws Diagnostic when the device does not allow it */
export async function timeOperators(request: TimingRequest): Promise<readonly Timing[]> {
  const timings: Timing[] = [];
  for (const operator of operatorsFor(request.sizes)) timings.push(await timeOne(operator, request));
  return timings;
}

async function timeOne(operator: Operator, request: TimingRequest): Promise<Timing> {
  const { device, target, precision, sizes, runs } = request;
  const { name, anchor, flops } = operator;
  const main = inPrecision(operator, precision);
  const definition = model({ name: "bench", config: {}, programs: () => ({ main }), train: {} });
  const traced = traceModel(definition).programs.get("main")!();
  const facts = { name: "bench", config: {}, preset: undefined, recipe: {} };
  const { plan, kernels } = compilePlan({ model: facts, parameters: [], programs: [traced], precision, target });
  const loaded = await device.load(plan);
  try {
    const { symbols, steps, inputs: ports } = plan.programs["main"]!;
    const known: Readonly<Record<string, number>> = { batch: 1, tokens: sizes.tokens, keys: sizes.tokens };
    const settled = Object.fromEntries(symbols.map((symbol) => [symbol, known[symbol]!]));
    const bound = loaded.bind("main", settled, new Map());
    for (const port of ports) {
      const values = new Map(Object.entries(settled));
      const count = port.axes.reduce((total, axis) => total * evaluateSize(axis.size, values), 1);
      bound.write(port.name, elementsFrom(port.dtype, noise(count)));
    }
    const counted = steps.map(({ kernel, once }) => !once && kernels[kernel]!.anchor === anchor);
    const spent = (): number =>
      bound.profile().reduce((sum, { step, nanoseconds }) => sum + (counted[step] === true ? nanoseconds : 0), 0);
    const times: number[] = [];
    for (let run = -2; run < runs; run++) {
      const before = spent();
      await bound.run(1, { profile: true });
      if (run >= 0) times.push((spent() - before) / 1e6);
    }
    const milliseconds = times.sort((a, b) => a - b)[times.length >> 1]!;
    return { name, milliseconds, teraflops: flops / milliseconds / 1e9 };
  } finally {
    await loaded.close();
  }
}

/** An operator whose inputs and outputs lie in memory as the precision has them, as they do inside of a model. */
function inPrecision({ inputs, body }: Operator, dtype: Precision): ProgramDefinition {
  const narrow = Object.entries(inputs).map(([name, spec]) => [name, { ...spec, dtype }] as const);
  const castAll = (tensors: Readonly<Record<string, Tensor>>, to: DType): Record<string, Tensor> =>
    Object.fromEntries(Object.entries(tensors).map(([name, { edge }]) => [name, new TensorClass(cast(edge, to))]));
  return program(Object.fromEntries(narrow), (given) => castAll(body(castAll(given, "f32")), dtype));
}

/** Numbers in [-0.5, 0.5) without pattern: a GPU that multiplies zeros is faster than it is. */
function noise(count: number): Float32Array {
  const values = new Float32Array(count);
  let state = 1;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = state / 2 ** 32 - 0.5;
  }
  return values;
}
