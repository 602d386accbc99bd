/** How fast are our matrix products and attention on a device? At the shapes of a DiT, which bench/peer has as well. */
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
  /** The same names as in bench/peer. */
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

export interface Operator {
  readonly name: string;
  /** The steps that count. */
  readonly anchor: Kernel["anchor"];
  readonly flops: number;
  readonly inputs: Readonly<Record<string, InputSpec>>;
  readonly body: (tensors: Readonly<Record<string, Tensor>>) => Readonly<Record<string, Tensor>>;
}

export function operatorsFor({ tokens, width, heads }: Sizes): readonly Operator[] {
  const multiply = (name: string, from: number, to: number, right: InputSpec, pattern: string): Operator => ({
    ...{ name, anchor: "contract", flops: 2 * tokens * from * to },
    inputs: { left: f32("batch tokens in", { in: from }), right },
    body: ({ left, right }) => ({ y: left!.contract(pattern, right!) }),
  });
  /** A linear layer, and both products of its gradient. */
  const linear = (name: string, from: number, to: number): readonly Operator[] => [
    multiply(name, from, to, f32("out in", { out: to, in: from }), "batch tokens in, out in -> batch tokens out"),
    multiply(`${name}, dx`, to, from, f32("in out", { in: to, out: from }), "batch tokens in, in out -> batch tokens out"), // prettier-ignore
    multiply(`${name}, dw`, from, to, f32("batch tokens out", { out: to }), "batch tokens in, batch tokens out -> out in"), // prettier-ignore
  ];
  const head = width / heads;
  const sizes = { heads, head };
  const sides = { q: f32("batch tokens heads head", sizes), k: f32("batch keys heads head", sizes), v: f32("batch keys heads head", sizes) }; // prettier-ignore
  const attention = ({ q, k, v }: Readonly<Record<string, Tensor>>): Tensor =>
    attend(q!, k!, v!, { scale: 1 / Math.sqrt(head) });
  const score = 2 * heads * tokens * tokens * head; // of q k^T alone
  return [
    ...linear("linear width width", width, width),
    ...linear("linear width 4*width", width, 4 * width),
    ...linear("linear 4*width width", 4 * width, width),
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

export interface OperatorRequest {
  readonly device: Device;
  readonly target: Target;
  readonly precision: Precision;
  readonly sizes: Sizes;
}

export interface TimingRequest extends OperatorRequest {
  /** Runs that count, after two that do not. */
  readonly runs: number;
}

/** @throws Diagnostic when the device does not allow it */
export async function timeOperators(request: TimingRequest): Promise<readonly Timing[]> {
  const timings: Timing[] = [];
  for (const operator of operatorsFor(request.sizes)) {
    const prepared = await prepareOperator(operator, request);
    try {
      for (let run = 0; run < 2; run++) await prepared.run();
      const times: number[] = [];
      for (let run = 0; run < request.runs; run++) times.push(await prepared.run());
      const milliseconds = times.sort((a, b) => a - b)[times.length >> 1]!;
      timings.push({ name: operator.name, milliseconds, teraflops: operator.flops / milliseconds / 1e9 });
    } finally {
      await prepared.close();
    }
  }
  return timings;
}

export interface PreparedOperator {
  /** Runs once; resolves to the milliseconds of the steps that count. */
  run(): Promise<number>;
  close(): Promise<void>;
}

export async function prepareOperator(operator: Operator, request: OperatorRequest): Promise<PreparedOperator> {
  const { device, target, precision, sizes } = request;
  const main = inPrecision(operator, precision);
  const definition = model({ name: "bench", config: {}, programs: () => ({ main }), train: {} });
  const traced = traceModel(definition).programs.get("main")!();
  const facts = { name: "bench", config: {}, preset: undefined, recipe: {} };
  const { plan, kernels } = compilePlan({ model: facts, parameters: [], programs: [traced], precision, target });
  const loaded = await device.load(plan);
  const { symbols, steps, inputs: ports } = plan.programs["main"]!;
  const known: Readonly<Record<string, number>> = { batch: 1, tokens: sizes.tokens, keys: sizes.tokens };
  const settled = Object.fromEntries(symbols.map((symbol) => [symbol, known[symbol]!]));
  const bound = loaded.bind("main", settled, new Map());
  for (const port of ports) {
    const values = new Map(Object.entries(settled));
    const count = port.axes.reduce((total, axis) => total * evaluateSize(axis.size, values), 1);
    bound.write(port.name, elementsFrom(port.dtype, noise(count)));
  }
  const counted = steps.map(({ kernel, once }) => !once && kernels[kernel]!.anchor === operator.anchor);
  const spent = (): number =>
    bound.profile().reduce((sum, { step, nanoseconds }) => sum + (counted[step] === true ? nanoseconds : 0), 0);
  return {
    run: async () => {
      const before = spent();
      await bound.run(1, { profile: true });
      return (spent() - before) / 1e6;
    },
    close: () => loaded.close(),
  };
}

/** An operator whose inputs and outputs lie in memory as the precision has them, as they do inside of a model. */
function inPrecision({ inputs, body }: Operator, dtype: Precision): ProgramDefinition {
  const narrow = Object.entries(inputs).map(([name, spec]) => [name, { ...spec, dtype }] as const);
  const castAll = (tensors: Readonly<Record<string, Tensor>>, to: DType): Record<string, Tensor> =>
    Object.fromEntries(Object.entries(tensors).map(([name, { edge }]) => [name, new TensorClass(cast(edge, to))]));
  return program(Object.fromEntries(narrow), (given) => castAll(body(castAll(given, "f32")), dtype));
}

/** Numbers in [-0.5, 0.5) without pattern: a GPU that multiplies zeros is faster than it is. */
export function noise(count: number): Float32Array {
  const values = new Float32Array(count);
  let state = 1;
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = state / 2 ** 32 - 0.5;
  }
  return values;
}
