/** The blocks of a diffusion transformer (Peebles and Xie, "Scalable diffusion models with transformers", 2023). */
import { attention, component, layerNorm, linear, mlp, modulate, silu, zeros } from "soracc";
import type { Segment, Tensor } from "soracc";

export interface BlockConfig {
  readonly width: number;
  readonly heads: number;
  readonly mlpRatio: number;
  /** What the tokens attend to: themselves, the text alone, or themselves and then the text. */
  readonly attends: "self" | "text" | "both";
  readonly textDim: number;
}

/** What a block sees besides its tokens. */
export interface BlockInputs {
  /** [batch, width]: time, and pooled text where there is one. */
  readonly condition: Tensor;
  /** The tokens that exist. */
  readonly own: readonly Segment[];
  /** Text tokens [batch, textTokens, textDim], and which of them exist. */
  readonly text: Tensor;
  readonly read: readonly Segment[];
}

/** Attention and perceptron, each behind a norm that the condition modulates and a gate that starts at zero. */
export const block = component("block", ({ width, heads, mlpRatio, attends, textDim }: BlockConfig) => {
  const modulation = linear("adaLN_modulation.1", width, 6 * width, { init: zeros }); // starts as the identity
  const attend = attention("attn", { width, heads, context: attends === "text" ? textDim : width });
  const cross = attends === "both" ? attention("cross", { width, heads, context: textDim, init: zeros }) : undefined;
  const feed = mlp("mlp", width, mlpRatio * width);

  return (x: Tensor, { condition, own, text, read }: BlockInputs): Tensor => {
    const [shiftA, scaleA, gateA, shiftF, scaleF, gateF] = modulation(silu(condition)).split(6);
    const keys = attends === "text" ? { from: text, segments: read } : { segments: own };
    let h = x.add(gateA.mul(attend(modulate(layerNorm(x), shiftA, scaleA), keys)));
    if (cross !== undefined) h = h.add(cross(layerNorm(h), { from: text, segments: read }));
    return h.add(gateF.mul(feed(modulate(layerNorm(h), shiftF, scaleF))));
  };
});

/** From tokens back to patches: [batch, tokens, width] to [batch, tokens, channels, rows, columns]. */
export const finalLayer = component(
  "finalLayer",
  ({ width, channels, patch }: { readonly width: number; readonly channels: number; readonly patch: number }) => {
    const modulation = linear("adaLN_modulation.1", width, 2 * width, { init: zeros });
    const project = linear("linear", width, channels * patch * patch, { init: zeros });

    return (x: Tensor, condition: Tensor): Tensor => {
      const [shift, scale] = modulation(silu(condition)).split(2);
      const pixels = "batch tokens (channels rows columns) -> batch tokens channels rows columns";
      return project(modulate(layerNorm(x), shift, scale)).rearrange(pixels, { rows: patch, columns: patch });
    };
  },
);
