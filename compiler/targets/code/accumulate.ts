/** How a reduction accumulates: one row per operation and type, and the statements made of it. */
import type { ScalarType } from "../../../contract/dtype.ts";
import type { Reduction } from "../../kernels/kernel.ts";
import { REGISTER_TYPES } from "./print.ts";

export interface Accumulator {
  /** The C++ type in which one run accumulates, and the wider one in which runs meet. */
  readonly type: string;
  readonly wide: string;
  /** The value of nothing, in both types. */
  readonly zero: string;
  /** The reduction of `#pragma omp simd reduction`; `largest` and `smallest` are the prelude's and keep NaN. */
  readonly clause: string;
  /** How two accumulators become one: a name of `templates/cuda/prelude/block.cuh`. */
  readonly combine: "Sum" | "Largest" | "Smallest" | "Any" | "All";
  /** The statement that takes a value, or a run's result, into an accumulator. */
  readonly take: (into: string, value: string) => string;
  /** The accumulated value as the type of the reduction's expression. */
  readonly result: (accumulator: string) => string;
}

const same = (text: string): string => text;
const add = (into: string, value: string): string => `${into} += ${value};`;
const sum = (type: ScalarType, wide: string, zero: string): Accumulator => ({
  type: REGISTER_TYPES[type],
  wide,
  zero,
  clause: "+",
  combine: "Sum",
  take: add,
  result: wide === REGISTER_TYPES[type] ? same : (text) => `${REGISTER_TYPES[type]}(${text})`,
});

/** Of two values the larger or the smaller; NaN wins. */
const extreme =
  (call: "max" | "min", clause: "largest" | "smallest") =>
  (type: ScalarType, zero: string): Accumulator => ({
    type: REGISTER_TYPES[type],
    wide: REGISTER_TYPES[type],
    zero,
    clause,
    combine: call === "max" ? "Largest" : "Smallest",
    take: (into, value) => `${into} = ${call}(${into}, ${value});`,
    result: same,
  });

const largest = extreme("max", "largest");
const smallest = extreme("min", "smallest");

/** Truth values meet as bits of a word: whether any, or whether all. */
const truth = (operator: "|" | "&", zero: string): Accumulator => ({
  type: "uint32_t",
  wide: "uint32_t",
  zero,
  clause: operator,
  combine: operator === "|" ? "Any" : "All",
  take: (into, value) => `${into} ${operator}= ${value};`,
  result: (text) => `(${text} != 0)`,
});

/** i32 sums wrap around, which C++ defines for unsigned words only. */
const WRAPPING: Accumulator = {
  type: "uint32_t",
  wide: "uint32_t",
  zero: "0",
  clause: "+",
  combine: "Sum",
  take: (into, value) => `${into} += static_cast<uint32_t>(${value});`,
  result: (text) => `int32_t(${text})`,
};

const TABLE: Readonly<Record<Reduction["operation"], Readonly<Record<ScalarType, Accumulator>>>> = {
  sum: {
    f64: sum("f64", "double", "0"),
    f32: sum("f32", "double", "0"),
    i32: WRAPPING,
    u32: sum("u32", "uint32_t", "0"),
    bool: truth("|", "0"),
  },
  max: {
    f64: largest("f64", "-__builtin_inf()"),
    f32: largest("f32", "-__builtin_inff()"),
    i32: largest("i32", "INT32_MIN"),
    u32: largest("u32", "0"),
    bool: truth("|", "0"),
  },
  min: {
    f64: smallest("f64", "__builtin_inf()"),
    f32: smallest("f32", "__builtin_inff()"),
    i32: smallest("i32", "INT32_MAX"),
    u32: smallest("u32", "UINT32_MAX"),
    bool: truth("&", "1"),
  },
};

export const accumulatorOf = (reduction: Reduction): Accumulator => TABLE[reduction.operation][reduction.value.type];

/** `reduction(+ : r0_run) reduction(largest : r1_run)`: what a loop over these accumulators declares. */
export const clausesOf = (accumulators: readonly { readonly name: string; readonly by: Accumulator }[]): string =>
  accumulators.map(({ name, by }) => `reduction(${by.clause} : ${name})`).join(" ");
