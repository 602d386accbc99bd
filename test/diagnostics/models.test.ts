// Wrong models, and exactly what their authors read. Line and column are those of the model file.
import { describe, expect, test } from "vitest";
import { explain, withLines, withPrograms } from "./explain.ts";

type Case = readonly [what: string, model: string, message: string];

describe("shapes", () => {
  const cases: readonly Case[] = [
    [
      "a layer that is too narrow",
      withPrograms(`const map = linear("map", 6, 8);
return { main: program({ x }, ({ x }) => ({ y: map(layerNorm(x)) })) };`),
      `model.sora.ts:12:48  shape: linear "map" takes 6 values and meets 8
  x       [batch, tokens, width=8]  layerNorm, line 12
  weight  [out=8, in=6]             map.weight, line 11
  fix: linear("map", 6, …) should be linear("map", 8, …)`,
    ],
    [
      "sizes of one axis that differ",
      withPrograms(`const shift = parameter("shift", { width: 5 }, zeros);
return {
  main: program({ x }, ({ x }) => {
    const h = layerNorm(x);
    return { y: h.add(shift()) };
  }),
};`),
      `model.sora.ts:15:19  shape: add meets axis "width" of sizes 8 and 5
  left   [batch, tokens, width=8]  layerNorm, line 12
  right  [width=5]                 shift, line 11
  fix: make both 8, or rename one of the axes`,
    ],
    [
      "axes that do not meet",
      withPrograms(
        `return { main: program({ x, v: f32("channels", { channels: 3 }) }, ({ x, v }) => ({ y: x.mul(v) })) };`,
      ),
      `model.sora.ts:11:90  shape: mul cannot join these shapes: none has all axes of the others
  left   [batch, tokens, width=8]  x
  right  [channels=3]              v
  fix: name the axes alike with .rename(…), or spread one of them on purpose with .expand(…)`,
    ],
    [
      "a layer deep inside components",
      withLines(`const part = component("part", ({ width }) => {
  const layer = linear("layer", width, width);
  return (x) => layer(x);
});
export default model({ name: "m", config: {}, programs: () => {
  const parts = stack("parts", 2, part, { width: 4 });
  return { main: program({ x: f32("batch width", { width: 3 }) }, ({ x }) => ({ y: parts[1](x) })) };
} });
`),
      `model.sora.ts:6:17  shape: linear "layer" takes 4 values and meets 3
  x       [batch, width=3]  x
  weight  [out=4, in=4]     parts.1.layer.weight, line 5
  fix: linear("layer", 4, …) should be linear("layer", 3, …)`,
    ],
    [
      "heads that do not divide the width",
      withPrograms(`const attend = attention("attn", { width: config.width, heads: 3 });
return { main: program({ x }, ({ x }) => ({ y: attend(x) })) };`),
      `model.sora.ts:11:16  shape: 8 values cannot be shared by 3 heads
  fix: choose a number of heads that divides the width`,
    ],
    [
      "parts that do not divide an axis",
      withPrograms(`return { main: program({ x }, ({ x }) => ({ y: x.split(3)[0] })) };`),
      `model.sora.ts:11:50  shape: axis "width" of size 8 cannot be split in 3 equal parts
  x  [batch, tokens, width=8]  x
  fix: choose a divisor of the size, or give the size of every part: .split([…])`,
    ],
    [
      "an axis that is not there",
      withPrograms(`return { main: program({ x }, ({ x }) => ({ y: x.mean("widht") })) };`),
      `model.sora.ts:11:50  shape: there is no axis "widht" to reduce in [batch, tokens, width=8]
  x  [batch, tokens, width=8]  x
  fix: reduce over one of: batch, tokens, width`,
    ],
    [
      "tensors that cannot be joined",
      withPrograms(`const z = f32("batch tokens width", { width: 4 });
return { main: program({ x, z }, ({ x, z }) => ({ y: concat([x, z], "tokens") })) };`),
      `model.sora.ts:12:54  shape: concat along "tokens": axis "width" has sizes 8 and 4
  part 0  [batch, tokens, width=8]  x
  part 1  [batch, tokens, width=4]  z
  fix: only the axis that is joined may differ in size`,
    ],
  ];
  test.each(cases)("%s", async (_, model, message) => {
    expect(await explain(model)).toBe(message);
  });
});

describe("notations", () => {
  const cases: readonly Case[] = [
    [
      "a pattern with an open group",
      withPrograms(
        `return { main: program({ x }, ({ x }) => ({ y: x.rearrange("batch tokens (heads head -> heads", {}) })) };`,
      ),
      `model.sora.ts:11:50  pattern: expected \`)\`, found \`->\`
  batch tokens (heads head -> heads
                           ^
  fix: close the group with \`)\``,
    ],
    [
      "a pattern that loses an axis",
      withPrograms(
        `return { main: program({ x }, ({ x }) => ({ y: x.rearrange("batch tokens width -> batch widht tokens") })) };`,
      ),
      `model.sora.ts:11:50  pattern: \`width\` is missing on the right
  batch tokens width -> batch widht tokens
               ^
  fix: did you mean \`widht\`?`,
    ],
    [
      "a pattern that names too few axes",
      withPrograms(`return { main: program({ x }, ({ x }) => ({ y: x.rearrange("batch width -> width batch") })) };`),
      `model.sora.ts:11:50  shape: the pattern "batch width -> width batch" names 2 axes, and the tensor has 3 axes
  x  [batch, tokens, width=8]  x
  fix: name every axis of [batch, tokens, width=8] on the left, in order`,
    ],
    [
      "a group that does not divide its axis",
      withPrograms(
        `return { main: program({ x }, ({ x }) => ({ y: x.rearrange("b t (h d) -> b h t d", { h: 3 }) })) };`,
      ),
      `model.sora.ts:11:50  shape: axis "width" of size 8 cannot be split in (h=3 d)
  x  [batch, tokens, width=8]  x
  fix: choose sizes that divide 8`,
    ],
    [
      "a formula that is not one",
      withPrograms(`return { main: program({ x }, ({ x }) => ({ y: x.apply("0.5 * * x") })) };`),
      `model.sora.ts:11:50  formula: expected a value, found \`*\`
  0.5 * * x
        ^
  fix: a power is written x^2`,
    ],
    [
      "a function that formulas lack",
      withPrograms(`return { main: program({ x }, ({ x }) => ({ y: x.apply("x * sigmoyd(x)") })) };`),
      `model.sora.ts:11:50  formula: there is no function \`sigmoyd\`
  x * sigmoyd(x)
      ^
  fix: did you mean \`sigmoid\`?`,
    ],
    [
      "a division of integers",
      withPrograms(`return { main: program({ n: i32("batch"), m: i32("batch") }, ({ n, m }) => ({ y: n.div(m) })) };`),
      `model.sora.ts:11:84  formula: \`/\` divides floats, and both sides are integers
  a / b
    ^
  fix: write a // b for the whole quotient, or f32(a) / b`,
    ],
    [
      "axes with a comma",
      withPrograms(`return { main: program({ x: f32("batch,tokens") }, ({ x }) => ({ y: x })) };`),
      `model.sora.ts:11:29  pattern: "batch,tokens" is no name of an axis
  fix: list axes as in "batch tokens width", each once`,
    ],
    [
      "a mesh with a misspelt axis",
      withPrograms(`return {};`, 'parallel: mesh("data=2 sequnce=4"),'),
      `model.sora.ts:13:13  mesh: there is no axis \`sequnce\`
  data=2 sequnce=4
         ^
  fix: did you mean \`sequence\`?`,
    ],
  ];
  test.each(cases)("%s", async (_, model, message) => {
    expect(await explain(model)).toBe(message);
  });
});

describe("values of the wrong type", () => {
  const cases: readonly Case[] = [
    [
      "nothing where a tensor belongs",
      withPrograms(`return { main: program({ x }, ({ x, y }) => ({ y: x.add(y) })) };`),
      `model.sora.ts:11:53  type: add wants a tensor as "right", and got undefined
  fix: check what this line hands over`,
    ],
    [
      "nothing for a composite",
      withPrograms(`return { main: program({ x }, ({ x, y }) => ({ y: layerNorm(y) })) };`),
      `model.sora.ts:11:51  type: argument 1 of layerNorm is undefined
  fix: check what this line hands over`,
    ],
    [
      "a layer that was not called",
      withPrograms(`const map = linear("map", 8, 8);
return { main: program({ x }, ({ x }) => ({ y: x.add(map) })) };`),
      `model.sora.ts:12:50  type: add wants a tensor as "right", and got a function; a component is called with its tensors
  fix: check what this line hands over`,
    ],
    [
      "an output that is no tensor",
      withPrograms(`return { main: program({ x }, ({ x }) => ({ y: 3 })) };`),
      `model.sora.ts:11:16  type: program "main" gives the number 3 as "y"
  fix: return a record of tensors, such as { prediction }`,
    ],
    [
      "a method that does not exist",
      withPrograms(`return { main: program({ x }, ({ x }) => ({ y: x.ad(2) })) };`),
      `model.sora.ts:11:50  model: there is no function "ad" here
  fix: did you mean "add"?`,
    ],
    [
      "a layer without a name",
      withPrograms(`return { main: linear(8, 8) };`),
      `model.sora.ts:11:16  parameter: 8 cannot name a linear
  fix: give a name first, as in linear("encoder.0", …); it becomes part of the names of its parameters`,
    ],
    [
      "an exception of the model's own",
      withPrograms(`return { main: program({ x }, ({ x }) => ({ y: x.foo.bar(2) })) };`),
      `model.sora.ts:11:54  model: TypeError: Cannot read properties of undefined (reading 'bar')
  fix: correct the model at this line`,
    ],
  ];
  test.each(cases)("%s", async (_, model, message) => {
    expect(await explain(model)).toBe(message);
  });
});

describe("parameters", () => {
  const cases: readonly Case[] = [
    [
      "declared before there is a model",
      withLines(`const map = linear("map", 4, 4);
export default model({ name: "m", config: {}, programs: () => ({}) });
`),
      `model.sora.ts:4:13  parameter: parameter "map.weight" is declared outside of a model
  fix: declare layers inside a component, or in \`programs\` of the model`,
    ],
    [
      "a recipe without anything to train",
      withPrograms(`return { loss: program({ x }, ({ x }) => ({ loss: x.mean() })) };`, "train: { textDropout: 0 },"),
      `model.sora.ts:5:16  model: model "wrong" has a recipe and no parameters to train
  fix: declare layers in \`programs\`, or leave \`train\` out`,
    ],
    [
      "a program under a name that training makes",
      withPrograms(
        `const scale = parameter("scale", { width: config.width }, zeros);
return {
  loss: program({ x }, ({ x }) => ({ loss: x.mul(scale()).mean() })),
  update: program({ x }, ({ x }) => ({ y: x })),
};`,
        "train: { textDropout: 0 },",
      ),
      `model.sora.ts:5:16  program: a model with a recipe makes its own program "update"
  fix: give yours another name`,
    ],
    [
      "declared while a program runs",
      withPrograms(`return { main: program({ x }, ({ x }) => ({ y: linear("map", 8, 8)(x) })) };`),
      `model.sora.ts:11:48  parameter: parameter "map.weight" is declared while a program runs
  fix: declare layers in the outer part of a component, before the function it returns`,
    ],
    [
      "declared twice",
      withPrograms(`const a = linear("map", 8, 8);
const b = linear("map", 8, 8);
return { main: program({ x }, ({ x }) => ({ y: b(a(x)) })) };`),
      `model.sora.ts:12:11  parameter: the name "map.weight" is given to two parameters
  the first is declared in line 11
  fix: give the layers different names`,
    ],
    [
      "used while the model is set up",
      withPrograms(`const shift = parameter("shift", { width: 8 }, zeros)();
return { main: program({ x }, ({ x }) => ({ y: x.add(shift) })) };`),
      `model.sora.ts:11:15  parameter: parameter "shift" is used while the model is set up
  fix: use it inside the function that the component returns: that is what programs run`,
    ],
    [
      "of no size",
      withPrograms(`const shift = parameter("shift", { width: 2.5 }, zeros);
return { main: program({ x }, ({ x }) => ({ y: x.add(shift()) })) };`),
      `model.sora.ts:11:15  parameter: axis "width" of parameter "shift" has size 2.5
  fix: sizes of parameters are whole numbers of at least 1`,
    ],
    [
      "of a component that returns nothing",
      withLines(`const part = component("part", ({ width }) => { linear("l", width, width); });
export default model({ name: "m", config: {}, programs: () => { part("p", { width: 4 }); return {}; } });
`),
      `model.sora.ts:5:16  model: the set-up of component "part" returns no function
  fix: return the function from tensors to tensors that programs run`,
    ],
  ];
  test.each(cases)("%s", async (_, model, message) => {
    expect(await explain(model)).toBe(message);
  });
});

describe("model files", () => {
  const cases: readonly Case[] = [
    [
      "a comma too many",
      `import { model } from "soracc";
export default model({
  name: "dit",,
});
`,
      `model.sora.ts:3:15  syntax: expected identifier but found ","
    name: "dit",,
                ^
  fix: correct the file at this place`,
    ],
    [
      "an import of a file that is not there",
      `import { x } from "./missing.ts";
export default x;
`,
      `model.sora.ts:1:19  import: could not resolve "./missing.ts"
  import { x } from "./missing.ts";
                    ^
  fix: correct the file at this place`,
    ],
    [
      "an import that the language lacks",
      `import { modle } from "soracc";
export default modle({});
`,
      `model.sora.ts:2:16  model: "soracc" has no "modle"
  fix: did you mean "model"?`,
    ],
    [
      "no default export",
      withLines(`export const dit = 3;
`),
      `model.sora.ts  model: the file has no default export
  it exports dit
  fix: end it with: export default model({ name: …, config: …, programs: … })`,
    ],
    [
      "a default export that is no model",
      withLines(`export default { name: "dit" };
`),
      `model.sora.ts  model: the default export is not a model
  it is an object with the keys name
  fix: end it with: export default model({ name: …, config: …, programs: … })`,
    ],
    [
      "a model without programs",
      withLines(`export default model({ name: "m", config: {} });
`),
      `model.sora.ts:4:16  model: model(…) wants a function from the configuration to programs as "programs"
  fix: write model({ name: "…", config: { … }, programs: (config) => ({ … }) })`,
    ],
    [
      "an exception while it is loaded",
      `const size: number = JSON.parse("{}").missing.size;
export default size;
`,
      `model.sora.ts:1:39  model: TypeError: Cannot read properties of undefined (reading 'size')
  fix: correct the model at this line`,
    ],
  ];
  test.each(cases)("%s", async (_, model, message) => {
    expect(await explain(model)).toBe(message);
  });
});
