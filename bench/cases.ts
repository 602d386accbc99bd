/** What `npm run bench` times, suite by suite. The same facts go to our worker and to PyTorch's. */
import type { Precision } from "../contract/precision.ts";

export const SUITES = ["train", "contract", "attention", "sample", "compile"] as const;
export type Suite = (typeof SUITES)[number];

interface Facts {
  readonly name: string;
  readonly threads: number;
  /** Runs before those that count. */
  readonly warmup: number;
}

/** A DiT: one training step of a batch of one clip, or `steps` sampling steps with guidance. */
export interface ModelCase extends Facts {
  readonly suite: "train" | "sample";
  readonly preset: string;
  readonly width: number;
  readonly depth: number;
  readonly heads: number;
  readonly conditioning: "adaln" | "cross-attn";
  readonly precision: Precision;
  readonly device: "cpu" | "cuda";
  /** Settings of ours, as `--set` takes them. */
  readonly set: readonly string[];
  /** Whether PyTorch computes every block again in its backward pass; undefined: it is not asked. */
  readonly checkpoints: boolean | undefined;
  readonly tokens: number;
  readonly textTokens: number;
}

/** One operator of bench/operators.ts. */
export interface OperatorCase extends Facts {
  readonly suite: "contract" | "attention";
  readonly operator: string;
  readonly width: number;
  readonly heads: number;
  readonly precision: Precision;
  readonly tokens: number;
}

/** Something that PyTorch has no counterpart of. */
export interface CompileCase extends Facts {
  readonly suite: "compile";
  readonly what: "help" | "cold" | "warm";
}

export type Case = ModelCase | OperatorCase | CompileCase;

const S2 = { preset: "S/2", width: 384, depth: 12, heads: 6 };
const PRECISIONS: readonly Precision[] = ["f32", "bf16"];
const CONDITIONINGS = ["adaln", "cross-attn"] as const;
const PRODUCTS = ["linear width width", "linear width 4*width", "linear 4*width width"].flatMap((name) => [
  name,
  `${name}, dx`,
  `${name}, dw`,
]);

/** @param tokens of models and attention, where it is not what the suite says */
export function casesOf(suite: Suite, threads: number, tokens?: number): readonly Case[] {
  switch (suite) {
    case "train":
      return models(suite, tokens ?? 1024, { threads, warmup: 2 });
    case "sample":
      return models(suite, tokens ?? 1024, { threads, warmup: 2 });
    case "contract":
      return PRECISIONS.flatMap((precision) =>
        [384, 1152].flatMap((width) =>
          PRODUCTS.map((operator) => ({
            ...{ suite, operator, width, heads: 1, precision, tokens: tokens ?? 1024, threads, warmup: 3 },
            name: `${operator.replaceAll("width", String(width)).replaceAll(`4*${width}`, String(4 * width))}-${precision}`.replaceAll(
              /[, ]+/g,
              "-",
            ),
          })),
        ),
      );
    case "attention":
      return PRECISIONS.flatMap((precision) =>
        [64, 72].flatMap((head) =>
          ["forward", "backward"].map((way) => ({
            ...{ suite, operator: `attention ${way}`, width: 4 * head, heads: 4, precision },
            ...{ tokens: tokens ?? 4096, threads, warmup: 2, name: `${way}-${head}-${precision}` },
          })),
        ),
      );
    case "compile":
      return (["help", "cold", "warm"] as const).map((what) => ({ suite, what, name: what, threads, warmup: 0 }));
  }
}

/** Training steps of DiT-XL/2 on a GPU that gpu:check times, with recomputation on. */
export function stepsOnGpu(threads: number): readonly ModelCase[] {
  const facts = { suite: "train", device: "cuda", precision: "bf16", textTokens: 77, threads, warmup: 3 } as const;
  const xl = { preset: "XL/2", width: 1152, depth: 28, heads: 16 };
  const long = ["train.recompute=block", "train.recomputeSpan=4"];
  return [
    {
      ...{ name: "adaln-bf16-16384", conditioning: "adaln", tokens: 16_384, ...xl, ...facts },
      ...{ set: ["train.recompute=cheap"], checkpoints: true },
    },
    {
      ...{ name: "cross-attn-bf16-819200", conditioning: "cross-attn", tokens: 819_200, ...xl, ...facts },
      ...{ set: long, checkpoints: undefined, warmup: 1 },
    },
  ];
}

const models = (suite: "train" | "sample", tokens: number, facts: Omit<Facts, "name">): readonly ModelCase[] =>
  CONDITIONINGS.flatMap((conditioning) =>
    PRECISIONS.map((precision) => ({
      ...{ suite, name: `${conditioning}-${precision}`, conditioning, precision, tokens, textTokens: 77 },
      ...{ ...S2, ...facts, device: "cpu" as const, set: [], checkpoints: false },
    })),
  );
