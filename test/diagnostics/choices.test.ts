// Wrong choices of a preset, a key or a value, and exactly what their authors read.
import { expect, test } from "vitest";
import type { Choices } from "../../compiler/language/model.ts";
import { traceModel } from "../../compiler/language/trace-model.ts";
import { loadModel } from "../../compiler/load-model.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { explain, withLines, withPrograms } from "./explain.ts";

const messageFor = async (choices: Choices): Promise<string> => {
  const dit = await loadModel("models/dit.sora.ts");
  try {
    traceModel(dit, choices);
  } catch (error) {
    // Where the model stands in its file is not what these tests are about.
    if (error instanceof Diagnostic) return error.message.replace(/^(models\/dit\.sora\.ts):\d+:\d+/, "$1");
    throw error;
  }
  throw new Error("these choices are right");
};

const PRESETS = "S/2, S/4, S/8, B/2, B/4, B/8, L/2, L/4, L/8, XL/2, XL/4, XL/8, demo";
const TRAIN = `train.optimizer, train.rate, train.betas, train.eps, train.weightDecay, train.clip, train.warmup, \
train.schedule, train.ema, train.textDropout, train.batch, train.precision, train.recompute, train.recomputeSpan, train.lossScale, train.scaleGrowth, \
train.scaleBackoff, train.scaleInterval`;

const cases: readonly (readonly [what: string, choices: Choices, message: string])[] = [
  [
    "an unknown preset",
    { preset: "XXL/2" },
    `preset: model "dit" has no preset "XXL/2"\n  presets  ${PRESETS}\n  fix: did you mean "XL/2"?`,
  ],
  [
    "a preset that resembles none",
    { preset: "enormous" },
    `preset: model "dit" has no preset "enormous"\n  presets  ${PRESETS}\n  fix: choose one of these, or leave --preset out`,
  ],
  [
    "an unknown key",
    { set: ["hiden=96"] },
    `config: there is no key "hiden"
  from  --set hiden=96
  keys  conditioning, patch, channels, textDim, hidden, depth, heads, maxPositions, mlpRatio, learnSigma, positions, process, predicts, timeShift, lossMean, ${TRAIN}, sample.sampler, sample.steps, sample.guidance
  fix: did you mean "hidden"?`,
  ],
  [
    "an unknown key of the recipe",
    { set: ["train.learning_rate=1"] },
    `config: there is no key "train.learning_rate"\n  from  --set train.learning_rate=1\n  keys  ${TRAIN}\n  fix: choose one of these keys`,
  ],
  [
    "a misspelt key of the recipe",
    { set: ["train.rat=1"] },
    `config: there is no key "train.rat"\n  from  --set train.rat=1\n  keys  ${TRAIN}\n  fix: did you mean "train.rate"?`,
  ],
  [
    "a word for a number",
    { set: ["hidden=big"] },
    `config: hidden wants a whole number of at least 1, and got "big"\n  from  --set hidden=big\n  fix: write a value such as hidden=1152`,
  ],
  [
    "a precision that there is not",
    { set: ["train.precision=f8"] },
    `config: train.precision wants one of f32, bf16, f16, and got "f8"\n  from  --set train.precision=f8\n  fix: write a value such as train.precision=f32`,
  ],
  [
    "a loss scale that makes the loss smaller",
    { set: ["train.lossScale=0.5"] },
    `config: train.lossScale wants a number from 1 to 1e+30, and got "0.5"\n  from  --set train.lossScale=0.5\n  fix: write a value such as train.lossScale=65536`,
  ],
  [
    "a fraction for a whole number",
    { set: ["depth=2.5"] },
    `config: depth wants a whole number of at least 1, and got "2.5"\n  from  --set depth=2.5\n  fix: write a value such as depth=28`,
  ],
  [
    "nothing for a number",
    { set: ["train.rate="] },
    `config: train.rate wants a number of at least 0, and got ""\n  from  --set train.rate=\n  fix: write a value such as train.rate=0.0001`,
  ],
  [
    "a word that is no choice",
    { set: ["conditioning=cross"] },
    `config: conditioning wants one of adaln, cross-attn, token-concat, self-cross, and got "cross"\n  from  --set conditioning=cross\n  fix: write a value such as conditioning=adaln`,
  ],
  [
    "a number for a flag",
    { set: ["learnSigma=1"] },
    `config: learnSigma wants true or false, and got "1"\n  from  --set learnSigma=1\n  fix: write a value such as learnSigma=true`,
  ],
  [
    "one number for two",
    { set: ["train.betas=0.9"] },
    `config: train.betas wants two numbers from 0 to below 1, as in 0.9,0.999, and got "0.9"\n  from  --set train.betas=0.9\n  fix: write a value such as train.betas=0.9,0.999`,
  ],
  [
    "no value at all",
    { set: ["hidden"] },
    `config: --set wants key=value, and got "hidden"\n  fix: write it as in --set hidden=96`,
  ],
  [
    "heads that do not divide",
    { set: ["hidden=100"] },
    `models/dit.sora.ts  config: hidden 100 cannot be shared by 16 heads\n  fix: choose heads that divide hidden`,
  ],
  [
    "a width without a position table",
    { set: ["hidden=18", "heads=1"] },
    `models/dit.sora.ts  config: the position table cannot have 18 channels\n  fix: use a multiple of 4`,
  ],
  [
    "what only a flow can predict",
    { set: ["predicts=data"] },
    `models/dit.sora.ts  config: predicts and timeShift belong to a flow, and process is ddpm\n  fix: add --set process=flow, or leave them out`,
  ],
  [
    "something to compute again that there is not",
    { set: ["train.recompute=attention"] },
    `config: train.recompute wants one of none, cheap, block, and got "attention"\n  from  --set train.recompute=attention\n  fix: write a value such as train.recompute=none`,
  ],
  [
    "a sampler of another process",
    { set: ["process=flow", "sample.sampler=ddim"] },
    `models/dit.sora.ts  config: there is no sampler "ddim" for this process\n  samplers  euler\n  fix: choose --set sample.sampler=euler`,
  ],
  [
    "a recorded configuration with a value of the wrong type",
    { config: { values: { heads: "two" }, source: { name: "the recording", where: { file: "a.safetensors" } } } },
    `a.safetensors  config: heads wants a whole number of at least 1, and got "two"\n  from  the recording\n  fix: write a value such as heads=16`,
  ],
];

test.each(cases)("%s", async (_, choices, message) => {
  expect(await messageFor(choices)).toBe(message);
});

test("a preset of the model file that names an unknown key", async () => {
  const text = withLines(`export default model({
  name: "m",
  config: { width: count(4) },
  presets: { small: { wdth: 3 } },
  programs: () => ({}),
});
`);
  expect(await explain(text, { preset: "small" })).toBe(`\
model.sora.ts:4:16  config: there is no key "wdth"
  from  preset "small"
  keys  width
  fix: did you mean "width"?`);
});

test("keys that any object has are no keys", async () => {
  for (const key of ["constructor", "__proto__", "toString"]) {
    expect(await explain(withPrograms("return {};"), { set: [`${key}=1`] })).toContain(`there is no key "${key}"`);
  }
});

test("a model file that is nowhere", async () => {
  const messageOf = async (path: string): Promise<string> =>
    loadModel(path).then(
      () => "it loads",
      (error: unknown) => (error instanceof Diagnostic ? error.message : String(error)),
    );
  expect(await messageOf("models/dot.sora.ts")).toMatch(
    /^model: there is no model file models\/dot\.sora\.ts\n(?: {2}beside it {2}.*\n)? {2}fix: did you mean models\/dit\.sora\.ts\?$/,
  );
  expect(await messageOf("models")).toBe(
    "model: models is a folder, not a model file\n  fix: give the path of a .sora.ts file",
  );
});
