/** Where can a recorded program run? One table; a device prepares a program once and runs it on tensors. */
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
  readonly words: string;
  readonly precisions: readonly Precision[];
  readonly open: (precision: Precision) => Promise<OpenDevice>;
}

const reference: VerifyDevice = {
  words: "the float64 interpreter",
  precisions: ["f32"],
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
  words: "generated C++, compiled here",
  precisions: PRECISIONS,
  open: async (precision) => (await import("./cpu.ts")).openCpu(precision),
};

export const DEVICES = { cpu, reference } as const satisfies Readonly<Record<string, VerifyDevice>>;

export type DeviceName = keyof typeof DEVICES;
export const DEFAULT_DEVICE: DeviceName = "cpu";
