/**
 * `--trace DIR`: a folder to read a compilation in.
 *
 *   train/00-traced.graph             the program as the model wrote it
 *   train/01-simplify.graph           after a pass; `01-simplify.unchanged` when it changed nothing
 *   train/09-steps.txt                what runs, in order, and on which memory
 *   sources/00-layer_norm_rows.cpp    every distinct kernel
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { Diagnostic } from "../../../contract/diagnostic.ts";
import type { Plan } from "../../../contract/plan.ts";
import type { Program } from "../../graph/node.ts";
import { printTrace } from "../../graph/print.ts";
import { describeSteps } from "./steps-text.ts";

export interface TraceFolder {
  readonly onPass: (pass: string, before: Program, after: Program) => void;
  /** Writes what comes after the passes. Returns how many files there are. */
  readonly finish: (plan: Plan) => number;
}

/** Names what a trace consists of, so that the next one replaces exactly that. */
const INDEX = "index.txt";

/** @throws Diagnostic when the folder holds something that is not a trace */
export function openTraceFolder(folder: string): TraceFolder {
  clear(folder);
  const written: string[] = [];
  const passes = new Map<string, number>();
  const write = (path: string, text: string): void => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
    written.push(path);
  };
  const number = (program: string): string => {
    const next = passes.get(program) ?? 0;
    passes.set(program, next + 1);
    return String(next).padStart(2, "0");
  };
  const start = (program: Program): void => {
    if (!passes.has(program.name)) write(`${program.name}/${number(program.name)}-traced.graph`, printTrace(program));
  };
  return {
    onPass: (pass, before, after) => {
      start(before);
      const name = `${after.name}/${number(after.name)}-${pass}`;
      const [earlier, later] = [printTrace(before), printTrace(after)];
      if (earlier === later) write(`${name}.unchanged`, "");
      else write(`${name}.graph`, later);
    },
    finish: (plan) => {
      for (const [name, program] of Object.entries(plan.programs)) {
        write(`${name}/${number(name)}-steps.txt`, `${describeSteps(plan, program).join("\n")}\n`);
      }
      plan.kernels.forEach(({ symbol, source }, index) =>
        write(`sources/${String(index).padStart(3, "0")}-${symbol}.cpp`, source),
      );
      writeFileSync(join(folder, INDEX), `${written.join("\n")}\n`);
      return written.length;
    },
  };
}

function clear(folder: string): void {
  if (!existsSync(folder) || readdirSync(folder).length === 0) return;
  const index = join(folder, INDEX);
  const old = existsSync(index) ? readFileSync(index, "utf8").split("\n").filter((line) => line !== "") : undefined; // prettier-ignore
  if (old?.every((path) => /^[\w.-]+\/[\w.-]+$/.test(path)) !== true) {
    throw new Diagnostic({
      kind: "output",
      message: `${folder} is not empty, and what is in it is not a trace`,
      fix: "name a new folder with --trace",
    });
  }
  for (const path of old) rmSync(join(folder, path), { force: true });
}
