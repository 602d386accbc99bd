/** The inputs of a network besides the video itself: masks, positions and texts of a batch. */
import type { EncodedText } from "../data/text.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";
import type { Given, Sources } from "./fill.ts";

export interface Conditions {
  readonly batch: number;
  /** The longest sequence of the batch. */
  readonly tokens: number;
  /** [batch]: real tokens of each sample. */
  readonly videoLengths: ArrayLike<number>;
  /** [batch, 3]: frames, rows and columns of patches. */
  readonly grids: ArrayLike<number>;
  /** [batch, textTokens, textDim] */
  readonly text: Float32Array;
  readonly textTokens: number;
  readonly textDim: number;
  /** [batch] */
  readonly textLengths: ArrayLike<number>;
  /** [batch, textDim] */
  readonly pooled: Float32Array;
}

/** By the names of inputs. `text` is one pooled vector or a row per word, as the port has it. */
export const conditionSources = (of: Conditions): Sources => ({
  text: (port): Given => {
    if (port.axes.length === 2) return { shape: [of.batch, of.textDim], values: of.pooled };
    if (port.axes.length === 3) return { shape: [of.batch, of.textTokens, of.textDim], values: of.text };
    throw new Diagnostic({
      kind: "program",
      message: `text has ${port.axes.length} axes, and is [batch, width] or [batch, words, width]`,
      fix: "correct the input text in the model file",
    });
  },
  text_mask: () => ({ shape: [of.batch, of.textTokens], values: maskOf(of.textLengths, of.batch, of.textTokens) }),
  video_mask: () => ({ shape: [of.batch, of.tokens], values: maskOf(of.videoLengths, of.batch, of.tokens) }),
  positions: () => ({ shape: [of.batch, of.tokens, 3], values: positionsOf(of) }),
});

/** Ones as far as a sample reaches, then zeros. */
function maskOf(lengths: ArrayLike<number>, batch: number, width: number): Int32Array {
  const mask = new Int32Array(batch * width);
  for (let b = 0; b < batch; b++) mask.fill(1, b * width, b * width + lengths[b]!);
  return mask;
}

/** int32 [batch, tokens, 3]: frame, row and column of each patch; zeros where a sample has ended. */
function positionsOf({ batch, tokens, grids, videoLengths }: Conditions): Int32Array {
  const positions = new Int32Array(batch * tokens * 3);
  for (let b = 0; b < batch; b++) {
    const [rows, columns] = [grids[b * 3 + 1]!, grids[b * 3 + 2]!];
    for (let token = 0; token < videoLengths[b]!; token++) {
      const at = (b * tokens + token) * 3;
      positions[at] = Math.floor(token / (rows * columns));
      positions[at + 1] = Math.floor(token / columns) % rows;
      positions[at + 2] = token % columns;
    }
  }
  return positions;
}

/** Encoded captions side by side, padded with zeros to the longest. */
export function stackTexts(
  encoded: EncodedText,
  textDim: number,
): Pick<Conditions, "text" | "textTokens" | "textDim" | "textLengths" | "pooled"> {
  const lengths = Int32Array.from(encoded.tokens, (rows) => rows.length / textDim);
  const textTokens = Math.max(...lengths);
  const text = new Float32Array(lengths.length * textTokens * textDim);
  encoded.tokens.forEach((rows, b) => text.set(rows, b * textTokens * textDim));
  const pooled = new Float32Array(lengths.length * textDim);
  encoded.pooled.forEach((row, b) => pooled.set(row, b * textDim));
  return { text, textTokens, textDim, textLengths: lengths, pooled };
}
