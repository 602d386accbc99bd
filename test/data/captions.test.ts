/** Captions: every form that is read, and every mistake with the line it stands on. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { type Json, isJsonArray, isJsonObject, lineAndColumn, parseJson } from "../../contract/json-text.ts";
import { describeUncaptioned, readCaptions } from "../../runtime/data/captions.ts";

let parent: string;
let data: string;
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), "soracc-captions-"));
  data = join(parent, "data");
  mkdirSync(data);
});
afterEach(() => rmSync(parent, { recursive: true, force: true }));

/** Captions are read before any video is: what is in the file does not matter here. */
function put(name: string, text = ""): string {
  const path = join(data, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  return path;
}

function mistake(captionsFile?: string): Diagnostic {
  try {
    readCaptions(data, captionsFile);
  } catch (error) {
    if (error instanceof Diagnostic) return error;
    throw error;
  }
  throw new Error("the captions were accepted");
}

const pairs = (captionsFile?: string): string[] =>
  readCaptions(data, captionsFile).samples.map(({ file, caption }) => `${file}: ${caption}`);

describe("forms", () => {
  test("lines of records; every caption is a sample, with its line", () => {
    put("a.mp4");
    put("deep/b.MP4");
    put(
      "captions.jsonl",
      '\uFEFF{"file": "a.mp4", "captions": ["one", " two "]}\r\n\n{"file":"deep/b.MP4","caption":"three"}\n',
    );
    expect(pairs()).toEqual(["a.mp4: one", "a.mp4: two", "deep/b.MP4: three"]);
    expect(readCaptions(data).samples[2]?.where).toEqual({ file: join(data, "captions.jsonl"), line: 3 });
  });

  test("a list of records, with the line of each", () => {
    put("a.mp4");
    put("b.mp4");
    put(
      "captions.json",
      '[\n  {"file": "a.mp4", "captions": ["one"]},\n\n  {"file": "./b.mp4", "caption": "two", "id": 7}\n]',
    );
    expect(pairs()).toEqual(["a.mp4: one", "b.mp4: two"]);
    expect(readCaptions(data).samples.map(({ where }) => where.line)).toEqual([2, 4]);
  });

  test("a text beside each video, one caption per line", () => {
    put("a.mp4");
    put("a.txt", "one\n\n two\n");
    put("b.webm");
    put("b.txt", "three");
    put("unrelated.txt", "none");
    expect(pairs()).toEqual(["a.mp4: one", "a.mp4: two", "b.webm: three"]);
    expect(readCaptions(data).samples[1]?.where).toEqual({ file: join(data, "a.txt"), line: 3 });
  });

  test("--captions names another file, which may lie anywhere; its videos lie in the folder", () => {
    put("a.mp4");
    put("captions.json", "broken, and not looked at");
    const elsewhere = join(parent, "mine.jsonl");
    writeFileSync(elsewhere, '{"file": "a.mp4", "caption": "mine"}');
    expect(pairs(elsewhere)).toEqual(["a.mp4: mine"]);
  });

  test("a video no record names may still have its text; one without both is listed", () => {
    for (const name of ["a", "b", "c", "d", ".hidden"]) put(`${name}.mp4`);
    put("captions.jsonl", '{"file": "a.mp4", "caption": "recorded"}\n{"file": "d.mp4", "captions": []}');
    put("a.txt", "not used");
    put("b.txt", "beside");
    const captions = readCaptions(data);
    expect(pairs()).toEqual(["a.mp4: recorded", "b.mp4: beside"]);
    expect(captions.withoutCaption).toEqual(["c.mp4", "d.mp4"]);
    expect(describeUncaptioned(captions.withoutCaption, 1)).toBe(
      "2 videos have no caption and are left out: c.mp4 and 1 more",
    );
    expect(describeUncaptioned([])).toBeUndefined();
  });

  test("the folder itself may be a link, and links inside it may stay inside", () => {
    put("real/a.mp4");
    symlinkSync(join(data, "real", "a.mp4"), join(data, "link.mp4"));
    put("captions.jsonl", '{"file": "link.mp4", "caption": "one"}');
    const link = join(parent, "link");
    symlinkSync(data, link);
    expect(readCaptions(link).samples.map(({ file, caption }) => [file, caption])).toEqual([["real/a.mp4", "one"]]);
  });
});

describe("folders", () => {
  test("empty, absent, or a file", () => {
    expect(mistake().message).toMatch(/data: there are no videos in .*data[^]*fix: /);
    put("notes.txt", "hello");
    expect(mistake().message).toMatch(/there are no videos/);
    expect(() => readCaptions(join(parent, "nothing"))).toThrow(/nothing does not exist/);
    expect(() => readCaptions(put("a.mp4"))).toThrow(/a.mp4 is a file, not a folder/);
  });

  test("videos, and not one caption", () => {
    put("a.mp4");
    expect(mistake().message).toMatch(/1 videos in .*, none with a caption[^]*captions.jsonl with lines like \{"file"/);
    put("captions.json", "[]");
    expect(mistake().parts.where?.file).toBe(join(data, "captions.json"));
  });

  test("two caption files leave it open which one is meant", () => {
    put("a.mp4");
    put("captions.json", "[]");
    put("captions.jsonl", "");
    expect(mistake().message).toMatch(/holds both captions.jsonl and captions.json/);
  });

  test("--captions without a file", () => {
    put("a.mp4");
    expect(mistake(join(parent, "none.json")).message).toMatch(/none.json {2}captions: there is no such file/);
  });
});

describe("names that are not a video of the folder", () => {
  const at = (file: string): string => {
    put("a.mp4");
    put("captions.jsonl", `{"file": "a.mp4", "caption": "fine"}\n${JSON.stringify({ file, caption: "x" })}`);
    const error = mistake();
    expect(error.parts.where).toEqual({ file: join(data, "captions.jsonl"), line: 2 });
    expect(error.parts.kind).toBe("captions");
    return error.parts.message;
  };

  test("absolute paths, also to a file inside, and Windows ones", () => {
    expect(at("/etc/passwd")).toMatch(/is an absolute path/);
    expect(at(join(data, "a.mp4"))).toMatch(/is an absolute path/);
    expect(at("C:\\clips\\a.mp4")).toMatch(/is an absolute path/);
  });

  test("ways upwards, also those that come back", () => {
    writeFileSync(join(parent, "outside.mp4"), "");
    expect(at("../outside.mp4")).toMatch(/leads upwards/);
    expect(at("sub/../../outside.mp4")).toMatch(/leads upwards/);
    expect(at("../data/a.mp4")).toMatch(/leads upwards/);
    expect(at("..\\outside.mp4")).toMatch(/leads upwards/);
  });

  test("links that lead out: of a file, of a folder, of a link to a link", () => {
    mkdirSync(join(parent, "data-neighbour"));
    writeFileSync(join(parent, "data-neighbour", "v.mp4"), "");
    symlinkSync(join(parent, "data-neighbour", "v.mp4"), join(data, "file.mp4"));
    symlinkSync(join(parent, "data-neighbour"), join(data, "folder"));
    symlinkSync("file.mp4", join(data, "twice.mp4"));
    for (const name of ["file.mp4", "folder/v.mp4", "twice.mp4"]) expect(at(name)).toMatch(/a link that leads out/);
  });

  test("text beside a video that is a link out of the folder", () => {
    writeFileSync(join(parent, "secret"), "secret");
    put("a.mp4");
    symlinkSync(join(parent, "secret"), join(data, "a.txt"));
    expect(mistake().message).toMatch(/"a.txt" is a link that leads out/);
  });

  test("what does not exist, is a folder, or is no name at all", () => {
    mkdirSync(join(data, "folder.mp4"));
    symlinkSync("nowhere", join(data, "dangling.mp4"));
    symlinkSync("loop.mp4", join(data, "loop.mp4"));
    expect(at("missing.mp4")).toMatch(/"missing.mp4" does not exist/);
    expect(at("a.mp4/x")).toMatch(/does not exist/);
    expect(at("folder.mp4")).toMatch(/not a regular file/);
    expect(at("dangling.mp4")).toMatch(/does not exist/);
    expect(at("loop.mp4")).toMatch(/cannot be read \(ELOOP\)/);
    expect(at("")).toMatch(/not a file name/);
    expect(at("a.mp4\0.txt")).toMatch(/not a file name/);
  });

  test("many at once: five with their lines, the rest counted, the gravest first", () => {
    put("a.mp4");
    const names = ["m1.mp4", "m2.mp4", "m3.mp4", "m4.mp4", "m5.mp4", "m6.mp4", "../x.mp4"];
    put("captions.jsonl", names.map((file) => JSON.stringify({ file, caption: "x" })).join("\n"));
    const error = mistake();
    expect(error.message).toMatch(/captions.jsonl:7 {2}captions: "..\/x.mp4" leads upwards/);
    expect(error.parts.details?.[0]).toMatch(/captions.jsonl:1 {2}"m1.mp4" does not exist/);
    expect(error.parts.details).toHaveLength(5);
    expect(error.parts.details?.[4]).toBe("... and 2 more records");
  });
});

describe("text that is not what it should be", () => {
  test.each([
    [
      "captions.jsonl",
      '{"file": "a.mp4", "caption": "x"}\n{"file": "a.mp4", caption: "x"}',
      /:2:19 .*a key in double quotes/,
    ],
    ["captions.json", '[{"file": "a.mp4", "caption": "x"},\n  ]', /:2:3 .*a value is expected, "\]" found/],
    ["captions.json", '{"file": "a.mp4"}\n{"file": "a.mp4"}', /:2:1 .*after the end[^]*fix: put the records in a list/],
    ["captions.json", '{"file": "a.mp4", "caption": "x"}', /:1 .*a list of records is expected/],
    ["captions.json", "[\n7]", /a record is expected/],
    ["captions.jsonl", '{"caption": "x"}', /:1 .*needs "file"/],
    ["captions.jsonl", '{"file": 3, "caption": "x"}', /:1 .*needs "file"/],
    ["captions.jsonl", '{"file": "a.mp4"}', /:1 .*needs "captions"/],
    ["captions.jsonl", '{"file": "a.mp4", "captions": "x"}', /:1 .*needs "captions", a list/],
    ["captions.jsonl", '{"file": "a.mp4", "captions": ["x", 3]}', /:1 .*a caption is a text/],
    ["captions.jsonl", '{"file": "a.mp4", "caption": " "}', /:1 .*a text that is not empty/],
    ["captions.jsonl", '{"file": "a.mp4", "caption": "x", "captions": []}', /either "caption" or "captions"/],
    ["captions.jsonl", '{"file": "a.mp4", "file": "b.mp4", "caption": "x"}', /:1:19 .*"file" appears twice/],
    ["captions.jsonl", '{"file": "a.mp4", "caption": "x', /:1:30 .*never closed/],
  ])("%s: %s", (name, text, message) => {
    put("a.mp4");
    put(name, text);
    const error = mistake();
    expect(error.parts.kind).toBe("captions");
    expect(error.parts.fix).toBeDefined();
    expect(error.message).toMatch(message);
  });

  test("bytes that are not UTF-8", () => {
    put("a.mp4");
    writeFileSync(join(data, "captions.jsonl"), Uint8Array.of(0x7b, 0xff));
    expect(mistake().message).toMatch(/not UTF-8[^]*fix: save it as UTF-8/);
  });

  test("any text gives captions or a Diagnostic", () => {
    put("a.mp4");
    const piece = fc.constantFrom(
      '{"file":',
      '"a.mp4"',
      ',"caption":',
      '"x"',
      "}",
      "[",
      "]",
      ",",
      "\n",
      "null",
      '"captions":["y"]',
      "{",
      "1",
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 14 }), fc.boolean(), (pieces, lines) => {
        rmSync(join(data, lines ? "captions.json" : "captions.jsonl"), { force: true });
        put(lines ? "captions.jsonl" : "captions.json", pieces.join(""));
        try {
          expect(readCaptions(data).samples.length).toBeGreaterThan(0);
        } catch (error) {
          expect(error).toBeInstanceOf(Diagnostic);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe("the JSON reader agrees with JSON.parse", () => {
  const plain = (value: Json): unknown => {
    if (isJsonArray(value)) return value.map(plain);
    return isJsonObject(value) ? Object.fromEntries([...value].map(([key, inner]) => [key, plain(inner)])) : value;
  };

  test("on every value", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5 }), fc.constantFrom(0, 1, 4), (value, indent) => {
        const text = JSON.stringify(value, null, indent);
        const parsed = parseJson(text);
        expect(parsed.ok && plain(parsed.value)).toEqual(JSON.parse(text));
      }),
      { numRuns: 500 },
    );
  });

  test("on what is no JSON", () => {
    const letter = fc.constantFrom(...Array.from('{}[]",:\\u00e1-+.eE truefalsn\n\t'));
    fc.assert(
      fc.property(fc.array(letter, { maxLength: 12 }), (letters) => {
        const text = letters.join("");
        let accepted = true;
        try {
          JSON.parse(text);
        } catch {
          accepted = false;
        }
        const parsed = parseJson(text);
        // Equal keys are the one thing refused here and accepted there.
        expect(parsed.ok || parsed.message.includes("twice")).toBe(accepted);
      }),
      { numRuns: 5000 },
    );
  });

  test("offsets become lines and columns", () => {
    expect(lineAndColumn("ab\ncd\n", 0)).toEqual({ line: 1, column: 1 });
    expect(lineAndColumn("ab\ncd\n", 2)).toEqual({ line: 1, column: 3 });
    expect(lineAndColumn("ab\ncd\n", 4)).toEqual({ line: 2, column: 2 });
    expect(lineAndColumn("ab\ncd\n", 6)).toEqual({ line: 3, column: 1 });
  });
});
