/** Layers that are one product with a weight: linear maps, patch embeddings, and the two-layer perceptron. */
import { Diagnostic } from "../../../contract/diagnostic.ts";
import { printDim } from "../../graph/dim.ts";
import { requireEqual } from "../../graph/shape.ts";
import { contract } from "../../ops/contract.ts";
import { describe } from "../mistake.ts";
import { parameter, type Initialiser } from "../parameters.ts";
import { checkName, composite, entered, within } from "../place.ts";
import { Tensor } from "../tensor.ts";
import { gelu } from "./activations.ts";
import { uniform, xavier, zeros } from "./initialisers.ts";

export interface LinearOptions {
  /** How the weight starts; Xavier-uniform unless told. */
  readonly init?: Initialiser;
  /** How the bias starts, or false for none; zeros unless told. */
  readonly bias?: Initialiser | false;
  /** What the last axis of the result is called; it keeps its name unless told. */
  readonly as?: string;
}

/**
 * y = x W^T + b over the last axis: [..., width=from] to [..., width=to]. Parameters `NAME.weight` [to, from] and
 * `NAME.bias` [to], as PyTorch's Linear.
 */
export function linear(name: string, from: number, to: number, options: LinearOptions = {}): (x: Tensor) => Tensor {
  return entered("linear", () => {
    checkName("linear", name);
    const { init = xavier(from, to), bias = zeros, as } = options;
    const weight = parameter(`${name}.weight`, { out: to, in: from }, init);
    const offset = bias === false ? undefined : parameter(`${name}.bias`, { width: to }, bias);
    return composite(
      "linear",
      (x: Tensor) => {
        const last = x.axes.at(-1) ?? "";
        const product = matrixProduct(name, x, weight(), as ?? last);
        return offset === undefined ? product : product.add(offset().rename({ width: as ?? last }));
      },
      within(name),
    );
  });
}

/** Sums over the last axes of both; the weight's first axis becomes the last of the result. */
function matrixProduct(name: string, x: Tensor, weight: Tensor, as: string): Tensor {
  const rank = x.axes.length;
  const [from, to] = [x.shape.at(-1), weight.shape.map((axis) => printDim(axis.size))];
  const refuse = (): Diagnostic =>
    new Diagnostic({
      kind: "shape",
      message: `linear "${name}" takes ${to[1]!} values and meets ${from === undefined ? "a scalar" : printDim(from.size)}`,
      details: describe({ x, weight }),
      fix:
        from === undefined
          ? "give it a tensor with at least one axis"
          : `linear("${name}", ${to[1]!}, …) should be linear("${name}", ${printDim(from.size)}, …)`,
    });
  if (from === undefined) throw refuse();
  requireEqual(from.size, weight.size("in"), refuse);
  const rows = x.axes.slice(0, -1).map((_, i) => i);
  const labels = { left: [...rows, rank - 1], right: [rank, rank - 1], result: [...rows, rank] };
  return new Tensor(contract(x.edge, weight.edge, labels, [...x.axes.slice(0, -1), as]));
}

/**
 * Embeds patches [..., channels, rows, columns] as [..., width]: one linear map of the flattened patch, whose weight
 * `NAME.weight` is stored as a convolution [width, channels, rows, columns].
 */
export function patchEmbedding(
  name: string,
  { channels, patch, width }: { readonly channels: number; readonly patch: number; readonly width: number },
): (x: Tensor) => Tensor {
  return entered("patchEmbedding", () => {
    checkName("patchEmbedding", name);
    const start = uniform(1 / Math.sqrt(channels * patch * patch));
    const weight = parameter(`${name}.weight`, { width, channels, rows: patch, columns: patch }, start);
    const bias = parameter(`${name}.bias`, { width }, start);
    return composite(
      "patchEmbedding",
      (x: Tensor) => {
        const lead = x.axes.slice(0, -3).join(" ");
        const flat = x.rearrange(`${lead} channels rows columns -> ${lead} (channels rows columns)`);
        const map = weight().rearrange("out channels rows columns -> out (channels rows columns)");
        return matrixProduct(name, flat, map.rename({ columns: "in" }), "width").add(bias());
      },
      within(name),
    );
  });
}

/** fc2(gelu(fc1(x))): `NAME.fc1` widens from `width` to `inner`, `NAME.fc2` comes back. */
export function mlp(name: string, width: number, inner: number): (x: Tensor) => Tensor {
  return entered("mlp", () => {
    checkName("mlp", name);
    const widen = linear(`${name}.fc1`, width, inner);
    const narrow = linear(`${name}.fc2`, inner, width);
    return composite("mlp", (x: Tensor) => narrow(gelu(widen(x))), within(name));
  });
}
