/** Contractions of types that tensor cores do not multiply: what `templates/cuda/contract_plain.cu.hbs` needs to know. */
import type { ScalarType } from "../../../contract/dtype.ts";
import { ceilDiv, multiply } from "../../graph/dim.ts";
import type { Expression } from "../../notation/expression.ts";
import { dimText } from "../code/context.ts";
import { wholeIndices, type Range } from "../code/indices.ts";
import { convert } from "../code/print.ts";
import { emitValues, openScope } from "../code/scope.ts";
import { epilogueOf, type Setting } from "./contract.ts";
import { cudaHead } from "./launch.ts";
import type { Generated } from "./target.ts";

/** Rows and columns of a block's tile, steps of k between two barriers; a thread has a column and every 8th row. */
const TILE = 32;
const DEPTH = 16;
const THREADS = 256;

/** Integers multiply and add as unsigned ones, which wrap around. */
const ELEMENTS = { f64: "double", f32: "float", i32: "uint32_t", u32: "uint32_t" } as const;

export function plainContract({ contraction, frame, sizes }: Omit<Setting, "product">): Generated {
  const { kernel, axes } = contraction;
  const type = typeOf(kernel.left.type, kernel.right.type);
  const text = (name: keyof typeof sizes): string => dimText(frame, sizes[name]);
  const side = (value: Expression, own: Range) => {
    const ranges: readonly Range[] = [{ name: "sample", axes: axes.batch }, own, { name: "step", axes: axes.k }];
    const whole = ranges.map((range) => wholeIndices(frame, range));
    const settled = openScope(frame, undefined);
    const scope = openScope(frame, settled, { axes: new Map(whole.flatMap(({ indices }) => [...indices])) });
    const [given] = emitValues(scope, [value]);
    const lines = [...settled.lines, ...whole.flatMap((one) => one.lines), ...scope.lines];
    return { lines, value: convert(given!, value.type, type).text };
  };
  return {
    template: "contract_plain.cu",
    context: {
      ...cudaHead(frame),
      ...{ tile: TILE, depth: DEPTH, threads: THREADS, element: ELEMENTS[type], swapped: contraction.swapped },
      left: side(kernel.left, { name: "row", axes: axes.m }),
      right: side(kernel.right, { name: "column", axes: axes.n }),
      sizes: { m: text("m"), n: text("n"), k: text("k") },
      epilogue: epilogueOf(frame, contraction, type),
    },
    phases: [
      {
        blocks: multiply(sizes.batch, ceilDiv(sizes.m, TILE), ceilDiv(sizes.n, TILE)),
        threads: THREADS,
        sharedBytes: 2 * DEPTH * (TILE + 1) * 8,
      },
    ],
    workspaces: [],
  };
}

function typeOf(left: ScalarType, right: ScalarType): keyof typeof ELEMENTS {
  return (["f64", "f32", "u32", "i32"] as const).find((type) => type === left || type === right) ?? "f32";
}
