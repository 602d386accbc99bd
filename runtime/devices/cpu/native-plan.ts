/** A list of plan words in the hands of the host library: made when it first runs, made anew when the arena has moved. */
import type { Host, RunStatus } from "./host.ts";
import type { PlanWords } from "./plan-words.ts";

export interface NativePlan {
  readonly scratch: number;
  run(arena: number, times: number): Promise<RunStatus>;
  cancel(how: "now" | "between repetitions"): void;
  /** Nanoseconds per step since the plan was made. */
  profile(): Float64Array;
  drop(): void;
}

export function nativePlan(host: Host, pool: number, description: PlanWords): NativePlan {
  let handle: number | undefined;
  let madeFor = -1;
  const earlier = new Float64Array(description.steps);
  const forget = (): void => {
    if (handle === undefined) return;
    host.profile(handle, description.steps).forEach((time, index) => (earlier[index]! += time));
    host.freePlan(handle);
    handle = undefined;
  };
  return {
    scratch: description.scratch,
    run(arena, times) {
      if (handle === undefined || madeFor !== arena) {
        forget();
        description.moveArena(arena);
        handle = host.createPlan(pool, description.words);
        madeFor = arena;
      }
      return host.run(handle, times);
    },
    cancel: (how) => {
      if (handle !== undefined) host.cancel(handle, how);
    },
    profile() {
      const now = handle === undefined ? undefined : host.profile(handle, description.steps);
      return earlier.map((time, index) => time + (now?.[index] ?? 0));
    },
    drop: forget,
  };
}
