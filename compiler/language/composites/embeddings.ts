/** Sines and cosines that tell a network when (diffusion time) and where (token positions) it is. */
import { Diagnostic } from "../../../contract/diagnostic.ts";
import { ceilSqrt, max, toDim, type DimLike } from "../../graph/dim.ts";
import { index, size } from "../../ops/source.ts";
import { build } from "../mistake.ts";
import { checkName, composite, entered, within } from "../place.ts";
import { concat, formula, Tensor } from "../tensor.ts";
import { silu } from "./activations.ts";
import { normal } from "./initialisers.ts";
import { linear } from "./linear.ts";

/** 0, 1, 2 … along a new axis, as i32. */
export const counter = (axis: string, length: DimLike): Tensor =>
  build("counter", {}, () => new Tensor(index(axis, toDim(length))));

/** The value of a size, as a scalar. */
export const sizeValue = (length: DimLike, dtype: "i32" | "f32"): Tensor =>
  build("sizeValue", {}, () => new Tensor(size(toDim(length), dtype)));

/**
 * Sinusoids of a time t [batch]: [batch, width], cosines first, with frequencies 10000^(-i / (width / 2)). Rounded to
 * float32 at every step, as published models computed it: at t near 1000 a more exact table is another table.
 */
export const timeSinusoids = composite("timeSinusoids", (t: Tensor, width: number): Tensor => {
  const half = width / 2;
  const rate = Math.fround(-Math.log(10000));
  const i = counter("width", half);
  const frequency = formula("float32(exp(float32(rate * float32(i)) / half))", { i, rate, half });
  const time = t.expand([...t.shape, ...frequency.shape]);
  const angle = formula("float32(float32(time) * frequency)", { time, frequency });
  return concat([angle.apply("cos(x)"), angle.apply("sin(x)")], "width");
});

/** Sinusoids, then linear, SiLU, linear: t [batch] to [batch, width]. Parameters `NAME.mlp.0` and `NAME.mlp.2`. */
export function timestepEmbedding(name: string, width: number): (t: Tensor) => Tensor {
  return entered("timestepEmbedding", () => {
    checkName("timestepEmbedding", name);
    const frequencies = 256;
    const first = linear(`${name}.mlp.0`, frequencies, width, { init: normal(0.02) });
    const second = linear(`${name}.mlp.2`, width, width, { init: normal(0.02) });
    const run = (t: Tensor): Tensor => second(silu(first(timeSinusoids(t, frequencies))));
    return composite("timestepEmbedding", run, within(name));
  });
}

/**
 * Sines, then cosines of the coordinates 0 … length - 1: [position, width], frequencies 10000^(-i / (width / 2)).
 * Computed in float64: a coordinate may be large, and its sine must not suffer.
 */
function coordinateTable(length: DimLike, width: number): Tensor {
  const half = width / 2;
  const i = counter("width", half);
  const position = counter("position", length);
  const place = position.expand([...position.shape, ...i.shape]);
  const angle = formula("f64(place) * 10000 ^ -(f64(i) / half)", { place, i, half });
  return concat([angle.apply("f32(sin(x))"), angle.apply("f32(cos(x))")], "width");
}

export interface TablePositions {
  readonly width: number;
  /** How many tokens the square grid holds at least. */
  readonly maxPositions: number;
}

/**
 * The published position table: token n stands at column n mod side, row floor(n / side) of a square grid; the first
 * half of the channels encodes the column, the second half the row. [tokens, width], whatever the real layout of the
 * tokens is. The side is that of the smallest square for max(maxPositions, tokens), so two small tables do.
 */
export const tablePositions = composite(
  "tablePositions",
  (tokens: DimLike, { width, maxPositions }: TablePositions): Tensor => {
    if (width % 4 !== 0) throw unevenWidth(width, "a multiple of 4");
    const side = ceilSqrt(max(maxPositions, tokens));
    const table = coordinateTable(side, width / 2);
    const token = counter("tokens", tokens);
    const values = { token, side: sizeValue(side, "i32") };
    const column = table.gather(formula("token % side", values), "position");
    const row = table.gather(formula("token // side", values), "position");
    return concat([column, row], "width");
  },
);

/**
 * Where a token really is: positions i32 [batch, tokens, axis=3] hold (frame, row, column), and each coordinate has a
 * third of the channels, sines first. [batch, tokens, width].
 */
export const gridPositions = composite("gridPositions", (positions: Tensor, width: number): Tensor => {
  if (width % 2 !== 0 || width < 6) throw unevenWidth(width, "even and at least 6");
  const third = 2 * Math.round(width / 6);
  const coordinates = positions.split([1, 1, 1], "axis");
  const parts = coordinates.map((coordinate, n) => {
    const half = (n === 0 ? width - 2 * third : third) / 2; // frames take what rows and columns leave
    const i = counter("width", half);
    const flat = coordinate.rearrange("batch tokens 1 -> batch tokens");
    const place = flat.expand([...flat.shape, ...i.shape]);
    const angle = formula("f32(place) * 10000 ^ -(f32(i) / half)", { place, i, half });
    return concat([angle.apply("sin(x)"), angle.apply("cos(x)")], "width");
  });
  return concat(parts, "width");
});

function unevenWidth(width: number, wanted: string): Diagnostic {
  return new Diagnostic({
    kind: "shape",
    message: `positions need a width that is ${wanted}, and it is ${width}`,
    fix: `choose a width that is ${wanted}`,
  });
}
