// What is printed about the samples.
import { expect, test } from "vitest";
import { type JudgedSample, sampleRecord, sampleTable, totalsOf, totalsText } from "../../compiler/demo/report.ts";

const right: JudgedSample = {
  file: "samples/01.mp4",
  subject: { colour: "red", shape: "circle", direction: "left" },
  colour: { right: true, seen: "red", share: 0.98765 },
  direction: { right: true, seen: "left", moved: [-9.1234, 0.2] },
  oneObject: { right: true, largestPiece: 1, largestArea: 0.12345 },
};
const wrong: JudgedSample = {
  file: "samples/02.mp4",
  subject: { colour: "orange", shape: "square", direction: "down" },
  colour: { right: false, seen: "none", share: 0.3 },
  direction: { right: false, seen: "none", moved: undefined },
  oneObject: { right: false, largestPiece: 0.4, largestArea: 0.2 },
};

test("every sample has a line, wrong answers stand out", () => {
  expect(sampleTable([right, wrong])).toEqual([
    " 1  a red circle moving left      ok red 99 %   ok left 9.1 px  ok one piece 100 %",
    " 2  an orange square moving down  NO none 30 %  NO none         NO one piece 40 %",
  ]);
});

test("the last line counts", () => {
  expect(totalsText(totalsOf([right, right, wrong]))).toBe("colour 2/3, direction 2/3, one object 2/3");
});

test("programs get the numbers behind it", () => {
  expect(sampleRecord(right)).toEqual({
    file: "samples/01.mp4",
    prompt: "a red circle moving left",
    asked: { colour: "red", shape: "circle", direction: "left" },
    colour: { right: true, seen: "red", share: 0.988 },
    direction: { right: true, seen: "left", moved: [-9.123, 0.2] },
    oneObject: { right: true, largestPiece: 1, largestArea: 0.123 },
  });
  expect(sampleRecord(wrong)).toMatchObject({ direction: { moved: null } });
});
