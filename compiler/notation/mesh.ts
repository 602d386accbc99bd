/**
 * Meshes: how ranks are arranged, as in `"data=2 sequence=4:fastseq zero=2"`.
 *
 *   data=N                 N replicas, each with its own clips (1 by default)
 *   sequence=N[:ALGORITHM] the tokens of a clip over N ranks: `fastseq` (the default) or `ulysses`
 *   zero=STAGE             what is sharded over the replicas: 0 nothing, 1 optimizer state, 2 gradients too, 3 weights too
 */
import { didYouMean } from "../../contract/diagnostic.ts";
import type { Diagnostic, Location } from "../../contract/diagnostic.ts";
import { slip } from "./slip.ts";
import type { Source } from "./slip.ts";

export const SEQUENCE_ALGORITHMS = ["fastseq", "ulysses"] as const;
export type SequenceAlgorithm = (typeof SEQUENCE_ALGORITHMS)[number];
export type ZeroStage = 0 | 1 | 2 | 3;

export interface Mesh {
  readonly data: number;
  readonly sequence: number;
  readonly algorithm: SequenceAlgorithm;
  readonly zero: ZeroStage;
}

/** One rank, nothing sharded: the meaning of the empty text. */
export const SINGLE: Mesh = { data: 1, sequence: 1, algorithm: "fastseq", zero: 0 };

export const ranksOf = ({ data, sequence }: Mesh): number => data * sequence;

const AXES = ["data", "sequence", "zero"] as const;
type Axis = (typeof AXES)[number];

/** Reads a mesh. Throws a `Diagnostic` of kind `mesh` with a caret under the mistake. */
export function parseMesh(text: string, where?: Location): Mesh {
  const source: Source = { kind: "mesh", text, where };
  const seen = new Set<Axis>();
  let mesh = SINGLE;
  for (const word of text.matchAll(/\S+/g)) {
    const parts = /^(?<name>[A-Za-z]*)(?<equals>=?)(?<value>[^:]*)(?::(?<algorithm>.*))?$/.exec(word[0])?.groups ?? {};
    const { name = "", value = "", algorithm } = parts;
    const axis = AXES.find((each) => each === name);
    if (axis === undefined) throw unknown(source, word.index, "axis", name === "" ? word[0] : name, AXES);
    if (seen.has(axis)) throw slip(source, word.index, `\`${axis}\` stands twice`, "write each axis once");
    seen.add(axis);
    const valueAt = word.index + name.length + (parts["equals"] ?? "").length;
    const number = wholeNumber(source, valueAt, axis, parts["equals"] === "=" ? value : "");
    const algorithmAt = valueAt + value.length + 1;
    if (algorithm !== undefined && axis !== "sequence") {
      throw slip(source, algorithmAt - 1, `\`${axis}\` has no algorithm`, `write ${axis}=${number}`);
    }
    const chosen = SEQUENCE_ALGORITHMS.find((each) => each === (algorithm ?? mesh.algorithm));
    if (chosen === undefined) {
      throw unknown(source, algorithmAt, "sequence algorithm", algorithm, SEQUENCE_ALGORITHMS);
    }
    mesh = { ...mesh, [axis]: number, algorithm: chosen };
  }
  return mesh;
}

/** The text that `parseMesh` reads as this mesh; what is 1 or 0 is left out. */
export function printMesh(mesh: Mesh): string {
  const words: string[] = [];
  if (mesh.data !== SINGLE.data) words.push(`data=${mesh.data}`);
  if (mesh.sequence !== SINGLE.sequence || mesh.algorithm !== SINGLE.algorithm) {
    words.push(`sequence=${mesh.sequence}:${mesh.algorithm}`);
  }
  if (mesh.zero !== SINGLE.zero) words.push(`zero=${mesh.zero}`);
  return words.length === 0 ? "data=1" : words.join(" ");
}

function wholeNumber(source: Source, offset: number, axis: Axis, text: string): number {
  const number = Number(text);
  const isRight = /^\d+$/.test(text) && (axis === "zero" ? number <= 3 : number >= 1 && number <= 65536);
  if (isRight) return number;
  const wanted = axis === "zero" ? "a stage from 0 to 3" : "a number of ranks, 1 or more";
  const found = text === "" ? "nothing" : `\`${text}\``;
  const fix = text.includes(",") ? "separate the axes by blanks" : `write ${axis}=2`;
  throw slip(source, offset, `\`${axis}\` wants ${wanted}, found ${found}`, fix);
}

function unknown(source: Source, at: number, what: string, found = "", known: readonly string[]): Diagnostic {
  if (found === "") return slip(source, at, `expected a ${what}`, `write one of ${known.join(", ")}`);
  const near = didYouMean(found, known);
  const fix = near === undefined ? `write one of ${known.join(", ")}` : `did you mean \`${near}\`?`;
  return slip(source, at, `there is no ${what} \`${found}\``, fix);
}
