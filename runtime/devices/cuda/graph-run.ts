/**
 * Steps on a GPU. They are recorded once as a graph, and a run launches it; a run that is measured, and steps that run a
 * single time, are launched one by one. Nothing here waits in the driver: the event loop goes on while the GPU works.
 */
import { Diagnostic } from "../../../contract/diagnostic.ts";
import type { Plan, PlanStep } from "../../../contract/plan.ts";
import type { Runnable, StepListRequest } from "../bound/engine.ts";
import { launchesOf } from "../bound/launches.ts";
import type { Driver } from "./driver.ts";

export interface GpuWork {
  readonly driver: Driver;
  readonly stream: number;
  readonly plan: Plan;
  /** Handles of the phases of each kernel of the plan. */
  readonly functions: readonly (readonly number[])[];
  /** Waits after every step, so that a step that fails can be named. */
  readonly stepwise: boolean;
}

export function gpuRun(work: GpuWork, request: StepListRequest, arena: number): Runnable {
  const { driver, stream, functions, plan, stepwise } = work;
  const { steps, buffers, evaluate, poison, once } = request;
  const settled = { plan, buffers, evaluate, encodeTensorMap: driver.encodeTensorMap, arena };
  const launches = steps.map((step) => launchesOf(step, settled));
  const nanoseconds = new Float64Array(steps.length);
  let graph: number | undefined;
  let done: readonly [number, number] | undefined; // events after the last two launches of the graph
  let marks: readonly number[] | undefined; // timed events before the first step and after each
  let stopped = false;
  const isStopped = (): boolean => stopped;

  const overwrite = (): void => {
    for (const { address, bytes, inArena } of poison) {
      driver.fill(address + (inArena ? arena : 0), 0xff, bytes, stream);
    }
  };
  /** What goes wrong with a step is told with its kernel and its place in the model. */
  const explain = (error: unknown, step: PlanStep): unknown => {
    if (!(error instanceof Diagnostic)) return error;
    const kernel = plan.kernels[step.kernel]!;
    const facts = [`kernel  ${kernel.symbol}`, `it computes: ${kernel.formula}`, `it comes from: ${step.origin}`];
    return new Diagnostic({ ...error.parts, details: [...(error.parts.details ?? []), ...facts] });
  };
  const launch = (index: number): void => {
    try {
      for (const grid of launches[index]!) driver.launch(functions[grid.kernel]![grid.phase]!, grid, stream);
    } catch (error) {
      throw explain(error, steps[index]!);
    }
  };

  /** Launched one by one, with the time of each step where `measured`. */
  async function runSteps(measured: boolean): Promise<void> {
    overwrite();
    if (measured) marks ??= Array.from({ length: steps.length + 1 }, () => driver.createEvent(true));
    const mark = (index: number): void => {
      if (measured) driver.record(marks![index]!, stream);
    };
    mark(0);
    for (const [index, step] of steps.entries()) {
      launch(index);
      mark(index + 1);
      if (!stepwise) continue;
      try {
        await until(() => driver.isIdle(stream));
      } catch (error) {
        throw explain(error, step);
      }
    }
    await until(() => driver.isIdle(stream));
    if (!measured) return;
    nanoseconds.forEach((time, index) => {
      nanoseconds[index] = time + 1e6 * driver.milliseconds(marks![index]!, marks![index + 1]!);
    });
  }

  /** One launch waits in line while another runs. */
  async function runGraph(repetition: number): Promise<void> {
    graph ??= driver.capture(stream, () => {
      overwrite();
      steps.forEach((_, index) => launch(index));
    });
    done ??= [driver.createEvent(false), driver.createEvent(false)];
    driver.launchGraph(graph, stream);
    driver.record(done[repetition % 2]!, stream);
    const before = done[(repetition + 1) % 2]!;
    if (repetition > 0) await until(() => driver.hasHappened(before));
  }

  return {
    async run(times, measured) {
      stopped = false;
      const byStep = measured || stepwise || once;
      let repetition = 0;
      for (; repetition < times && !isStopped(); repetition++) {
        if (byStep) await runSteps(measured);
        else await runGraph(repetition);
      }
      await until(() => driver.isIdle(stream));
      return repetition < times ? "cancelled" : "done";
    },
    // What was launched runs to its end, whichever way it is asked for.
    cancel() {
      stopped = true;
    },
    profile: () => nanoseconds.slice(),
    free() {
      if (graph !== undefined) driver.destroyGraph(graph);
      for (const event of [...(done ?? []), ...(marks ?? [])]) driver.destroyEvent(event);
      graph = done = marks = undefined;
    },
  };
}

/** Milliseconds in which a wait asks at every turn of the event loop; after them, once in a millisecond. */
const EAGER = 5;

async function until(isOver: () => boolean): Promise<void> {
  const started = performance.now();
  while (!isOver()) {
    const eager = performance.now() - started < EAGER;
    await (eager ? new Promise((resolve) => setImmediate(resolve)) : new Promise((resolve) => setTimeout(resolve, 1)));
  }
}
