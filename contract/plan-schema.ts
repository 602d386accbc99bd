/**
 * The text of a plan: JSON, one line per step, buffer and kernel. `parsePlan(printPlan(plan))` is the same plan.
 *
 * The outer parts are checked with zod. Sizes, buffers and steps come by the ten thousand and are checked by hand.
 * JSON has no NaN, infinity or negative zero: scalar arguments of those values are written as {"number": "-inf"}.
 */
import { z } from "zod";
import { Diagnostic } from "./diagnostic.ts";
import { DTYPES } from "./dtype.ts";
import { findPlanFault } from "./plan-check.ts";
import { ARCHS, PLAN_VERSION, type Plan, type PlanStep } from "./plan.ts";
import { SIZE_OPERATIONS, type Size, type SizeOperation } from "./size.ts";

const name = z.string();
const position = z.int().nonnegative();
const dtype = z.enum(DTYPES);
const record = z.record(z.string(), z.unknown());

const size = z.custom<Size>(isSize, "not a size");

const port = z.strictObject({
  name,
  dtype,
  axes: z.array(z.strictObject({ name, size })).readonly(),
  buffer: position,
});

const tensorMap = z.strictObject({
  argument: position,
  dtype,
  offset: size,
  sizes: z.array(size).min(1).max(5).readonly(),
  strides: z.array(size).max(4).readonly(),
  box: z.array(position).readonly(),
  swizzle: z.union([z.literal(0), z.literal(32), z.literal(64), z.literal(128)]),
});

const gpu = z.strictObject({
  phases: z.array(z.strictObject({ threads: position, sharedBytes: position })).readonly(),
  tensorMaps: z.array(tensorMap).readonly(),
});

const kernel = z.strictObject({
  symbol: z.string().regex(/^[A-Za-z_]\w*$/),
  formula: z.string(),
  source: z.string(),
  phases: z.array(name).min(1).readonly(),
  sizes: z.array(name).readonly(),
  work: z.strictObject({ flops: size, products: z.enum(["f32", "bf16", "f16"]), bytes: size }),
  from: z.string().optional(),
  gpu: gpu.optional(),
});

const buffer = z.custom<Plan["programs"][string]["buffers"][number]>(isBuffer, "not a buffer");
const step = z.custom<PlanStep>(isStep, "not a step");

const program = z.strictObject({
  symbols: z.array(name).readonly(),
  inputs: z.array(port).readonly(),
  outputs: z.array(port).readonly(),
  state: z.array(port).readonly(),
  buffers: z.array(buffer).readonly(),
  steps: z.array(step).readonly(),
  guards: z.array(z.strictObject({ left: size, right: size, message: z.string() })).readonly(),
});

export const planSchema = z.strictObject({
  version: z.literal(PLAN_VERSION),
  model: z
    .strictObject({ name, config: record, preset: z.string().optional(), recipe: record })
    .transform((model) => ({ ...model, preset: model.preset })),
  target: z.enum(["cpu", "cuda"]),
  arch: z.enum(ARCHS).optional(),
  precision: z.enum(["f32", "bf16", "f16"]),
  kernels: z.array(kernel).readonly(),
  constants: z.array(z.strictObject({ dtype, data: z.string() })).readonly(),
  parameters: z.array(z.strictObject({ name, shape: z.array(position).readonly(), offset: position })).readonly(),
  programs: z.record(z.string(), program),
});

/**
 * Reads a plan. Throws a Diagnostic of kind `plan` when the text is damaged, comes from another version, or does not
 * add up (an index out of range, a phase without its task count, a life that misses a use).
 */
export function parsePlan(text: string): Plan {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw damaged([error instanceof Error ? error.message : String(error)]);
  }
  const version = typeof json === "object" && json !== null && "version" in json ? json.version : undefined;
  if (version !== PLAN_VERSION && (typeof version === "number" || typeof version === "string")) {
    throw new Diagnostic({
      kind: "plan",
      message: `the plan has version ${version}, this runtime reads version ${PLAN_VERSION}`,
      fix: "compile the model again with the soracc that runs it",
    });
  }
  restoreScalars(json);
  const result = planSchema.safeParse(json);
  if (!result.success) {
    throw damaged(result.error.issues.slice(0, 5).map(({ path, message }) => `${path.join(".")}: ${message}`));
  }
  const plan: Plan = result.data;
  const fault = findPlanFault(plan);
  if (fault !== undefined) throw damaged([fault]);
  return plan;
}

export function printPlan(plan: Plan): string {
  const programs = Object.entries(plan.programs).map(([label, { buffers, steps, ...rest }]) => {
    const head = JSON.stringify(rest).slice(0, -1);
    const lines = steps.map((one) => JSON.stringify(writableScalars(one)));
    return `${JSON.stringify(label)}: ${head},\n"buffers": ${linesOf(buffers.map((one) => JSON.stringify(one)))},\n"steps": ${linesOf(lines)}}`;
  });
  const { kernels, programs: _, ...rest } = plan;
  const head = JSON.stringify(rest).slice(0, -1);
  return `${head},\n"kernels": ${linesOf(kernels.map((one) => JSON.stringify(one)))},\n"programs": {${programs.join(",\n")}}}\n`;
}

const linesOf = (items: readonly string[]): string => (items.length === 0 ? "[]" : `[\n${items.join(",\n")}]`);

const damaged = (details: readonly string[]): Diagnostic =>
  new Diagnostic({
    kind: "plan",
    message: "the plan is damaged",
    details,
    fix: "compile the model again, or copy the file again",
  });

// ---- numbers that JSON cannot write ----

const UNWRITABLE = new Map<string, number>([
  ["nan", NaN],
  ["inf", Infinity],
  ["-inf", -Infinity],
  ["-0", -0],
]);

function writableScalars(one: PlanStep): unknown {
  if (
    one.scalars.every(({ value }) => typeof value !== "number" || (Number.isFinite(value) && !Object.is(value, -0)))
  ) {
    return one;
  }
  return {
    ...one,
    scalars: one.scalars.map(({ type, value }) => {
      const word = [...UNWRITABLE].find(([, number]) => Object.is(number, value))?.[0];
      return { type, value: word === undefined ? value : { number: word } };
    }),
  };
}

/** In place, on parsed JSON of unknown form. */
function restoreScalars(json: unknown): void {
  for (const one of Object.values(asRecord(asRecord(json)["programs"]))) {
    for (const candidate of asList(asRecord(one)["steps"])) {
      for (const scalar of asList(asRecord(candidate)["scalars"])) {
        const target = asRecord(scalar);
        const value = target["value"];
        if (typeof value !== "object" || value === null || Array.isArray(value)) continue;
        target["value"] = UNWRITABLE.get(String(asRecord(value)["number"])) ?? value;
      }
    }
  }
}

const asRecord = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
const asList = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

// ---- by hand: what comes by the ten thousand ----

const OPERATIONS: ReadonlySet<unknown> = new Set<SizeOperation>(SIZE_OPERATIONS);
const KINDS: ReadonlySet<unknown> = new Set(["input", "output", "state", "constant", "temporary", "resident"]);
const SCALARS: ReadonlySet<unknown> = new Set(["f64", "f32", "i32", "u32", "bool"]);

function isSize(value: unknown): value is Size {
  if (typeof value === "string") return true;
  if (typeof value === "number") return Number.isSafeInteger(value);
  if (!Array.isArray(value) || value.length < 2 || !OPERATIONS.has(value[0])) return false;
  for (let i = 1; i < value.length; i++) if (!isSize(value[i])) return false;
  return true;
}

const isPosition = (value: unknown): boolean => typeof value === "number" && Number.isSafeInteger(value) && value >= 0;

function isBuffer(value: unknown): boolean {
  const one = asRecord(value);
  if (typeof one["name"] !== "string" || !KINDS.has(one["kind"]) || !isSize(one["bytes"])) return false;
  return ["constant", "first", "last"].every((key) => one[key] === undefined || isPosition(one[key]));
}

function isStep(value: unknown): boolean {
  const one = asRecord(value);
  return (
    isPosition(one["kernel"]) &&
    typeof one["once"] === "boolean" &&
    typeof one["origin"] === "string" &&
    isSize(one["scratch"]) &&
    isListOf(one["sizes"], isSize) &&
    isListOf(one["tasks"], isSize) &&
    isListOf(one["arguments"], (argument) => {
      const { buffer, offset } = asRecord(argument);
      return isPosition(buffer) && isSize(offset);
    }) &&
    isListOf(one["scalars"], (scalar) => {
      const { type, value } = asRecord(scalar);
      return SCALARS.has(type) && (typeof value === "number" || isSize(value));
    })
  );
}

function isListOf(value: unknown, test: (item: unknown) => boolean): boolean {
  if (!Array.isArray(value)) return false;
  for (const item of value) if (!test(item)) return false;
  return true;
}
