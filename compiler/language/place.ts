/**
 * Which line of the user's file is running? Every function of the language asks when it is entered from a model, and
 * the answer becomes the origin of the nodes it makes and the place of the mistakes it finds.
 *
 * A stack is captured cheaply (some microseconds) and read only when somebody wants the place. Model files run as
 * scripts of their own (`load-model.ts`), and the script that made a frame knows how to find the line in the source.
 */
import { Diagnostic, type Location } from "../../contract/diagnostic.ts";
import { currentOrigin, withOrigin, type Origin } from "../graph/origin.ts";

/** The place in a user's source behind a line and a column (from 1) of a script. */
export type FindSource = (line: number, column: number) => Location | undefined;

const scripts = new Map<string, FindSource>();

/** Makes the frames of a script readable. The name must look like `soracc-model-7.cjs`. */
export function registerScript(name: string, find: FindSource): void {
  scripts.set(name, find);
}

/** Frames between a model's line and the language function that it calls are few. */
const FRAMES = 8;
const FRAME = /(soracc-model-\d+\.cjs):(\d+):(\d+)/g;

interface Captured {
  readonly stack?: unknown;
}

/** The user's line that is running now, found when asked for. */
function capturePlace(): () => Location | undefined {
  if (scripts.size === 0) return nowhere;
  const captured: Captured = {};
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = FRAMES;
  Error.captureStackTrace(captured, capturePlace);
  Error.stackTraceLimit = limit;
  let found: Location | undefined | null = null;
  return () => (found === null ? (found = placeOf(captured)) : found);
}

const nowhere = (): undefined => undefined;

/** The innermost place of a model file on the stack of an error, or of what was captured like one. */
export function placeOf(error: Captured): Location | undefined {
  for (const [, script = "", line, column] of String(error.stack).matchAll(FRAME)) {
    const place = scripts.get(script)?.(Number(line), Number(column));
    if (place !== undefined) return place;
  }
  return undefined;
}

/**
 * Runs a function of the language. What it makes comes from the user's line that called it, and so do its mistakes.
 * Within another function of the language that line is known already.
 */
export function entered<T>(what: string, body: () => T, path?: string): T {
  const outer = currentOrigin();
  if (outer.what !== undefined) return path === undefined ? body() : withOrigin({ ...outer, path }, body);
  const origin: Origin = { path: path ?? outer.path, member: outer.member, what, locate: capturePlace() };
  try {
    return withOrigin(origin, body);
  } catch (error) {
    throw located(error, origin.locate);
  }
}

/** A function whose calls are `entered` under its name, with `path` as the part of the model they belong to. */
export function composite<Inputs extends readonly unknown[], Output>(
  what: string,
  body: (...inputs: Inputs) => Output,
  path?: string,
): (...inputs: Inputs) => Output {
  return (...inputs) => entered(what, () => checkingArguments(what, inputs, body), path);
}

/** What fails on an argument that is not there is the caller's mistake. */
function checkingArguments<Inputs extends readonly unknown[], Output>(
  what: string,
  inputs: Inputs,
  body: (...inputs: Inputs) => Output,
): Output {
  try {
    return body(...inputs);
  } catch (error) {
    const wrong = inputs.findIndex((each) => typeof each !== "object" && typeof each !== "number");
    if (error instanceof Diagnostic || wrong < 0) throw error;
    throw new Diagnostic({
      kind: "type",
      message: `argument ${wrong + 1} of ${what} is ${typeof inputs[wrong]}`,
      fix: "check what this line hands over",
    });
  }
}

/** The name of a part inside the component that is being set up or run. */
export const within = (name: string): string => [currentOrigin().path, name].filter((part) => part !== "").join(".");

/** Runs the user's code from within the language: below it, lines are the user's again. */
export function asUser<T>(body: () => T, path: string = currentOrigin().path): T {
  const { locate, member } = currentOrigin();
  return withOrigin({ path, member, locate }, body);
}

/** Runs a member of a stack; what it makes can be told from what other members make. */
export function asMember<T>(path: string, body: () => T): T {
  const outer = currentOrigin();
  return withOrigin({ ...outer, member: outer.member ?? path }, body);
}

/** A mistake without a place gets one. */
export function located(error: unknown, locate: () => Location | undefined): unknown {
  if (!(error instanceof Diagnostic) || error.parts.where !== undefined) return error;
  const where = locate();
  return where === undefined ? error : new Diagnostic({ ...error.parts, where });
}

/** Names come first and are texts: `linear("attn.to_q", 64, 64)`. */
export function checkName(kind: string, name: unknown): void {
  if (typeof name === "string" && /^$|^\w+(\.\w+)*$/.test(name)) return;
  const found =
    typeof name === "string" || typeof name === "number" ? JSON.stringify(name) : `a value of type ${typeof name}`;
  throw new Diagnostic({
    kind: "parameter",
    message: `${found} cannot name a ${kind}`,
    fix: `give a name first, as in ${kind}("encoder.0", …); it becomes part of the names of its parameters`,
  });
}
