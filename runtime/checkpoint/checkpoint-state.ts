/** The part of a checkpoint that is not tensors: how it is spelled in the file's metadata, and how it is checked. */
import { Diagnostic } from "../../contract/diagnostic.ts";
import { type Json, type JsonObject, isJsonArray, isJsonObject, parseJson } from "../../contract/json-text.ts";

export type PlainJson = null | boolean | number | string | readonly PlainJson[] | { readonly [key: string]: PlainJson };

/** Where training stands in its data: the epoch, and how many samples of it are used up. */
export interface DataPosition {
  readonly epoch: number;
  readonly index: number;
}

export interface CheckpointState {
  /** The model's name, `dit`. */
  readonly model: string;
  /** The configuration the model was compiled with. */
  readonly config: Readonly<Record<string, PlainJson>>;
  /** The training recipe of the binary that wrote it; a later binary may have another one. */
  readonly recipe?: Readonly<Record<string, PlainJson>>;
  /** Optimizer steps done. */
  readonly step: number;
  /** Random draws are keyed by (seed, step, path): these two numbers are the generator's whole state. */
  readonly seed: number;
  readonly position: DataPosition;
  /** The number of steps the learning-rate schedule was laid out for. */
  readonly scheduleSteps: number;
  /** Other numbers to carry over, by name: EMA updates, skipped steps, loss scale. */
  readonly counters: Readonly<Record<string, number>>;
  /** The version of soracc that wrote the file. */
  readonly soracc: string;
}

const FORMAT_KEY = "soracc.checkpoint";
const STATE_KEY = "soracc.state";
/** Raised when an older soracc could misread a file. */
const FORMAT_VERSION = 1;

export const hasState = (metadata: ReadonlyMap<string, string>): boolean => metadata.has(FORMAT_KEY);

export function encodeState(state: CheckpointState): ReadonlyMap<string, string> {
  return new Map([
    [FORMAT_KEY, String(FORMAT_VERSION)],
    [STATE_KEY, JSON.stringify(state)],
  ]);
}

/** @throws Diagnostic that names the field that is missing or of another type */
export function decodeState(path: string, metadata: ReadonlyMap<string, string>): CheckpointState {
  const version = Number(metadata.get(FORMAT_KEY));
  if (!Number.isSafeInteger(version) || version < 1) throw damaged(path, "its format version is not a number");
  if (version > FORMAT_VERSION) {
    throw new Diagnostic({
      kind: "checkpoint",
      message: `this checkpoint has format ${version}, this soracc reads up to ${FORMAT_VERSION}`,
      where: { file: path },
      fix: "use the soracc that wrote it, or a newer one",
    });
  }
  const parsed = parseJson(metadata.get(STATE_KEY) ?? "");
  if (!parsed.ok) throw damaged(path, `its state is not JSON (${parsed.message})`);
  if (!isJsonObject(parsed.value)) throw damaged(path, "its state is not a JSON object");
  const field = fieldsOf(path, parsed.value);
  const position = field("position", isJsonObject, "an object");
  const recipe = parsed.value.get("recipe");
  const inPosition = fieldsOf(path, position, "position.");
  return {
    model: field("model", isString, "text"),
    config: toRecord(field("config", isJsonObject, "an object")),
    ...(isJsonObject(recipe) ? { recipe: toRecord(recipe) } : {}),
    step: field("step", isCount, "a whole number"),
    seed: field("seed", isInteger, "a whole number"),
    position: {
      epoch: inPosition("epoch", isCount, "a whole number"),
      index: inPosition("index", isCount, "a whole number"),
    },
    scheduleSteps: field("scheduleSteps", isCount, "a whole number"),
    counters: countersOf(path, field("counters", isJsonObject, "an object")),
    soracc: field("soracc", isString, "text"),
  };
}

type ReadField = <T extends Json>(name: string, is: (value: Json) => value is T, what: string) => T;

function fieldsOf(path: string, object: JsonObject, prefix = ""): ReadField {
  return (name, is, what) => {
    const value = object.get(name);
    if (value === undefined) throw damaged(path, `its state lacks ${prefix}${name}`);
    if (!is(value)) throw damaged(path, `its state has ${prefix}${name}, which is not ${what}`);
    return value;
  };
}

const isString = (value: Json): value is string => typeof value === "string";
const isInteger = (value: Json): value is number => typeof value === "number" && Number.isSafeInteger(value);
const isCount = (value: Json): value is number => isInteger(value) && value >= 0;

function countersOf(path: string, object: JsonObject): Readonly<Record<string, number>> {
  for (const [name, value] of object) {
    if (typeof value !== "number") throw damaged(path, `its state has counters.${name}, which is not a number`);
  }
  return toRecord(object) as Readonly<Record<string, number>>;
}

/** Own properties only, whatever the names: `__proto__` in a file stays a name. */
function toRecord(object: JsonObject): Readonly<Record<string, PlainJson>> {
  const record = Object.create(null) as Record<string, PlainJson>;
  for (const [key, value] of object) record[key] = toPlain(value);
  return record;
}

function toPlain(value: Json): PlainJson {
  if (isJsonObject(value)) return toRecord(value);
  return isJsonArray(value) ? value.map(toPlain) : value;
}

function damaged(path: string, what: string): Diagnostic {
  return new Diagnostic({
    kind: "checkpoint",
    message: `this checkpoint is damaged: ${what}`,
    where: { file: path },
    fix: "resume from another checkpoint of the run",
  });
}
