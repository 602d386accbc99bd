/** What a user sees and keeps of a run: progress, its folder, its log. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Diagnostic } from "../../contract/diagnostic.ts";
import { openLog } from "../../runtime/observe/log.ts";
import { formatDuration, startProgress } from "../../runtime/observe/progress.ts";
import { freeRunName, openRun } from "../../runtime/observe/run-folder.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "soracc-runs-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function capture(isTTY: boolean) {
  const written: string[] = [];
  const write = (text: string): boolean => written.push(text) > 0;
  // What cli-progress calls on a terminal besides `write`.
  const stream = { isTTY, write, columns: 100, cursorTo: () => true, clearLine: () => true, on: () => undefined };
  return { stream, text: () => written.join(""), lines: () => written.join("").split("\n").filter(Boolean) };
}

describe("progress", () => {
  test("without a terminal: plain lines now and then, the last state always", async () => {
    const out = capture(false);
    let time = 0;
    const progress = await startProgress({ label: "train", total: 100, stream: out.stream, now: () => time });
    for (let step = 1; step <= 55; step++) {
      time += 1000;
      progress.update(step, { loss: 1 / 3, rate: "12 clips/s" });
      if (step === 30) progress.note("saved step 30");
    }
    progress.stop();
    expect(out.lines()).toEqual([
      "train: step 10/100  about 1 min 30 s left  loss 0.3333  rate 12 clips/s",
      "train: step 20/100  about 1 min 20 s left  loss 0.3333  rate 12 clips/s",
      "train: step 30/100  about 1 min 10 s left  loss 0.3333  rate 12 clips/s",
      "saved step 30",
      "train: step 40/100  about 1 min 00 s left  loss 0.3333  rate 12 clips/s",
      "train: step 50/100  about 50 s left  loss 0.3333  rate 12 clips/s",
      "train: step 55/100  about 45 s left  loss 0.3333  rate 12 clips/s",
    ]);
    expect(out.text()).not.toContain("\u001B");
  });

  test("the end says how long it took, and is written once", async () => {
    const out = capture(false);
    let time = 0;
    const progress = await startProgress({
      label: "decode",
      total: 2,
      unit: "clip",
      stream: out.stream,
      now: () => time,
    });
    time = 4000;
    progress.update(2);
    progress.stop();
    expect(out.lines()).toEqual(["decode: clip 2/2  4 s in all"]);
  });

  test("a resumed run is judged by its own speed", async () => {
    const out = capture(false);
    let time = 0;
    const progress = await startProgress({
      label: "train",
      total: 1000,
      initial: 900,
      stream: out.stream,
      now: () => time,
    });
    time = 10_000;
    progress.update(910);
    expect(out.lines()).toEqual(["train: step 910/1000  about 1 min 30 s left"]);
  });

  test.each([
    ["a bar in colour", {}, true, true],
    ["a bar without colour", { NO_COLOR: "1" }, true, false],
    ["lines on a dumb terminal", { TERM: "dumb" }, false, false],
  ])("on a terminal: %s", async (_case, environment, bar, colour) => {
    const out = capture(true);
    const progress = await startProgress({ label: "train", total: 10, stream: out.stream, environment });
    progress.update(5, { loss: 0.5 });
    progress.stop();
    expect(out.text().includes("\u2591")).toBe(bar);
    expect(out.text().includes("\u001B[36m")).toBe(colour);
    expect(out.text()).toContain("5/10");
    expect(out.text()).toContain("loss 0.5");
  });

  test("durations", () => {
    expect([0, 59.6, 61, 3599, 3600, 3661, 90000].map(formatDuration)).toEqual([
      "0 s",
      "1 min 00 s",
      "1 min 01 s",
      "59 min 59 s",
      "1 h 00 min",
      "1 h 01 min",
      "25 h 00 min",
    ]);
  });
});

describe("the run folder", () => {
  test("is made, is not taken twice, and can be resumed", () => {
    const run = openRun("first", { root });
    expect(existsSync(run.checkpoints) && existsSync(run.samples)).toBe(true);
    // Nothing was written: a run that failed at once does not take the name.
    openRun("first", { root });
    writeFileSync(run.log, "{}\n");
    expect(() => openRun("first", { root })).toThrow(/already a run in .*first[^]*--resume, or choose .* first-2/);
    expect(openRun("first", { root, resume: true })).toEqual(run);
    expect(freeRunName("first", root)).toBe("first-2");
    expect(freeRunName("other", root)).toBe("other");
  });

  test("resuming what is not there names what is", () => {
    mkdirSync(join(root, "baseline"));
    expect(() => openRun("basline", { root, resume: true })).toThrow(/no run in[^]*did you mean baseline\?/);
  });

  test.each(["", "..", "../up", "a/b", ".hidden", "a\0b", "-x", "a b"])("%j is no name for a run", (name) => {
    expect(() => openRun(name, { root })).toThrow(Diagnostic);
  });
});

test("the log is one JSON object per line, there at once, and goes on where it was", async () => {
  const run = openRun("logged", { root });
  const first = await openLog(run);
  first.write("step", { step: 1, loss: NaN, where: "clip \n 3" });
  const early = readFileSync(run.log, "utf8").trim().split("\n");
  first.close();
  const second = await openLog(run);
  second.write("done");
  second.close();
  const lines = readFileSync(run.log, "utf8").trim().split("\n");
  expect(early).toEqual(lines.slice(0, 1));
  const [step, done] = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(step).toMatchObject({ event: "step", step: 1, loss: "NaN", where: "clip \n 3" });
  expect(done).toMatchObject({ event: "done" });
  expect(Number.isNaN(Date.parse(String(step?.["time"])))).toBe(false);
});
