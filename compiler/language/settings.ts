/**
 * Settings: the keys a user can choose, each with its default, what it accepts and how it is read from a command line.
 * Model configurations, training recipes and sampling defaults are records of settings.
 */
import { Diagnostic, didYouMean, type Location } from "../../contract/diagnostic.ts";

export interface Setting<T> {
  readonly default: T;
  /** What is accepted, to finish the sentence "expected …". */
  readonly expected: string;
  readonly accepts: (value: unknown) => boolean;
  /** The value a text on the command line stands for; undefined when it stands for none. */
  readonly read: (text: string) => unknown;
}

export type Settings = Readonly<Record<string, Setting<unknown>>>;
export type ValuesOf<S extends Settings> = { readonly [Key in keyof S]: S[Key] extends Setting<infer T> ? T : never };

const isNumber = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);
const readNumber = (text: string): number | undefined => {
  const value = text.trim() === "" ? NaN : Number(text);
  return Number.isFinite(value) ? value : undefined;
};

/** A whole number, 1 or more unless `least` says otherwise. */
export const count = (byDefault: number, least = 1): Setting<number> => ({
  default: byDefault,
  expected: `a whole number of at least ${least}`,
  accepts: (value) => isNumber(value) && Number.isInteger(value) && value >= least,
  read: readNumber,
});

/** A number from `least` to `most`. */
export const number = (byDefault: number, least = 0, most = Infinity): Setting<number> => ({
  default: byDefault,
  expected: most === Infinity ? `a number of at least ${least}` : `a number from ${least} to ${most}`,
  accepts: (value) => isNumber(value) && value >= least && value <= most,
  read: readNumber,
});

export const flag = (byDefault: boolean): Setting<boolean> => ({
  default: byDefault,
  expected: "true or false",
  accepts: (value) => typeof value === "boolean",
  read: (text) => (text === "true" ? true : text === "false" ? false : undefined),
});

/** One of a few words; the first is the default. */
export const choice = <const Words extends readonly [string, ...string[]]>(
  ...words: Words
): Setting<Words[number]> => ({
  default: words[0],
  expected: `one of ${words.join(", ")}`,
  accepts: (value) => typeof value === "string" && words.includes(value),
  read: (text) => text,
});

/** Two numbers from 0 up to, not including, 1: the decay rates of Adam's averages. */
export const decayPair = (first: number, second: number): Setting<readonly [number, number]> => ({
  default: [first, second],
  expected: "two numbers from 0 to below 1, as in 0.9,0.999",
  accepts: (value) =>
    Array.isArray(value) && value.length === 2 && value.every((each) => isNumber(each) && each >= 0 && each < 1),
  read: (text) => text.split(",").map(readNumber),
});

export const defaultsOf = <S extends Settings>(settings: S): ValuesOf<S> =>
  Object.fromEntries(Object.entries(settings).map(([key, setting]) => [key, setting.default])) as ValuesOf<S>;

/** Where a value comes from, for messages: `--set`, `preset demo`, the name of a file. */
export interface Source {
  readonly name: string;
  readonly where?: Location | undefined;
}

/** The values after one more layer of choices. Errors: an unknown key, a value of the wrong type. */
export function override<S extends Settings>(
  settings: S,
  values: ValuesOf<S>,
  changes: Readonly<Record<string, unknown>>,
  source: Source,
  prefix = "",
): ValuesOf<S> {
  const result: Record<string, unknown> = { ...values };
  for (const [key, value] of Object.entries(changes)) {
    const setting = settingNamed(settings, key, source, prefix);
    if (!setting.accepts(value)) throw wrongValue(prefix + key, setting, value, source);
    result[key] = value;
  }
  return result as ValuesOf<S>;
}

/** One choice of the command line, as text. */
export function overrideText<S extends Settings>(
  settings: S,
  values: ValuesOf<S>,
  key: string,
  text: string,
  source: Source,
  prefix = "",
): ValuesOf<S> {
  const setting = settingNamed(settings, key, source, prefix);
  const value = setting.read(text);
  if (!setting.accepts(value)) throw wrongValue(prefix + key, setting, text, source);
  return { ...values, [key]: value };
}

export function settingNamed(settings: Settings, key: string, source: Source, prefix = ""): Setting<unknown> {
  const setting = Object.hasOwn(settings, key) ? settings[key] : undefined;
  if (setting !== undefined) return setting;
  throw unknownKey(
    prefix + key,
    Object.keys(settings).map((known) => prefix + known),
    source,
  );
}

export function unknownKey(key: string, known: readonly string[], { name, where }: Source): Diagnostic {
  const near = didYouMean(key, known);
  return new Diagnostic({
    kind: "config",
    message: `there is no key "${key}"`,
    where,
    details: [`from  ${name}`, `keys  ${known.join(", ")}`],
    fix: near === undefined ? "choose one of these keys" : `did you mean "${near}"?`,
  });
}

function wrongValue(key: string, setting: Setting<unknown>, value: unknown, { name, where }: Source): Diagnostic {
  const byDefault = Array.isArray(setting.default) ? setting.default.join(",") : String(setting.default);
  return new Diagnostic({
    kind: "config",
    message: `${key} wants ${setting.expected}, and got ${show(value)}`,
    where,
    details: [`from  ${name}`],
    fix: `write a value such as ${key}=${byDefault}`,
  });
}

function show(value: unknown): string {
  if (typeof value === "number") return String(value);
  return JSON.stringify(value ?? null);
}
