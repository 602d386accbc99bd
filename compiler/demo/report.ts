/** What the demo says about its samples, for people and for programs. */
import type { Judged } from "./measure.ts";
import { sentenceOf } from "./subject.ts";

export interface JudgedSample extends Judged {
  readonly file: string;
}

export interface Totals {
  readonly samples: number;
  readonly colour: number;
  readonly direction: number;
  readonly oneObject: number;
}

export function totalsOf(samples: readonly Judged[]): Totals {
  const count = (right: (sample: Judged) => boolean): number => samples.filter(right).length;
  return {
    samples: samples.length,
    colour: count(({ colour }) => colour.right),
    direction: count(({ direction }) => direction.right),
    oneObject: count(({ oneObject }) => oneObject.right),
  };
}

/** `colour 15/16, direction 14/16, one object 15/16` */
export const totalsText = ({ samples, colour, direction, oneObject }: Totals): string =>
  `colour ${colour}/${samples}, direction ${direction}/${samples}, one object ${oneObject}/${samples}`;

/** A line per sample: the prompt, what was seen, and `no` before what is wrong. */
export function sampleTable(samples: readonly JudgedSample[]): string[] {
  const rows = samples.map((sample, index) => [
    String(index + 1).padStart(2),
    sentenceOf(sample.subject),
    verdict(sample.colour.right, `${sample.colour.seen} ${percent(sample.colour.share)}`),
    verdict(sample.direction.right, `${sample.direction.seen}${moveText(sample)}`),
    verdict(sample.oneObject.right, `one piece ${percent(sample.oneObject.largestPiece)}`),
  ]);
  const widths = rows.reduce<readonly number[]>(
    (widest, row) => row.map((cell, column) => Math.max(cell.length, widest[column] ?? 0)),
    [],
  );
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd(),
  );
}

const verdict = (right: boolean, seen: string): string => `${right ? "ok" : "NO"} ${seen}`;

const percent = (share: number): string => `${Math.round(share * 100)} %`;

/** How far the object went along its way, in pixels. */
function moveText({ direction: { moved } }: Judged): string {
  return moved === undefined ? "" : ` ${Math.max(Math.abs(moved[0]), Math.abs(moved[1])).toFixed(1)} px`;
}

/** Numbers as far as they mean something: files are compared by people. */
export const sampleRecord = ({ file, subject, colour, direction, oneObject }: JudgedSample): object => ({
  ...{ file, prompt: sentenceOf(subject), asked: subject },
  colour: { ...colour, share: round(colour.share) },
  direction: { ...direction, moved: direction.moved?.map(round) ?? null },
  oneObject: { ...oneObject, largestPiece: round(oneObject.largestPiece), largestArea: round(oneObject.largestArea) },
});

const round = (value: number): number => Number(value.toFixed(3));
