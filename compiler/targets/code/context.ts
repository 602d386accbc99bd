/**
 * What every generated kernel has in common: names for its operands, sizes and scalars, the head that describes them,
 * and the C++ text of dims and offsets.
 */
import { CompilerBug } from "../../../contract/diagnostic.ts";
import type { Dim } from "../../graph/dim.ts";
import { printDim, staticValue } from "../../graph/dim.ts";
import type { Access, Kernel } from "../../kernels/kernel.ts";

/** A kernel with the C++ names of everything it is launched with. All names are distinct identifiers. */
export interface Frame {
  readonly kernel: Kernel;
  /** The kernel as it was before its axes were collapsed: what the head of the source describes. */
  readonly shown: Kernel;
  /** The pointer of each operand, in order. */
  readonly operands: readonly string[];
  /** The C++ variable of each symbol. */
  readonly sizes: ReadonlyMap<string, string>;
  /** The loop variable of each axis: `i_tokens`. */
  readonly indices: readonly string[];
  /** Gives an identifier that nothing else in this kernel has: `stem`, or `stem` and a number. */
  readonly fresh: (stem: string) => string;
}

/**
 * @param shown the kernel as it was before its axes were collapsed
 * @param words names that the target's prelude and templates use, beside those that every target keeps free
 */
export function openFrame(kernel: Kernel, shown: Kernel = kernel, words: ReadonlySet<string> = NO_WORDS): Frame {
  const taken = new Set<string>();
  const fresh = (stem: string): string => {
    const start = identifier(stem);
    let name = start;
    for (let n = 2; taken.has(name) || RESERVED.has(name) || words.has(name); n++)
      name = `${start}${/\d$/.test(start) ? "_" : ""}${n}`;
    taken.add(name);
    return name;
  };
  return Object.freeze({
    kernel,
    shown,
    operands: kernel.operands.map((operand) => fresh(operand.name)),
    sizes: new Map(kernel.symbols.map((symbol) => [symbol, fresh(symbol)])),
    indices: kernel.axes.map((axis) => fresh(`i_${axis.name}`)),
    fresh,
  });
}

/** What the partial `head` of every target needs. */
export interface Head {
  readonly name: string;
  readonly formula: string;
  /** One line per operand: name, axes, type, role. */
  readonly shapes: readonly string[];
}

export const headOf = (frame: Frame): Head => ({
  name: frame.kernel.name,
  formula: frame.kernel.formula,
  shapes: shapeLines(frame),
});

function shapeLines(frame: Frame): string[] {
  const kernel = frame.shown;
  const names = frame.operands.map((name) => name.length);
  const width = Math.max(0, ...names);
  return kernel.operands.map((operand, position) => {
    const access = kernel.accesses.find((candidate) => candidate.operand === position);
    const axes = kernel.axes.flatMap((axis, i) => {
      const stride = access?.strides[i];
      return stride === undefined || staticValue(stride) === 0 ? [] : [axisText(axis.name, axis.size)];
    });
    const name = (frame.operands[position] ?? "").padEnd(width);
    return `${name}  [${axes.join(", ")}] ${operand.dtype}${operand.role === "write" ? ", written" : ""}`;
  });
}

function axisText(name: string, size: Dim): string {
  const printed = printDim(size);
  return printed === name ? name : `${name} = ${printed}`;
}

/** A dim as a 64-bit C++ expression; in parentheses when it is a sum. */
export function dimText(frame: Frame, dim: Dim): string {
  const terms = dim.terms.map((term) => {
    const factors = term.factors.map((factor) => {
      if (factor.kind === "symbol") {
        const name = frame.sizes.get(factor.name);
        if (name === undefined) {
          throw new CompilerBug("targets", `kernel ${frame.kernel.name} does not list the size ${factor.name}`);
        }
        return name;
      }
      return `${DIM_FUNCTIONS[factor.operation]}(${factor.args.map((arg) => dimText(frame, arg)).join(", ")})`;
    });
    const leading = term.coefficient === 1 && factors.length > 0 ? [] : [String(term.coefficient)];
    return [...leading, ...factors].join(" * ");
  });
  if (terms.length === 0) return "0";
  return terms.length === 1 ? (terms[0] ?? "0") : `(${terms.join(" + ")})`;
}

const DIM_FUNCTIONS = {
  floorDiv: "floor_div",
  mod: "floor_mod",
  min: "smaller",
  max: "larger",
  ceilSqrt: "ceil_sqrt",
} as const;

/** `index * dim`, without the multiplication by one. */
export function scaledText(frame: Frame, index: string, stride: Dim): string {
  const value = staticValue(stride);
  if (value === 1) return index;
  return `${/^[\w()>.-]+$/.test(index) ? index : `(${index})`} * ${dimText(frame, stride)}`;
}

/**
 * The part of an access's offset that depends on the given axes, in elements: `i_batch * 1152 + i_tokens`. `indices`
 * gives the C++ text of the index along an axis; axes it has no text for contribute nothing. Empty when nothing does.
 */
export function offsetTerms(frame: Frame, access: Access, indices: ReadonlyMap<number, string>): string[] {
  return access.strides.flatMap((stride, axis) => {
    const index = indices.get(axis);
    return index === undefined || staticValue(stride) === 0 ? [] : [scaledText(frame, index, stride)];
  });
}

/** Letters, digits and underscores, starting with a letter. */
function identifier(stem: string): string {
  const plain = stem.replace(/[^A-Za-z0-9]+/g, "_").replace(/^_+|_+$/g, "");
  return /^[A-Za-z]/.test(plain) ? plain : `n${plain}`;
}

const NO_WORDS: ReadonlySet<string> = new Set();

/** Words of C++ and names of the prelude and of the templates that an operand or a symbol could collide with. */
const RESERVED: ReadonlySet<string> = new Set(
  [
    "alignas alignof and asm auto bool break case catch char class const constexpr continue default delete do double",
    "else enum explicit export extern false float for friend goto if inline int long mutable namespace new noexcept not",
    "nullptr operator or private protected public register return short signed sizeof static struct switch template",
    "this throw true try typedef typeid typename union unsigned using virtual void volatile while xor",
    "bf16 f16 boolean int8_t uint8_t int32_t uint32_t int64_t uint64_t Launch launch task tasks",
    "min max clamp abs sign floor ceil round sqrt rsqrt pow floordiv mod exp exp2 log log1p sin cos tanh sigmoid erf",
    "softplus uniform normal select is_finite smaller larger floor_div floor_mod ceil_sqrt acc linear unix linux",
    "first last begin end row column chunk position count partial partials scratch total start stop at rest block outer",
    "depth sample to sums tile panel panels packed aside rows columns step steps chunks cut query key",
    "online range ranges share shares product load store",
  ]
    .join(" ")
    .split(" "),
);
