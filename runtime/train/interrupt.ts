/** What Ctrl-C means while training: once, finish the step and save; twice, stop at once. */

/** What a shell reports for a program that Ctrl-C ended. */
export const INTERRUPTED = 130;

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export interface Interrupt {
  readonly requested: () => boolean;
  readonly stopListening: () => void;
}

/** @param told once, with the first signal */
export function listenForInterrupt(told: () => void): Interrupt {
  let requested = false;
  const hear = (): void => {
    if (requested) process.exit(INTERRUPTED);
    requested = true;
    told();
  };
  for (const signal of SIGNALS) process.on(signal, hear);
  return {
    requested: () => requested,
    stopListening: () => {
      for (const signal of SIGNALS) process.off(signal, hear);
    },
  };
}
