/**
 * DiT for video, as Open-Sora first published it: a transformer over the patches of all frames, told the time and a
 * text. Parameter names are those of the published weights.
 *
 * How the text comes in, by `conditioning`:
 *   adaln         one pooled vector, added to the time
 *   cross-attn    tokens attend ONLY to the text, as published: video tokens never see each other
 *   token-concat  text tokens stand before the video tokens
 *   self-cross    tokens attend to each other, then to the text
 */
import * as sora from "soracc";
import { component, concat, linear, model, segment, stack, type Tensor, type ValuesOf } from "soracc";
import { block, finalLayer } from "./parts/dit-block.ts";

const settings = {
  conditioning: sora.choice("adaln", "cross-attn", "token-concat", "self-cross"),
  patch: sora.count(2),
  channels: sora.count(4),
  textDim: sora.count(512),
  hidden: sora.count(1152),
  depth: sora.count(28),
  heads: sora.count(16),
  maxPositions: sora.count(262144),
  mlpRatio: sora.number(4, 0.1),
  /** Whether the network predicts the variance of each step besides its noise (ddpm only). */
  learnSigma: sora.flag(true),
  /** The published table over the flat token number, or where a token really is: frame, row and column. */
  positions: sora.choice("table", "3d"),
  process: sora.choice("ddpm", "flow"),
  /** What the network of a flow says: the way from data to noise, or the data itself. */
  predicts: sora.choice("velocity", "data"),
  /** Of a flow: above 1, more of training and of sampling is spent near noise. */
  timeShift: sora.number(1, 0.01),
  lossMean: sora.choice("padded", "valid"),
};

type Config = ValuesOf<typeof settings>;

const isPooled = ({ conditioning }: Config): boolean => conditioning === "adaln";
const projectsText = ({ conditioning }: Config): boolean => conditioning === "adaln" || conditioning === "token-concat";
const ATTENDS = { adaln: "self", "token-concat": "self", "cross-attn": "text", "self-cross": "both" } as const;

const processOf = ({ process, predicts, timeShift, learnSigma, lossMean }: Config): sora.Process =>
  process === "ddpm"
    ? sora.gaussianDiffusion({ learnSigma, lossMean })
    : sora.rectifiedFlow({ lossMean, predicts, timeShift });

interface Inputs {
  readonly x: Tensor;
  readonly t: Tensor;
  readonly text: Tensor;
  readonly text_mask: Tensor | undefined;
  readonly video_mask: Tensor;
  readonly positions: Tensor | undefined;
}

const dit = component("dit", (config: Config) => {
  const { conditioning, patch, channels, hidden: width, heads, depth, mlpRatio, textDim, maxPositions } = config;
  const embedVideo = sora.patchEmbedding("video_embedder.proj", { channels, patch, width });
  const embedTime = sora.timestepEmbedding("t_embedder", width);
  const embedText = projectsText(config)
    ? linear("text_embedder.proj", textDim, width, { init: sora.normal(0.02), as: "width" })
    : undefined;
  const blocks = stack("blocks", depth, block, { width, heads, mlpRatio, textDim, attends: ATTENDS[conditioning] });
  const toPatches = finalLayer("final_layer", { width, channels: processOf(config).predicted(channels), patch });

  return ({ x, t, text, text_mask, video_mask, positions }: Inputs): Tensor => {
    const read = text_mask === undefined ? [] : [segment(text_mask)];
    const embedded = embedText?.(text);
    let own = [segment(video_mask)];
    let condition = embedTime(sora.embeddedTime(t));
    let h = embedVideo(x);

    if (positions !== undefined) h = h.add(sora.gridPositions(positions, width));
    if (embedded !== undefined && isPooled(config)) condition = condition.add(embedded);
    else if (embedded !== undefined) {
      h = concat([embedded.rename({ textTokens: "tokens" }), h], "tokens");
      own = [...read, ...own];
    }
    if (positions === undefined) h = h.add(sora.tablePositions(h.size("tokens"), { width, maxPositions }));
    for (const each of blocks) h = each(h, { condition, own, text, read });
    if (conditioning === "token-concat") h = h.slice("tokens", text.size("textTokens"), x.size("tokens"));
    return toPatches(h, condition);
  };
});

const S = { hidden: 384, depth: 12, heads: 6 };
const B = { hidden: 768, depth: 12, heads: 12 };
const L = { hidden: 1024, depth: 24, heads: 16 };
const XL = { hidden: 1152, depth: 28, heads: 16 };

export default model({
  name: "dit",
  config: settings,
  presets: {
    "S/2": { ...S, patch: 2 },
    "S/4": { ...S, patch: 4 },
    "S/8": { ...S, patch: 8 },
    "B/2": { ...B, patch: 2 },
    "B/4": { ...B, patch: 4 },
    "B/8": { ...B, patch: 8 },
    "L/2": { ...L, patch: 2 },
    "L/4": { ...L, patch: 4 },
    "L/8": { ...L, patch: 8 },
    "XL/2": { ...XL, patch: 2 },
    "XL/4": { ...XL, patch: 4 },
    "XL/8": { ...XL, patch: 8 },
    // Small videos of moving shapes, learned in minutes on a CPU. A token is a whole frame of 24x24: minutes do not teach
    // small patches to agree on one shape. Such a patch has more numbers than the network is wide, so it says the data.
    demo: {
      ...{ conditioning: "adaln", hidden: 256, depth: 4, heads: 4, patch: 24, channels: 3, textDim: 64 },
      ...{ positions: "3d", process: "flow", predicts: "data", timeShift: 4, lossMean: "valid" },
      train: {
        optimizer: sora.adamW({ rate: 1e-3, betas: [0.9, 0.99] }),
        ...{ warmup: 30, clip: 1, batch: 48, ema: 0.99, precision: "bf16" },
      },
      sample: { steps: 20, guidance: 2 },
    },
  },

  checks: ({ hidden, heads, mlpRatio, positions, process, predicts, timeShift }) => [
    [hidden % heads === 0, `hidden ${hidden} cannot be shared by ${heads} heads`, "choose heads that divide hidden"],
    [
      Number.isInteger(hidden * mlpRatio),
      `hidden ${hidden} times mlpRatio ${mlpRatio} is not whole`,
      "change mlpRatio",
    ],
    [
      positions === "3d" || hidden % 4 === 0,
      `the position table cannot have ${hidden} channels`,
      "use a multiple of 4",
    ],
    [
      process === "flow" || (predicts === "velocity" && timeShift === 1),
      "predicts and timeShift belong to a flow, and process is ddpm",
      "add --set process=flow, or leave them out",
    ],
    [positions === "table" || hidden % 2 === 0, `positions cannot have ${hidden} channels`, "use an even number"],
  ],

  programs: (config) => {
    const { patch, channels, textDim, positions } = config;
    const network = dit("", config);
    return sora.diffusion({
      process: processOf(config),
      video: sora.f32("batch tokens channels rows columns", { channels, rows: patch, columns: patch }),
      conditions: {
        text: isPooled(config)
          ? sora.f32("batch text", { text: textDim })
          : sora.f32("batch textTokens text", { text: textDim }),
        text_mask: isPooled(config) ? undefined : sora.mask("batch textTokens"),
        video_mask: sora.mask("batch tokens"),
        positions: positions === "3d" ? sora.i32("batch tokens axis", { axis: 3 }) : undefined,
      },
      text: "text",
      mask: "video_mask",
      network,
    });
  },

  facts: ({ process, timeShift }) => ({ process, timeShift }),
  train: { optimizer: sora.adam({ rate: 1e-4 }), schedule: "cosine", ema: 0.9999, textDropout: 0.1, precision: "bf16" },
  sample: { steps: 250, guidance: 4 },
  parallel: sora.mesh("data=1"),
});
