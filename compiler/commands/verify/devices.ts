/** Where can a recorded program run? One table; a device prepares a program once and runs it on tensors. */
import type { Arch } from "../../../contract/plan.ts";
import { PRECISIONS, type Precision } from "../../../contract/precision.ts";
import type { Program } from "../../graph/node.ts";
import { interpret } from "../../reference/interpret.ts";

/** Values of inputs and outputs by name, row-major; `next.NAME` holds the new value of a state. */
export type Values = ReadonlyMap<string, ArrayLike<number>>;

export interface PreparedProgram {
  readonly run: (inputs: Values, symbols: ReadonlyMap<string, number>) => Promise<Values>;
}

export interface OpenDevice {
  readonly prepare: (program: Program) => Promise<PreparedProgram>;
  /** How many kernels ran so far. */
  readonly launched: () => number;
  readonly close: () => Promise<void>;
}

export interface VerifyDevice {
  /** For people: what it is. */
  readonly words: (choice: Choice) => string;
  readonly precisions: readonly Precision[];
  /** Which of the options that choose more than a device mean something here. */
  readonly takes: readonly (keyof Choice)[];
  readonly open: (precision: Precision, choice: Choice) => Promise<OpenDevice>;
}

export interface Choice {
  /** The GPU that kernels are written for. */
  readonly arch?: Arch | undefined;
  /** The order in which simulated warps run. */
  readonly scheduleSeed?: number | undefined;
}

/** What is simulated when nothing else is asked for. */
export const SIMULATED_ARCH: Arch = "sm_90a";

const reference: VerifyDevice = {
  words: () => "the float64 interpreter",
  precisions: ["f32"],
  takes: [],
  open: async () => ({
    prepare: async (program) => ({
      run: async (inputs, symbols) =>
        new Map([...interpret(program, inputs, symbols)].map(([name, tensor]) => [name, tensor.data])),
    }),
    launched: () => 0,
    close: async () => undefined,
  }),
};

const cpu: VerifyDevice = {
  words: () => "generated C++, compiled here",
  precisions: PRECISIONS,
  takes: [],
  open: async (precision) => (await import("./compiled.ts")).openCpu(precision),
};

const sim: VerifyDevice = {
  words: ({ arch = SIMULATED_ARCH, scheduleSeed = 0 }) =>
    `generated CUDA for ${arch}, simulated, schedule ${scheduleSeed}`,
  precisions: PRECISIONS,
  takes: ["arch", "scheduleSeed"],
  open: async (precision, { arch = SIMULATED_ARCH, scheduleSeed = 0 }) =>
    (await import("./compiled.ts")).openSim(precision, arch, scheduleSeed),
};

const cuda: VerifyDevice = {
  words: ({ arch }) => `generated CUDA${arch === undefined ? "" : ` for ${arch}`}, on a GPU`,
  precisions: PRECISIONS,
  takes: ["arch"],
  open: async (precision, { arch }) => (await import("./compiled.ts")).openCuda(precision, arch),
};

export const DEVICES = { cpu, cuda, sim, reference } as const satisfies Readonly<Record<string, VerifyDevice>>;

export type DeviceName = keyof typeof DEVICES;
export const DEFAULT_DEVICE: DeviceName = "cpu";
