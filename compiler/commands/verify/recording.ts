/**
 * What does a recorded file hold? Safetensors whose names say what each tensor is:
 *
 *   param.NAME            a parameter                   PROGRAM.in.NAME     an input of a program
 *   PROGRAM.out.NAME      an expected output            PROGRAM.valid.NAME  0/1: which of its entries to compare
 *   PROGRAM.grad.NAME     d mean(loss) / d parameter    train.param.NAME    a parameter after training
 *   schedule.NAME         the schedule a sampler used
 */
import { Diagnostic } from "../../../contract/diagnostic.ts";
import { openSafetensors, type SafetensorsFile } from "../../../contract/safetensors.ts";

export interface RecordedTensor {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

export interface Recording {
  readonly path: string;
  readonly model: string;
  readonly config: Readonly<Record<string, unknown>>;
  /** The optimizer and the number of steps of `train`. */
  readonly train: Readonly<Record<string, unknown>> | undefined;
  readonly sample: Readonly<Record<string, unknown>> | undefined;
  readonly parameters: ReadonlyMap<string, RecordedTensor>;
  readonly programs: ReadonlyMap<string, RecordedProgram>;
}

type Part = "in" | "out" | "valid" | "grad" | "param" | "after";

/** The tensors of one program, by what they are and their name. */
export type RecordedProgram = Readonly<Record<Part, ReadonlyMap<string, RecordedTensor>>>;

const PARTS: readonly Part[] = ["in", "out", "valid", "grad", "param", "after"];

/** Reads a whole recording. Errors: a corrupt file, no model, metadata that is no JSON, names of another form. */
export function readRecording(path: string): Recording {
  const file = openSafetensors(path);
  try {
    const model = file.metadata.get("model");
    if (model === undefined) throw withoutModel(path, file);
    const parameters = new Map<string, RecordedTensor>();
    const programs = new Map<string, Record<Part, Map<string, RecordedTensor>>>();
    for (const name of file.tensors.keys()) {
      const tensor = read(file, name);
      const [first = "", second = "", ...rest] = name.split(".");
      if (first === "param") {
        parameters.set([second, ...rest].join("."), tensor);
        continue;
      }
      const part = first === "schedule" ? "out" : PARTS.find((each) => each === second);
      if (part === undefined || (first !== "schedule" && rest.length === 0)) throw unknownName(path, name);
      const own = programs.get(first) ?? emptyProgram();
      own[part].set((first === "schedule" ? [second, ...rest] : rest).join("."), tensor);
      programs.set(first, own);
    }
    return {
      path,
      model,
      config: metadata(file, "config") ?? {},
      train: metadata(file, "train"),
      sample: metadata(file, "sample"),
      parameters,
      programs,
    };
  } finally {
    file.close();
  }
}

const emptyProgram = (): Record<Part, Map<string, RecordedTensor>> => ({
  in: new Map(),
  out: new Map(),
  valid: new Map(),
  grad: new Map(),
  param: new Map(),
  after: new Map(),
});

const read = (file: SafetensorsFile, name: string): RecordedTensor => ({
  shape: file.tensors.get(name)?.shape ?? [],
  data: file.readFloat64(name),
});

function metadata(file: SafetensorsFile, key: string): Readonly<Record<string, unknown>> | undefined {
  const text = file.metadata.get(key);
  if (text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return { ...value };
  } catch {
    // The message below covers it.
  }
  throw new Diagnostic({
    kind: "recording",
    message: `the metadata "${key}" is not a JSON object`,
    where: { file: file.path },
    fix: `record it as JSON, such as {"hidden": 64}`,
  });
}

function withoutModel(path: string, file: SafetensorsFile): Diagnostic {
  return new Diagnostic({
    kind: "recording",
    message: "the file has no `model` in its metadata: these are plain tables, not a recorded model",
    where: { file: path },
    details: [`it holds ${[...file.tensors.keys()].slice(0, 6).join(", ")}`],
    fix: "record the model file's name under `model` and its configuration under `config`",
  });
}

function unknownName(path: string, name: string): Diagnostic {
  return new Diagnostic({
    kind: "recording",
    message: `the tensor name "${name}" says nothing to verify`,
    where: { file: path },
    fix: "name tensors param.NAME, PROGRAM.in.NAME, PROGRAM.out.NAME, PROGRAM.valid.NAME or PROGRAM.grad.NAME",
  });
}
