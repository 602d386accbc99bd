// What the methods of a Tensor compute, where its nodes come from, and what cannot be decided before a shape is bound.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { nodesOf, type Program } from "../../compiler/graph/node.ts";
import { originOf } from "../../compiler/graph/origin.ts";
import { printDim } from "../../compiler/graph/dim.ts";
import {
  attend,
  concat,
  constant,
  counter,
  drawn,
  f32,
  formula,
  i32,
  layerNorm,
  linear,
  program,
  sizeValue,
  state,
  u32,
  type Tensor,
} from "../../compiler/language/index.ts";
import { shapeOf } from "../../compiler/language/axes.ts";
import { traceModel } from "../../compiler/language/trace-model.ts";
import { loadModel } from "../../compiler/load-model.ts";
import { run, tracedProgram, tracedPrograms } from "./models.ts";

const SIZES = { batch: 2, tokens: 3 };
const X = Float64Array.from({ length: 24 }, (_, i) => i);
const x = f32("batch tokens width", { width: 4 });

/** Axes, sizes and values of a tensor made from x, which counts from 0 to 23. */
function made(body: (x: Tensor) => Tensor): { axes: string; sizes: string; data: number[] } {
  const traced = tracedProgram({ x }, (tensors) => ({ y: body(tensors.x) }));
  const shape = traced.outputs.get("y")!.shape;
  return {
    axes: shape.map(({ name }) => name).join(" "),
    sizes: shape.map(({ size }) => printDim(size)).join(" "),
    data: [...run(traced, { x: X }, SIZES)["y"]!],
  };
}

describe("methods", () => {
  test("arithmetic meets by names, in the order of the wider tensor", () => {
    const v = (t: Tensor): Tensor =>
      t
        .sum("width")
        .mul(0)
        .add(counter("tokens", t.size("tokens")).cast("f32"));
    expect(made((t) => v(t).sub(t).sub(1).neg()).data).toEqual(
      Array.from(X, (_, i) => 1 + i - (Math.floor(i / 4) % 3)),
    );
    expect(made((t) => v(t).add(t))).toMatchObject({ axes: "batch tokens width", sizes: "batch tokens 4" });
    expect(made((t) => t.div(2).pow(2)).data[6]).toBe(9);
    expect(made((t) => t.mul(constant(3))).data[5]).toBe(15);
  });

  test("formulas take tensors and numbers, which have the type of what they meet", () => {
    expect(made((t) => formula("select(t > limit, t, -1)", { t, limit: 20.5 })).data.slice(20)).toEqual([
      -1, 21, 22, 23,
    ]);
    const mixed = tracedProgram({ n: i32("batch") }, ({ n }) => ({ y: n.apply("x % k + 1", { k: 4 }) }));
    expect(mixed.outputs.get("y")!.dtype).toBe("i32");
    expect([...run(mixed, { n: [7, -1] }, SIZES)["y"]!]).toEqual([4, 4]);
  });

  test("reductions over named axes or all of them", () => {
    expect(made((t) => t.sum("tokens", "width"))).toMatchObject({ axes: "batch", data: [66, 210] });
    expect(made((t) => t.max("batch", "width")).data).toEqual([15, 19, 23]);
    expect(made((t) => t.min()).data).toEqual([0]);
    expect(made((t) => t.mean("tokens")).data.slice(0, 4)).toEqual([4, 5, 6, 7]);
    expect(made((t) => t.mean()).data).toEqual([11.5]);
  });

  test("rearrangements split, merge and reorder; a merged axis has the name of its last part", () => {
    const heads = made((t) => t.rearrange("batch tokens (heads head) -> batch heads tokens head", { heads: 2 }));
    expect(heads).toMatchObject({ axes: "batch heads tokens head", sizes: "batch 2 tokens 2" });
    expect(heads.data.slice(0, 8)).toEqual([0, 1, 4, 5, 8, 9, 2, 3]);
    expect(made((t) => t.rearrange("b t w -> (b t) w"))).toMatchObject({ axes: "t w", sizes: "batch*tokens 4" });
    expect(made((t) => t.rearrange("a b c -> c (b a)")).data.slice(0, 6)).toEqual([0, 12, 4, 16, 8, 20]);
    expect(made((t) => t.sum("width").rearrange("b t -> b 1 t"))).toMatchObject({ sizes: "batch 1 tokens" });
    expect(made((t) => t.slice("width", 1, 1).rearrange("b t 1 -> t b"))).toMatchObject({ axes: "t b" });
    expect(made((t) => t.permute("width", "batch", "tokens")).data.slice(0, 4)).toEqual([0, 4, 8, 12]);
    expect(made((t) => t.rename({ width: "w" })).axes).toBe("batch tokens w");
  });

  test("parts and their union", () => {
    expect(made((t) => t.split(2)[1])).toMatchObject({ sizes: "batch tokens 2" });
    expect(made((t) => t.split([1, 3])[1]).data.slice(0, 4)).toEqual([1, 2, 3, 5]);
    expect(made((t) => concat([t, t.neg()], "tokens"))).toMatchObject({ sizes: "batch 2*tokens 4" });
    expect(made((t) => concat([t, t.neg()], "batch").split(2, "batch")[1]).data[5]).toBe(-5);
    expect(made((t) => t.slice("tokens", 1, 2)).data.slice(0, 4)).toEqual([4, 5, 6, 7]);
  });

  test("expansion, gathering, contraction", () => {
    const wide = made((t) => t.sum("batch", "tokens").expand(t));
    expect(wide).toMatchObject({ axes: "batch tokens width" });
    expect(wide.data.slice(0, 4)).toEqual([60, 66, 72, 78]);
    const rows = (t: Tensor): Tensor => t.sum("batch").gather(counter("place", 2).apply("2 - x"), "tokens");
    expect(made(rows)).toMatchObject({ axes: "place width", data: [28, 30, 32, 34, 20, 22, 24, 26] });
    const gram = made((t) => t.contract("b t w, b s w -> b t s", t));
    expect(gram.axes).toBe("b t s");
    expect(gram.data.slice(0, 3)).toEqual([14, 38, 62]);
  });

  test("casts, sizes, constants", () => {
    expect(made((t) => t.apply("x / 2").cast("i32").cast("f32")).data.slice(0, 4)).toEqual([0, 0, 1, 1]);
    expect(made((t) => sizeValue(t.size("tokens"), "f32")).data).toEqual([3]);
    expect(
      made((t) => layerNorm(t))
        .data.slice(0, 4)
        .map((value) => value.toFixed(4)),
    ).toEqual([...["-1.3416", "-0.4472", "0.4472", "1.3416"]]);
  });

  test("causal attention sees no later key", () => {
    const q = f32("batch tokens heads head", { heads: 1, head: 2 });
    const traced = tracedProgram({ q }, (t) => ({
      o: attend(t.q, t.q.rename({ tokens: "keys" }), t.q.rename({ tokens: "keys" }), { scale: 1, causal: true }),
    }));
    const values = [0.5, 1, -1, 2, 3, 0];
    const first = run(traced, { q: values }, { batch: 1, tokens: 3 })["o"]!;
    const changed = run(traced, { q: [...values.slice(0, 4), 9, 9] }, { batch: 1, tokens: 3 })["o"]!;
    expect([...first.slice(0, 2)]).toEqual([0.5, 1]);
    expect(changed.slice(0, 4)).toEqual(first.slice(0, 4));
    expect(changed.slice(4)).not.toEqual(first.slice(4));
  });
});

test("sizes that only binding can compare become guards", () => {
  const traced = tracedProgram({ a: f32("left"), b: f32("right") }, ({ a, b }) => ({
    sum: a.add(b.rename({ right: "left" })),
  }));
  expect(traced.equalities.map(({ left, right }) => `${printDim(left)} = ${printDim(right)}`)).toEqual([
    "left = right",
  ]);
  const again = tracedProgram({ a: f32("left"), b: f32("left") }, ({ a, b }) => ({ sum: a.add(b) }));
  expect(again.equalities).toEqual([]);
});

test("programs read what they use, and leave what they return", () => {
  const traced = tracedPrograms(() => {
    const map = linear("map", 4, 4);
    return {
      plain: program({ x }, (t) => ({ y: t.x.neg() })),
      mapped: program({ x, n: state(i32()) }, (t) => ({ y: map(t.x), "next.n": t.n.apply("x + 1") })),
      drawing: program(
        { z: state(x), step: state(i32()), noise: drawn(x, "normal") },
        (t) => ({ "next.z": t.z.add(t.noise), "next.step": t.step.apply("x + 1") }),
        { drawsByStep: true },
      ),
    };
  });
  const names = (traced: Program): string[] =>
    traced.inputs.map(({ node: { operation } }) =>
      operation.op === "input" ? `${operation.role} ${operation.name}` : "",
    );
  const [plain, mapped, drawing] = ["plain", "mapped", "drawing"].map((name) => traced.programs.get(name)!());
  expect(names(plain!)).toEqual(["given x"]);
  expect(names(mapped!)).toEqual(["given x", "state n", "state parameters"]);
  expect([[...mapped!.outputs.keys()], [...mapped!.next.keys()]]).toEqual([["y"], ["n"]]);
  expect(names(drawing!)).toEqual(["state z", "state step", "given seed"]);
  expect(names(traced.recorded.program("drawing"))).toEqual(["state z", "state step", "given noise"]);
  expect(traced.layout.parameters.map(({ name, offset, elements }) => [name, offset, elements])).toEqual([
    ["map.weight", 0, 16],
    ["map.bias", 16, 4],
  ]);
  expect(u32().shape).toEqual([]);
  expect(shapeOf("batch", {}).map(({ size }) => printDim(size))).toEqual(["batch"]);
});

test("nodes remember their line and their component, through imports", async () => {
  const folder = mkdtempSync(join(tmpdir(), "soracc-origin-"));
  try {
    mkdirSync(join(folder, "parts"));
    writeFileSync(
      join(folder, "parts", "part.ts"),
      `import { component, linear, layerNorm } from "soracc";
import type { Tensor } from "soracc";

export const part = component("part", (width: number) => {
  const map = linear("map", width, width);
  return (x: Tensor): Tensor => {
    const h = layerNorm(x);
    return map(h).mul(
      2,
    );
  };
});
`,
    );
    writeFileSync(
      join(folder, "model.sora.ts"),
      `import { f32, model, program, stack } from "soracc";
import { part } from "./parts/part.ts";
export default model({
  name: "m",
  config: {},
  programs: () => {
    const parts = stack("parts", 2, part, 4);
    return {
      main: program({ x: f32("batch width", { width: 4 }) }, ({ x }) => ({
        y: parts.reduce((h, each) => each(h), x).add(1),
      })),
    };
  },
});
`,
    );
    const traced = traceModel(await loadModel(join(folder, "model.sora.ts"))).programs.get("main")!();
    const origins = nodesOf(traced.outputs.values()).flatMap((node) => {
      const origin = originOf(node);
      const place = origin?.locate();
      if (origin === undefined || place === undefined) return [];
      const file = place.file.replace(`${folder}/`, "");
      return [`${node.operation.op} ${origin.path} ${origin.what ?? ""} ${file}:${place.line ?? 0}`];
    });
    expect(origins).toContain("parameter parts.1 linear parts/part.ts:5");
    expect(origins).toContain("contract parts.0.map linear parts/part.ts:8");
    expect(origins).toContain("reduce parts.1 layerNorm parts/part.ts:7");
    expect(origins).toContain("pointwise parts.1 mul parts/part.ts:8");
    expect(origins.at(-1)).toBe("pointwise  add model.sora.ts:10");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
