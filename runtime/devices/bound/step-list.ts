/** A list of steps that follows the arena of temporaries: made ready when it first runs, and anew when the arena moved. */
import type { Runnable, StepList } from "./engine.ts";

export interface FollowingSteps extends Omit<Runnable, "run" | "free"> {
  readonly scratch: number;
  run(arena: number, times: number, measured: boolean): Promise<"done" | "cancelled">;
  drop(): void;
}

/** `count` is how many steps there are. */
export function followArena(list: StepList, count: number): FollowingSteps {
  let ready: Runnable | undefined;
  let readyFor = -1;
  const earlier = new Float64Array(count);
  const forget = (): void => {
    if (ready === undefined) return;
    ready.profile().forEach((time, index) => (earlier[index]! += time));
    ready.free();
    ready = undefined;
  };
  return {
    scratch: list.scratch,
    run(arena, times, measured) {
      if (ready === undefined || readyFor !== arena) {
        forget();
        ready = list.at(arena);
        readyFor = arena;
      }
      return ready.run(times, measured);
    },
    cancel: (how) => ready?.cancel(how),
    profile() {
      const now = ready?.profile();
      return earlier.map((time, index) => time + (now?.[index] ?? 0));
    },
    drop: forget,
  };
}
