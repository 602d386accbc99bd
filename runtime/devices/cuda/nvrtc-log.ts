/** What NVRTC's log says of a source that it compiled with `--ptxas-options=-v`. */

/** What ptxas reports of one __global__ function. */
export interface EntryReport {
  readonly symbol: string;
  /** Registers of a thread. */
  readonly registers: number;
  /** Bytes of shared memory of a block, without those that a launch asks for. */
  readonly sharedBytes: number;
  /** Bytes of local memory of a thread; below, those of all its stores and loads of spilled registers. */
  readonly stackBytes: number;
  readonly spillStoreBytes: number;
  readonly spillLoadBytes: number;
}

export interface Warning {
  readonly about: WarningKind;
  /** The compiler's words. */
  readonly text: string;
}

/** Complaints that cost speed have names of their own; ptxas numbers them by their cause, so the words decide. */
export type WarningKind = "wgmma serialised" | "setmaxnreg ignored" | "other";

const KINDS: readonly (readonly [RegExp, WarningKind])[] = [
  [/wgmma\.mma_async instructions are serialized/, "wgmma serialised"],
  [/'setmaxnreg' ignored/, "setmaxnreg ignored"],
  [/\bwarning\b|\(C75\d\d\)/, "other"],
];

export interface LogReport {
  readonly entries: readonly EntryReport[];
  /** Complaints that did not stop the compiler. */
  readonly warnings: readonly Warning[];
}

type LocalMemory = Pick<EntryReport, "stackBytes" | "spillStoreBytes" | "spillLoadBytes">;

/**
 * Functions that were not inlined are reported by themselves, behind all entries, and nothing says who calls them: each
 * entry of the source is charged with the most that one of them needs.
 */
export function readLog(log: string): LogReport {
  const entries: EntryReport[] = [];
  const warnings: Warning[] = [];
  let local: LocalMemory = NOTHING;
  let called: LocalMemory = NOTHING;
  let entry: string | undefined;
  let described: string | undefined;
  for (const line of log.split("\n")) {
    entry = /Compiling entry function '([^']+)'/.exec(line)?.[1] ?? entry;
    described = /Function properties for (\S+)/.exec(line)?.[1] ?? described;
    const frame = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    if (frame !== null) {
      const [, stackBytes = 0, spillStoreBytes = 0, spillLoadBytes = 0] = frame.map(Number);
      const found = { stackBytes, spillStoreBytes, spillLoadBytes };
      if (described === entry) local = found;
      else called = most(called, found);
    }
    const used = /Used (\d+) registers/.exec(line);
    if (used !== null && entry !== undefined) {
      const sharedBytes = Number(/(\d+) bytes smem/.exec(line)?.[1] ?? 0);
      entries.push({ symbol: entry, registers: Number(used[1]), sharedBytes, ...local });
      [entry, local] = [undefined, NOTHING];
    }
    const kind = KINDS.find(([words]) => words.test(line));
    if (kind !== undefined) warnings.push({ about: kind[1], text: line.trim() });
  }
  return { entries: entries.map((each) => ({ ...each, ...most(each, called) })), warnings };
}

const NOTHING: LocalMemory = { stackBytes: 0, spillStoreBytes: 0, spillLoadBytes: 0 };

const most = (a: LocalMemory, b: LocalMemory): LocalMemory => ({
  stackBytes: Math.max(a.stackBytes, b.stackBytes),
  spillStoreBytes: Math.max(a.spillStoreBytes, b.spillStoreBytes),
  spillLoadBytes: Math.max(a.spillLoadBytes, b.spillLoadBytes),
});
