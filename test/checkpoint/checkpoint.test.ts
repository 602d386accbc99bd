/** Checkpoints: all or nothing on any disk, the same numbers back, and a clear word when they are another model's. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { writeFileAtomically } from "../../contract/atomic-file.ts";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { writeSafetensors } from "../../contract/safetensors.ts";
import {
  checkpointPath,
  latestCheckpoint,
  listCheckpoints,
  pruneCheckpoints,
} from "../../runtime/checkpoint/checkpoint-folder.ts";
import {
  type CheckpointState,
  compareWithModel,
  extraTensors,
  loadCheckpoint,
  saveCheckpoint,
} from "../../runtime/checkpoint/checkpoint.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "soracc-checkpoint-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const state: CheckpointState = {
  model: "dit",
  config: { hidden: 160, conditioning: "adaln", list: [1, null, true] },
  step: 200,
  seed: -5,
  position: { epoch: 3, index: 17 },
  scheduleSteps: 1100,
  counters: { emaUpdates: 200, lossScale: 2 ** -3 },
  soracc: "0.1.0",
};
const tensors = (value: number) => [
  { name: "model.a", shape: [2, 3], data: new Float32Array(6).fill(value) },
  { name: "ema.a", shape: [2, 3], data: () => new Float32Array(6).fill(value / 2) },
];
const expected = [{ name: "a", shape: [2, 3] }];

function diagnosticOf(action: () => unknown): Diagnostic {
  try {
    action();
  } catch (error) {
    if (error instanceof Diagnostic) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

test("tensors and state come back exactly", () => {
  const path = checkpointPath(join(folder, "runs", "x", "checkpoints"), 200);
  saveCheckpoint(path, { tensors: tensors(0.1), state });
  const loaded = loadCheckpoint(path);
  expect(loaded.state).toEqual(state);
  expect(loaded.read("model.a")).toEqual(new Float32Array(6).fill(0.1));
  expect(loaded.read("ema.a", { first: 4, count: 2 })).toEqual(new Float32Array(2).fill(0.05));
  expect(loaded.has("ema")).toBe(true);
  expect(loaded.has("optimizer.m")).toBe(false);
  expect(compareWithModel(loaded, expected, { sections: ["model", "ema"] })).toBeUndefined();
  loaded.close();
});

describe("a disk that misbehaves", () => {
  const path = (): string => join(folder, "step-000001.safetensors");

  test("writes that are short without an error are completed", () => {
    let calls = 0;
    saveCheckpoint(
      path(),
      { tensors: tensors(3), state },
      {
        write: (fd, bytes, offset, length) => {
          calls++;
          return writeSync(fd, bytes, offset, Math.min(length, 7));
        },
      },
    );
    expect(calls).toBeGreaterThan(20);
    const loaded = loadCheckpoint(path());
    expect(loaded.read("model.a")).toEqual(new Float32Array(6).fill(3));
    loaded.close();
  });

  const full = (): never => {
    throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
  };
  test.each([
    ["the first write fails", () => full()],
    [
      "a later write fails",
      (() => {
        let left = 2;
        return (fd: number, bytes: Uint8Array, offset: number, length: number) =>
          left-- > 0 ? writeSync(fd, bytes, offset, Math.min(length, 30)) : full();
      })(),
    ],
    [
      "writes stop without an error",
      (() => {
        let left = 2;
        return (fd: number, bytes: Uint8Array, offset: number, length: number) =>
          left-- > 0 ? writeSync(fd, bytes, offset, Math.min(length, 30)) : 0;
      })(),
    ],
  ] as const)("full disk, %s: the old checkpoint stays, nothing is left over", (_case, write) => {
    saveCheckpoint(path(), { tensors: tensors(1), state });
    const before = readFileSync(path());
    const error = diagnosticOf(() => saveCheckpoint(path(), { tensors: tensors(2), state }, { write }));
    expect(error.parts.kind).toBe("checkpoint");
    expect(error.message).toMatch(/the disk is full/);
    expect(error.message).toMatch(/needed +\d/);
    expect(error.message).toMatch(/available +\d/);
    expect(readFileSync(path())).toEqual(before);
    expect(readdirSync(folder)).toEqual(["step-000001.safetensors"]);
  });

  test("an error of ours on the way also removes the temporary file", () => {
    const broken = function* (): Generator<Uint8Array> {
      yield new Uint8Array(3);
      throw new RangeError("ours");
    };
    expect(() => writeFileAtomically(path(), broken(), { kind: "checkpoint" })).toThrow(RangeError);
    expect(readdirSync(folder)).toEqual([]);
  });

  test("a folder that is not there or not a folder is named", () => {
    writeFileSync(join(folder, "file"), "");
    const error = diagnosticOf(() => saveCheckpoint(join(folder, "file", "c.safetensors"), { tensors: [], state }));
    expect(error.message).toMatch(/file cannot be made/);
  });

  test("another reason than a full disk is passed on", () => {
    const denied = (): never => {
      throw Object.assign(new Error("permission denied, write"), { code: "EACCES" });
    };
    const error = diagnosticOf(() => saveCheckpoint(path(), { tensors: tensors(1), state }, { write: denied }));
    expect(error.message).toMatch(/cannot be written \(EACCES\)/);
    expect(error.message).not.toMatch(/full/);
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe("another model's checkpoint", () => {
  test("differences are listed by family", () => {
    const path = join(folder, "c.safetensors");
    saveCheckpoint(path, {
      tensors: [...tensors(1), { name: "model.b", shape: [4], data: new Float32Array(4) }],
      state,
    });
    const loaded = loadCheckpoint(path);
    const error = compareWithModel(loaded, [
      { name: "a", shape: [3, 2] },
      { name: "c.weight", shape: [5] },
    ]);
    expect(error?.message).toContain("1 tensors missing, 1 of another shape, 1 unknown");
    expect(error?.message).toContain("model.a  model [3, 2], file [2, 3]");
    expect(error?.message).toContain("model.c.weight  [5]");
    expect(error?.message).toContain("unknown  model.b");
    loaded.close();
  });

  test("long lists are cut, with their count", () => {
    const path = join(folder, "c.safetensors");
    saveCheckpoint(path, { tensors: tensors(1), state });
    const loaded = loadCheckpoint(path);
    const many = Array.from({ length: 30 }, (_, i) => ({ name: `blocks.${i}.weight`, shape: [2] }));
    expect(compareWithModel(loaded, many)?.parts.details).toContain("missing  ... and 22 more");
    loaded.close();
  });

  test("published weights load without state; what they have beyond the model is listed, not refused", () => {
    const path = join(folder, "weights.safetensors");
    writeSafetensors(path, [
      { name: "a", dtype: "BF16", shape: [2, 3], data: new Uint16Array(6).fill(0x3f80) },
      { name: "position_ids", dtype: "I64", shape: [1], data: new BigInt64Array(1) },
    ]);
    const loaded = loadCheckpoint(path);
    expect(loaded.state).toBeUndefined();
    expect(loaded.read("model.a")).toEqual(new Float32Array(6).fill(1));
    expect(compareWithModel(loaded, expected)).toBeUndefined();
    expect(extraTensors(loaded, expected)).toEqual(["model.position_ids"]);
    expect(compareWithModel(loaded, [{ name: "b", shape: [1] }])?.message).toMatch(/this weights file does not fit/);
    loaded.close();
  });
});

test.each([
  ["a newer format", "2", "{}", /has format 2, this soracc reads up to 1/],
  ["a state that is not JSON", "1", "{", /state is not JSON/],
  ["a state without its fields", "1", "{}", /lacks position/],
  ["a step that is no number", "1", JSON.stringify({ ...state, step: "200" }), /has step, which is not a whole number/],
  ["a position below zero", "1", JSON.stringify({ ...state, position: { epoch: -1, index: 0 } }), /position.epoch/],
])("%s is refused", (_case, version, json, reason) => {
  const path = join(folder, "c.safetensors");
  writeSafetensors(
    path,
    [],
    new Map([
      ["soracc.checkpoint", version],
      ["soracc.state", json],
    ]),
  );
  expect(diagnosticOf(() => loadCheckpoint(path)).message).toMatch(reason);
});

describe("a folder of checkpoints", () => {
  test("the latest is the highest step, also past a million", () => {
    expect(latestCheckpoint(join(folder, "nothing"))).toBeUndefined();
    for (const step of [200, 999999, 1000000, 1200])
      saveCheckpoint(checkpointPath(folder, step), { tensors: [], state });
    writeFileSync(join(folder, "step-9999999.safetensors.bak"), "");
    expect(listCheckpoints(folder).map(({ step }) => step)).toEqual([200, 1200, 999999, 1000000]);
    expect(latestCheckpoint(folder)?.path).toBe(join(folder, "step-1000000.safetensors"));
  });

  test("pruning keeps the last ones and removes only what is its own", () => {
    for (const step of [1, 2, 3]) saveCheckpoint(checkpointPath(folder, step), { tensors: [], state });
    writeFileSync(join(folder, "notes.txt"), "mine");
    const dead = `.step-000004.safetensors.${hostname()}.999999999.0123abcd.partial`;
    const alive = `.step-000004.safetensors.${hostname()}.${process.pid}.0123abcd.partial`;
    const elsewhere = ".step-000004.safetensors.another-machine.999999999.0123abcd.partial";
    for (const name of [dead, alive, elsewhere]) writeFileSync(join(folder, name), "");
    mkdirSync(join(folder, "step-000000"));
    expect(pruneCheckpoints(folder, 2)).toEqual([join(folder, dead), checkpointPath(folder, 1)]);
    expect(existsSync(join(folder, "notes.txt"))).toBe(true);
    expect(existsSync(join(folder, alive))).toBe(true);
    expect(existsSync(join(folder, elsewhere))).toBe(true);
    expect(listCheckpoints(folder).map(({ step }) => step)).toEqual([2, 3]);
    expect(() => pruneCheckpoints(folder, 0)).toThrow(Diagnostic);
  });
});
